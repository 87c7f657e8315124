"""int8 that keeps its AP: calibration images, the sensitivity map of a model, and layers put back to float."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from exporters.artifact import Artifact
from exporters.report import ParityError
from exporters.sensitivity import SensitivityMap, digest, measure_sensitivity, network_inputs
from runtimes.preprocess import Image
from runtimes.spec import ModelSpec

from .accuracy import AccuracyLost
from .data.image_source import find_image_source
from .data.shapes import shapes_images
from .files import read_text, write_text
from .progress import progress_bar
from .verification import evenly, some_of

CALIBRATION_IMAGES = 128
FEW_CALIBRATION_IMAGES = 48
GENERATED_IMAGES = 32
SENSITIVITY_IMAGES = 8

# The share of the work that stays in float at first, and the most: with less int8 than that it is none any more.
FLOAT_SHARE, MOST_FLOAT_SHARE = 0.02, 0.5


@dataclass(frozen=True)
class Calibration:
    """Images to calibrate int8 on, and where they are from. warning: what is to be said of them, if anything is."""

    images: Sequence[Image]
    source: str
    warning: str = ""

    def __len__(self) -> int:
        return len(self.images)


def calibration_images(path: Path | None) -> Calibration:
    """At most 128 of the images at a path, evenly chosen, of a data set those of its training split.

    Generated ones, with a warning, where there is no path.
    """
    if path is None:
        warning = (
            "WARNING: int8 is calibrated on generated images, which look like nothing that your model will see, and its"
            " accuracy will suffer: give --calibration DIR with some 100 images of your own."
        )
        return Calibration(shapes_images(GENERATED_IMAGES, seed=1), "shapes, generated with another seed", warning)
    found = find_image_source(path, "train")
    few = f"note: {found.name} holds {len(found)} images to calibrate int8 on; some 100 do better."
    chosen = some_of(found.read(), evenly(len(found), CALIBRATION_IMAGES))
    return Calibration(chosen, found.name, few if len(found) < FEW_CALIBRATION_IMAGES else "")


def sensitivity_map(model: nn.Module, spec: ModelSpec, images: Sequence[Image], file: Path) -> SensitivityMap:
    """The model's map: from `file` where that is of the same weights and inputs, else measured and kept there."""
    some = [images[index] for index in evenly(len(images), SENSITIVITY_IMAGES)]
    if file.exists() and spec.source_sha256:
        known = SensitivityMap.from_json(read_text(file), str(file))
        inputs = digest(network_inputs(some, spec))
        if (known.source_sha256, known.inputs_sha256) == (spec.source_sha256, inputs):
            return known
    found = measure_sensitivity(model, spec, some, _measuring)
    write_text(file, found.to_json())
    return found


def _measuring(layers: Sequence[str]) -> Iterable[str]:
    bar: Iterable[str] = progress_bar(layers, unit="layer", desc="sensitivity to int8")
    return bar


def write_int8(write: Callable[[frozenset[str]], Artifact], sensitivity: SensitivityMap) -> Artifact:
    """Call `write` with the layers that stay in float, with twice the work in float each time that too much is lost.

    Raises the last `AccuracyLost` or `ParityError` where even half of the work in float does not help.
    """
    share = FLOAT_SHARE
    floats = sensitivity.in_float(share)
    while True:
        print(f"{len(floats)} layers stay in float, {sensitivity.share(floats):.1%} of the work", flush=True)
        try:
            return write(floats)
        except (AccuracyLost, ParityError) as error:
            broken_before = isinstance(error, ParityError) and error.report.broken_stage() is not None
            tried = floats
            while floats == tried:  # a share can be too small for one layer more
                share *= 2
                if broken_before or share > MOST_FLOAT_SHARE:
                    raise
                floats = sensitivity.in_float(share)
            print(f"{error} Trying with more layers in float.", flush=True)

"""int8 that keeps its AP: calibration images, the sensitivity map of a model, and layers put back to float."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from torch import nn
from tqdm import tqdm

from exporters.artifact import Artifact
from exporters.report import ParityError
from exporters.sensitivity import SensitivityMap, digest, measure_sensitivity, network_inputs
from runtimes.preprocess import Image
from runtimes.spec import ModelSpec

from .accuracy import AccuracyLost
from .data.images import ImageFiles, find_images
from .data.shapes import shapes_images
from .files import read_text, write_text

CALIBRATION_IMAGES = 128
FEW_CALIBRATION_IMAGES = 48
SENSITIVITY_IMAGES = 8

# The share of the work that stays in float at first, and the most: with less int8 than that it is none any more.
FLOAT_SHARE, MOST_FLOAT_SHARE = 0.02, 0.5


def calibration_images(folder: Path | None) -> Sequence[Image]:
    """At most 128 images of the folder, evenly chosen; generated ones, with a warning, where there is no folder."""
    if folder is None:
        print(
            "WARNING: int8 is calibrated on generated images, which look like nothing that your model will see.\n"
            "         Its accuracy will suffer: give --calibration DIR with some 100 images of your own.",
            file=sys.stderr,
        )
        return shapes_images(32, seed=1)
    files = find_images(folder)
    if len(files) < FEW_CALIBRATION_IMAGES:
        print(f"note: {folder} holds {len(files)} images to calibrate int8 on; some 100 do better.", file=sys.stderr)
    return ImageFiles([files[index] for index in evenly(len(files), CALIBRATION_IMAGES)])


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


def evenly(count: int, wanted: int) -> list[int]:
    """At most `wanted` of the numbers 0 to count - 1, evenly spread."""
    return [index * count // wanted for index in range(wanted)] if count > wanted else [*range(count)]


def _measuring(layers: Sequence[str]) -> Iterable[str]:
    bar: Iterable[str] = tqdm(layers, unit="layer", desc="sensitivity to int8")
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

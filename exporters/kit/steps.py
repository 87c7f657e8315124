"""The steps from an image to detections, each a function of what the step before it left, and their files.

    image -> letterbox -> input -> (network) -> output -> decoded -> candidates -> nms -> detections -> clipped

letterbox (H, W, 3) uint8, BGR. input: what the network takes, without the batch: (3, H, W) float32, or (H, W, 3) uint8.
output (A, 5 + C) float32, boxes raw; left out where the graph decodes them. decoded (A, 5 + C) float32, boxes as cx,
cy, w, h in input pixels. candidates, nms, detections: rows (n, 6) float32, best first: left, top, right, bottom,
confidence, class index; in input pixels, the detections in pixels of the image. clipped: the same, within the image;
only of cases that have one. Files hold nothing but the numbers,
row-major and little-endian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtimes.detections import Detections
from runtimes.errors import InvalidInput
from runtimes.postprocess import Floats, best_rows, clip, decode_output, non_maximum_suppression
from runtimes.preprocess import network_input
from runtimes.spec import ModelSpec

Array = npt.NDArray[Any]

STEPS = ("letterbox", "input", "output", "decoded", "candidates", "nms", "detections", "clipped")
ROWS = ("candidates", "nms", "detections", "clipped")


@dataclass(frozen=True)
class Settings:
    """What the steps depend on, besides the image."""

    spec: ModelSpec
    score_threshold: float
    nms_threshold: float

    @property
    def network_step(self) -> str:
        """The step that the network does: no function of ours can."""
        return "decoded" if self.spec.decoded else "output"

    @property
    def steps(self) -> tuple[str, ...]:
        return tuple(step for step in STEPS if step != "output" or not self.spec.decoded)

    def before(self, step: str) -> str | None:
        """The step that this one can be computed from, if any."""
        if step in ("letterbox", self.network_step):
            return None
        return self.steps[self.steps.index(step) - 1]


def make_input(letterbox: Array, settings: Settings, ratio: float) -> Array:
    made: Array = network_input(letterbox[None], settings.spec)[0]
    return made


def make_decoded(output: Array, settings: Settings, ratio: float) -> Array:
    made: Array = decode_output(output[None], settings.spec)[0]
    return made


def make_candidates(decoded: Array, settings: Settings, ratio: float) -> Array:
    with np.errstate(all="ignore"):  # infinite sizes, which are dropped
        rows: Array = best_rows(decoded[None], len(decoded))[0]
    made: Array = rows[(rows[:, 4] >= settings.score_threshold) & np.isfinite(rows).all(axis=1)]
    return made


def make_nms(candidates: Array, settings: Settings, ratio: float) -> Array:
    class_ids = candidates[:, 5].astype(np.int64)
    return candidates[non_maximum_suppression(candidates[:, :4], candidates[:, 4], class_ids, settings.nms_threshold)]


def make_detections(nms: Array, settings: Settings, ratio: float) -> Array:
    return np.concatenate([nms[:, :4] / np.float32(ratio), nms[:, 4:]], axis=1)


def make_clipped(detections: Array, size: tuple[int, int]) -> Array:
    """size: (height, width) of the image."""
    found = clip(Detections(detections[:, :4], detections[:, 4], detections[:, 5].astype(np.int64)), size)
    return np.concatenate([found.xyxy, found.confidence[:, None], found.class_id[:, None].astype(np.float32)], axis=1)


# What each step but the last makes of the one before it, given the settings and the ratio of the letterbox.
MAKE: dict[str, Callable[[Array, Settings, float], Array]] = {
    "input": make_input,
    "decoded": make_decoded,
    "candidates": make_candidates,
    "nms": make_nms,
    "detections": make_detections,
}


def make_step(step: str, before: Array, settings: Settings, ratio: float, size: tuple[int, int] | None = None) -> Array:
    """What a step makes of the one before it. size: (height, width) of the image, for `clipped`."""
    if step != "clipped":
        return MAKE[step](before, settings, ratio)
    assert size is not None
    return make_clipped(before, size)


def later_steps(
    network: Floats, settings: Settings, ratio: float, size: tuple[int, int] | None = None
) -> dict[str, Array]:
    """What the network gave (A, 5 + C), and all that is made of it, by step. size: of the image, if there is one."""
    made: dict[str, Array] = {settings.network_step: network}
    for step in settings.steps[settings.steps.index(settings.network_step) + 1 :]:
        before = settings.before(step)
        assert before is not None
        if step != "clipped" or size is not None:
            made[step] = make_step(step, made[before], settings, ratio, size)
    return made


def shape_of(step: str, spec: ModelSpec) -> tuple[int | None, ...]:
    """The shape of a step's array; None where any length will do."""
    if step in ROWS:
        return (None, 6)
    if step == "input":
        return spec.input_shape[1:]
    return (*spec.input_size, 3) if step == "letterbox" else (spec.num_anchors, 5 + spec.num_classes)


def dtype_of(step: str, spec: ModelSpec) -> np.dtype[Any]:
    return np.dtype("u1" if step == "letterbox" or (step == "input" and spec.uint8_input) else "<f4")


def write_step(path: Path, step: str, array: Array, spec: ModelSpec) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.ascontiguousarray(array, dtype=dtype_of(step, spec)).tobytes())


def read_step(path: Path, step: str, spec: ModelSpec) -> Array:
    """Read what a step left. Raises `InvalidInput` where the file holds something else."""
    content, dtype, shape = path.read_bytes(), dtype_of(step, spec), shape_of(step, spec)
    size = dtype.itemsize * int(np.prod([side for side in shape if side is not None]))
    if len(content) != size if None not in shape else len(content) % size:
        wanted = f"a multiple of {size}" if None in shape else str(size)
        raise InvalidInput(f"{path.name} holds {len(content)} bytes, not {wanted}")
    array = np.frombuffer(content, dtype).reshape([-1 if side is None else side for side in shape])
    if not np.isfinite(array).all():
        raise InvalidInput(f"{path.name} holds NaN or infinite values")
    if step in ROWS and not np.isin(array[:, 5], np.arange(spec.num_classes)).all():
        raise InvalidInput(f"{path.name} holds a class index that is none of 0 to {spec.num_classes - 1}")
    return array

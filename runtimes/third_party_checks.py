"""What the outputs of a third-party graph show: whether scores are probabilities, and boxes lie at their anchors."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import InvalidInput
from .postprocess import known_grid
from .spec import ModelSpec
from .third_party_layout import EXPORT

Floats = npt.NDArray[np.float32]

# How far a score may lie outside 0..1 for rounding, as float16 and int8 have it.
ROUNDING = 1e-3


def sigmoid_of(logits: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return (1 / (1 + np.exp(-logits))).astype(np.float32)


def check_scores(path: str | Path, output: Floats, spec: ModelSpec, sigmoid: bool) -> None:
    """Raise `InvalidInput` where scores (N, A, 5 + C) are no probabilities, or with `sigmoid`, where they are."""
    sizes = [prod(side // stride for side in spec.input_size) for stride in spec.strides]
    starts = np.cumsum([0, *sizes])
    for first, last in pairwise(starts):
        for what, values in (("objectness", output[:, first:last, 4]), ("class scores", output[:, first:last, 5:])):
            finite = values[np.isfinite(values)]
            if not finite.size:
                continue
            low, high = float(finite.min()), float(finite.max())
            probable = low >= -ROUNDING and high <= 1 + ROUNDING
            if probable and sigmoid:
                raise InvalidInput(
                    f"{path} gives {what} from {low:.3g} to {high:.3g}, which are probabilities as they are: leave out"
                    " --sigmoid."
                )
            if not probable and not sigmoid:
                raise InvalidInput(
                    f"{path} gives {what} from {low:.3g} to {high:.3g}, which are no probabilities: the scores are"
                    " logits, or this is no box detector; add --sigmoid if the sigmoid is all that is missing."
                )


def _varies_as(values: Floats, anchors: Floats, spread: float) -> bool:
    """Whether values (N, A, 2) differ from anchor to anchor as the anchors do: right and bottom, not width and height.

    Sides of boxes, which do not go with the place, are 1 or more off.
    """
    with np.errstate(all="ignore"):
        moved = values - np.nanmedian(values, axis=(0, 1)) - (anchors - np.median(anchors, axis=0))
        return bool(np.nanmedian(np.abs(moved)) / spread < 0.5)


def check_boxes(path: str | Path, output: Floats, spec: ModelSpec) -> None:
    """Raise `InvalidInput` where the boxes (N, A, 5 + C) are not what `decoded` says, or not those of their anchors.

    The centre of a box lies near its anchor: what is said of the boxes is held against how their centres vary from
    anchor to anchor.
    """
    if min(spec.input_size) < 64:  # too few anchors to tell
        return
    cells, strides = known_grid(spec.input_size, spec.strides)
    anchors = (cells + 0.5) * strides
    spread = np.median(np.abs(anchors - np.median(anchors, axis=0)))
    centres = output[..., :2]
    sides = np.array(spec.input_size[::-1], np.float32)
    with np.errstate(all="ignore"):
        fits = {
            "decoded": centres,
            "fractions": centres * sides,
            "raw": (centres + cells) * strides,
        }
        off = {name: float(np.nanmedian(np.abs(value - anchors)) / spread) for name, value in fits.items()}
    if not all(np.isfinite(list(off.values()))):
        return  # NaN and infinity detect nothing
    if off["decoded"] < 0.5 or off["fractions"] < 0.5:
        found = min(("decoded", "fractions"), key=off.__getitem__)
        ends = output[..., 2:4] * (sides if found == "fractions" else 1)
        if _varies_as(ends, anchors, spread):
            raise InvalidInput(
                f"{path} gives boxes by two of their corners, where centre, width and height are meant: {EXPORT}."
            )
    else:
        found = "raw" if off["raw"] < 0.5 else "other"
    said = "decoded" if spec.decoded else "raw"
    if found == said:
        return
    if found == "fractions":
        raise InvalidInput(f"{path} gives boxes as fractions of the image, where pixels are meant: {EXPORT}.")
    if found == "other":
        raise InvalidInput(
            f"{path} gives boxes that do not lie at their anchors: its anchors are in another order than those of"
            f" YOLOX, or this is no YOLOX; {EXPORT}."
        )
    true = "true" if found == "decoded" else "false"
    are = "are decoded" if found == "decoded" else "are not decoded"
    raise InvalidInput(f'the boxes of {path} {are}, other than its spec says: "decoded": {true} in the --spec FILE.')

"""How an image may have become a network input: what is found wrong in preprocessing, recomputed one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields, replace
from functools import cache
from itertools import product
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from runtimes.postprocess import Floats
from runtimes.preprocess import Image, imagenet_statistics, network_input
from runtimes.spec import ChannelOrder, ModelSpec, Normalization

from .report import INPUT, Cause, Finding
from .walk import relative_error

# truncated: the scaled sides, as the official code does. rounded: to the nearest. centred: padded on all sides.
# stretched: to the whole canvas, without regard to the aspect ratio.
Resize = Literal["truncated", "rounded", "centred", "stretched"]
Interpolation = Literal["linear", "nearest", "area", "cubic"]
Scaling = Literal["0..255", "0..1", "imagenet"]

INTERPOLATIONS = {
    "linear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST, "area": cv2.INTER_AREA, "cubic": cv2.INTER_CUBIC,
}  # fmt: skip

CAUSES: dict[str, Cause] = {
    "resize": "resize", "interpolation": "resize", "channel_order": "channel order", "normalisation": "normalisation",
    "padding": "padding",
}  # fmt: skip

SAME = 1e-4  # relative error of two inputs that are one
ALIKE = 0.1  # and of two that differ as two ways to resize do


@dataclass(frozen=True)
class Recipe:
    """From an image to a network input."""

    resize: Resize
    interpolation: Interpolation
    channel_order: ChannelOrder
    normalisation: Scaling
    padding: int

    def differences(self, other: Recipe) -> list[str]:
        """The fields in which two recipes differ."""
        return [field.name for field in fields(self) if getattr(self, field.name) != getattr(other, field.name)]


def recipe_of(spec: ModelSpec) -> Recipe:
    """How `runtimes.preprocess` does it."""
    scaling: Scaling = "imagenet" if spec.normalization else "0..255"
    return Recipe("truncated", "linear", spec.channel_order, scaling, spec.pad_value)


def make_input(image: Image, recipe: Recipe, size: tuple[int, int]) -> Floats:
    """The input (1, 3, H, W) that a recipe makes of an image (h, w, 3) for a canvas of `size` (H, W)."""
    canvas = _canvas(image, recipe.resize, recipe.interpolation, recipe.padding, size)
    return _scaled(canvas, recipe.channel_order, recipe.normalisation)


def _canvas(image: Image, resize: Resize, interpolation: Interpolation, padding: int, size: tuple[int, int]) -> Image:
    height, width = image.shape[:2]
    ratio = min(size[0] / height, size[1] / width)
    sides = height * ratio, width * ratio
    if resize == "stretched":
        rows, columns = size
    elif resize == "rounded":
        rows, columns = max(round(sides[0]), 1), max(round(sides[1]), 1)
    else:
        rows, columns = max(int(sides[0]), 1), max(int(sides[1]), 1)
    top, left = ((size[0] - rows) // 2, (size[1] - columns) // 2) if resize == "centred" else (0, 0)
    canvas = np.full((*size, 3), padding, np.uint8)
    scaled = cv2.resize(image, (columns, rows), interpolation=INTERPOLATIONS[interpolation])
    canvas[top : top + rows, left : left + columns] = scaled
    return canvas


def _scaled(canvas: Image, order: ChannelOrder, scaling: Scaling) -> Floats:
    normalization: Normalization | None = "imagenet" if scaling == "imagenet" else None
    pixels: Floats = network_input(canvas[None], replace(_ANY, channel_order=order, normalization=normalization))
    return pixels / np.float32(255) if scaling == "0..1" else pixels


_ANY = ModelSpec("any", (32, 32), ("any",))


def explain_input(image: Image, right: Recipe, claimed: Recipe, expected: Floats, found: Floats) -> list[Finding]:
    """What was done otherwise on the way from the image to the network input (1, 3, H, W)."""
    error = relative_error(expected, found)
    if error <= SAME:
        return []
    recipe, left = find_recipe(image, right, claimed, found)
    if left > ALIKE:
        return [Finding("unknown", (INPUT,), "no preprocessing that is known here gives this input", error, None)]
    findings = []
    for field in recipe.differences(right):
        detail = f"the artifact is fed with {getattr(recipe, field)}, the reference takes {getattr(right, field)}"
        findings.append(Finding(CAUSES[field], (INPUT,), detail, error, left))
    if left > SAME:
        findings.append(Finding("resize", (INPUT,), "the image looks resized by other code", error, left))
    return findings


def find_recipe(image: Image, right: Recipe, claimed: Recipe, found: Floats) -> tuple[Recipe, float]:
    """The recipe that makes `found` (1, 3, H, W), with as few changes to the `right` one as can be; and its error.

    claimed: the artifact's own, tried first. Where none makes it, the one that comes nearest.
    """
    size = found.shape[2], found.shape[3]

    @cache
    def canvases(resize: Resize, interpolation: Interpolation, padding: int) -> Image:
        return _canvas(image, resize, interpolation, padding, size)

    best, least = right, relative_error(make_input(image, right, size), found)
    for recipe in _candidates(right, claimed, _paddings(found) | {right.padding, claimed.padding}):
        if least <= SAME:
            break
        canvas = canvases(recipe.resize, recipe.interpolation, recipe.padding)
        made = _scaled(canvas, recipe.channel_order, recipe.normalisation)
        error = relative_error(found, made)
        if error < least:
            best, least = recipe, error
    return best, least


def _candidates(right: Recipe, claimed: Recipe, paddings: set[int]) -> Iterator[Recipe]:
    yield claimed
    choices = product(*map(get_args, (Resize, Interpolation, ChannelOrder, Scaling)), sorted(paddings))
    yield from sorted((Recipe(*one) for one in choices), key=lambda one: (len(one.differences(right)), astuple(one)))


def _paddings(found: Floats) -> set[int]:
    """Usual values, and what the last corner shows if it is padding."""
    corner = float(found[0, 0, -1, -1])
    return {0, 127, 128, *(round(value) for value in (corner, 255 * corner) if 0 <= round(value) <= 255)}


def as_floats(fed: npt.NDArray[Any], spec: ModelSpec) -> Floats:
    """What reaches the first convolution of an artifact that is fed this: (N, 3, H, W) float32."""
    if not spec.uint8_input:
        return fed.astype(np.float32, copy=False)
    pixels = fed.astype(np.float32)
    if spec.normalization == "imagenet":
        mean, std = imagenet_statistics(spec.channel_order)
        pixels = (pixels / np.float32(255) - mean) / std
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))

"""From an image to the network's input. The one and only copy: training, evaluation and apps all call this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .errors import InvalidInput
from .spec import ChannelOrder, ModelSpec

Image = npt.NDArray[np.uint8]  # (H, W, 3), BGR

Floats = npt.NDArray[np.float32]

# ImageNet statistics in RGB order, of pixels in 0..1, as the official release 0.0.1 used them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def imagenet_statistics(order: ChannelOrder) -> tuple[Floats, Floats]:
    """Mean and standard deviation (3,) in the channel order of the network."""
    step = 1 if order == "RGB" else -1
    mean, std = (np.array(values, dtype=np.float32)[::step].copy() for values in (IMAGENET_MEAN, IMAGENET_STD))
    return mean, std


def check_image(image: Any) -> Image:
    """Return `image` if it is (H, W, 3) uint8 with at least one pixel; raise `InvalidInput` otherwise.

    Its memory may be read-only and lie in any way: views with steps, flipped or turned ones are images like others.
    """
    if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
        or image.size == 0
    ):
        found = f"{image.dtype} array of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InvalidInput(
            f"an image must be a uint8 array of shape (H, W, 3) in BGR order, not {found}{_hint(image)}."
        )
    return image


def _hint(image: Any) -> str:
    """What to type, where that is plain."""
    if image is None:
        return ", which cv2.imread gives for a file that it cannot read"
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.size == 0:
        return ""
    channels = image.shape[2] if image.ndim == 3 else 1 if image.ndim == 2 else 0
    code = {1: "COLOR_GRAY2BGR", 4: "COLOR_BGRA2BGR"}.get(channels)
    return f": cv2.cvtColor(image, cv2.{code}) makes one of it" if code else ""


def letterbox(
    image: Image, size: tuple[int, int], pad_value: int = 114, out: Image | None = None
) -> tuple[Image, float]:
    """Scale an image into the top-left corner of a padded canvas, keeping its aspect ratio.

    image: (h, w, 3) uint8. size: (H, W). out: memory for the canvas, (H, W, 3) uint8; new memory where there is none.
    Returns the canvas (H, W, 3) uint8 and the ratio by which to divide boxes on the canvas to get boxes on the image.
    Source: yolox/data/data_augment.py, `preproc`; the scaled sides are truncated, not rounded, and small images are
    enlarged.
    """
    height, width = check_image(image).shape[:2]
    ratio = min(size[0] / height, size[1] / width)
    # A very long and thin image would shrink to nothing: keep one pixel.
    rows, columns = max(int(height * ratio), 1), max(int(width * ratio), 1)
    canvas = np.empty((*size, 3), np.uint8) if out is None else out
    cv2.resize(image, (columns, rows), dst=canvas[:rows, :columns], interpolation=cv2.INTER_LINEAR)
    canvas[rows:] = pad_value
    canvas[:rows, columns:] = pad_value
    return canvas, ratio


def network_input(canvases: npt.NDArray[np.uint8], spec: ModelSpec) -> npt.NDArray[Any]:
    """Bring BGR canvases (N, H, W, 3) uint8 into the form that the artifact takes.

    Returns (N, 3, H, W) float32, or (N, H, W, 3) uint8 where the spec says `uint8_input`: then the graph normalises.
    """
    count, height, width, _ = canvases.shape
    inputs = _empty(count, (height, width), spec.uint8_input)
    for canvas, place in zip(canvases, inputs, strict=True):
        _fill(place, canvas, spec)
    return inputs


def preprocess(
    images: Sequence[Image], spec: ModelSpec, out: npt.NDArray[Any] | None = None
) -> tuple[npt.NDArray[Any], list[float]]:
    """Letterbox N images of any size. Returns the network input and each image's ratio.

    out: memory for the input, as `empty_input` gives it; new memory where there is none.
    """
    inputs = empty_input(len(images), spec) if out is None else out
    # Where the network takes BGR bytes, the canvas is its input.
    direct = spec.uint8_input and spec.channel_order == "BGR"
    canvas = None if direct else np.empty((*spec.input_size, 3), np.uint8)
    ratios = []
    for image, place in zip(images, inputs, strict=True):
        boxed, ratio = letterbox(image, spec.input_size, spec.pad_value, place if canvas is None else canvas)
        if canvas is not None:
            _fill(place, boxed, spec)
        ratios.append(ratio)
    return inputs, ratios


def empty_input(count: int, spec: ModelSpec) -> npt.NDArray[Any]:
    """Memory for the network input of so many images."""
    return _empty(count, spec.input_size, spec.uint8_input)


def _empty(count: int, size: tuple[int, int], as_bytes: bool) -> npt.NDArray[Any]:
    return np.empty((count, *size, 3), np.uint8) if as_bytes else np.empty((count, 3, *size), np.float32)


def _fill(place: npt.NDArray[Any], canvas: Image, spec: ModelSpec) -> None:
    """Write one canvas (H, W, 3) to its place in the network input."""
    if spec.uint8_input:
        place[...] = canvas if spec.channel_order == "BGR" else canvas[..., ::-1]
        return
    # Plane by plane: several times faster than to turn the whole array.
    planes = cv2.split(canvas)
    for plane, part in zip(place, planes if spec.channel_order == "BGR" else planes[::-1], strict=True):
        plane[...] = part
    if spec.normalization == "imagenet":
        mean, std = imagenet_statistics(spec.channel_order)
        place /= np.float32(255)
        place -= mean[:, None, None]
        place /= std[:, None, None]

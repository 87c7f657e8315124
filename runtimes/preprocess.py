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
    """Return `image` if it is (H, W, 3) uint8 with at least one pixel; raise `InvalidInput` otherwise."""
    if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
        or image.size == 0
    ):
        found = f"{image.dtype} array of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InvalidInput(f"an image must be a uint8 array of shape (H, W, 3) in BGR order, not {found}.")
    return image


def letterbox(image: Image, size: tuple[int, int], pad_value: int = 114) -> tuple[Image, float]:
    """Scale an image into the top-left corner of a padded canvas, keeping its aspect ratio.

    image: (h, w, 3) uint8. size: (H, W). Returns the canvas (H, W, 3) uint8 and the ratio by which to divide boxes on
    the canvas to get boxes on the image. Source: yolox/data/data_augment.py, `preproc`; the scaled sides are truncated,
    not rounded, and small images are enlarged.
    """
    height, width = check_image(image).shape[:2]
    ratio = min(size[0] / height, size[1] / width)
    # A very long and thin image would shrink to nothing: keep one pixel.
    scaled = max(int(height * ratio), 1), max(int(width * ratio), 1)
    canvas = np.full((*size, 3), pad_value, dtype=np.uint8)
    canvas[: scaled[0], : scaled[1]] = cv2.resize(image, (scaled[1], scaled[0]), interpolation=cv2.INTER_LINEAR)
    return canvas, ratio


def network_input(canvases: npt.NDArray[np.uint8], spec: ModelSpec) -> npt.NDArray[Any]:
    """Bring BGR canvases (N, H, W, 3) uint8 into the form that the artifact takes.

    Returns (N, 3, H, W) float32, or (N, H, W, 3) uint8 where the spec says `uint8_input`: then the graph normalises.
    """
    if spec.channel_order == "RGB":
        canvases = canvases[..., ::-1]
    if spec.uint8_input:
        return np.ascontiguousarray(canvases)
    pixels = canvases.astype(np.float32)
    if spec.normalization == "imagenet":
        mean, std = imagenet_statistics(spec.channel_order)
        pixels = (pixels / np.float32(255) - mean) / std
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def preprocess(images: Sequence[Image], spec: ModelSpec) -> tuple[npt.NDArray[Any], list[float]]:
    """Letterbox N images of any size. Returns the network input and each image's ratio."""
    boxed = [letterbox(image, spec.input_size, spec.pad_value) for image in images]
    return network_input(np.stack([canvas for canvas, _ in boxed]), spec), [ratio for _, ratio in boxed]

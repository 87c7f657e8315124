"""What a conformance kit tries: images of awkward sizes, and a made-up network output that crowds boxes together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from runtimes.postprocess import Floats, anchor_grid, decode
from runtimes.preprocess import Image
from runtimes.spec import ModelSpec

MADE_RATIO = 0.375
MADE = "No image: begin with the network's output as given. Boxes in crowds, with overlaps around the NMS threshold."


@dataclass(frozen=True, eq=False)
class Case:
    """image: (h, w, 3) uint8, BGR."""

    name: str
    about: str
    image: Image


def image_cases(images: Sequence[Image], input_size: tuple[int, int]) -> list[Case]:
    """Four images, resized to sizes that follow from the network's."""
    height, width = input_size
    truncated = truncated_side(width)
    sizes = {
        "truncated": (truncated * height // (2 * width) | 1, truncated),
        "tall": (int(height * 1.7) | 1, int(width * 0.6) | 1),
        "wide": (int(height * 0.9) | 1, int(width * 1.9) | 1),
        "small": (height // 3 | 1, width // 4 | 1),
    }
    about = {
        "truncated": f"Scaled, its width is {width - 1}, not {width}: {truncated} * ({width} / {truncated}) in double"
        f" precision is a little less than {width}, and is truncated.",
        "tall": "Padded on the right.",
        "wide": "Padded at the bottom.",
        "small": "Enlarged.",
    }
    return [Case(name, about[name], resized(image, sizes[name])) for name, image in zip(sizes, images, strict=True)]


def truncated_side(side: int) -> int:
    """The smallest length over `side` that is scaled to `side - 1`, since the product truncates."""
    return next(length for length in range(side + 1, 100 * side) if int(length * (side / length)) == side - 1)


def resized(image: Image, size: tuple[int, int]) -> Image:
    """To (height, width), with grain, which shows a resize that samples elsewhere."""
    scaled = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    grain = np.random.default_rng(0).integers(-12, 13, scaled.shape)
    return np.clip(scaled + grain, 0, 255).astype(np.uint8)


def made_output(spec: ModelSpec) -> Floats:
    """A network output (A, 5 + C), boxes raw or decoded as the spec says, with 24 crowds of 8 neighbouring anchors.

    The boxes of a crowd are of about one size, 3 to 9 cells, so that the overlaps of neighbours lie on both sides of
    any usual threshold, and of two or three classes. All other anchors have scores of 0.
    """
    random = np.random.default_rng(0)
    output = np.zeros((spec.num_anchors, 5 + spec.num_classes), np.float32)
    for _ in range(24):
        anchors = random.integers(0, spec.num_anchors - 8) + np.arange(8)
        output[anchors] = 0
        output[anchors, :2] = random.normal(0, 0.3, (8, 2))
        output[anchors, 2:4] = np.log(random.uniform(3, 9) * random.uniform(0.9, 1.1, (8, 2)))
        output[anchors, 4] = random.uniform(0.3, 1, 8)
        output[anchors, 5 + random.integers(0, min(spec.num_classes, 3), 8)] = random.uniform(0.6, 1, 8)
    if spec.decoded:
        output[:, :4] = decode(output[:, :4], *anchor_grid(spec.input_size, spec.strides))
    return output

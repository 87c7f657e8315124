"""Changes to one image and its boxes while training. Source: yolox/data/data_augment.py.

An image is BGR uint8 (h, w, 3); its labels are (n, 5) float32: left, top, right, bottom in its pixels, class index.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from runtimes.preprocess import Image

Labels = npt.NDArray[np.float32]

PAD_VALUE = 114
HSV_GAINS = (5, 30, 30)  # of 180, 256, 256
SMALLEST_SIDE = 1.0  # boxes with a shorter side teach nothing


@dataclass(frozen=True)
class Sample:
    """An image with its labels, see above."""

    image: Image
    labels: Labels


def fit(sample: Sample, size: tuple[int, int], factor: float = 1.0) -> Sample:
    """The image resized to fit into `size` (height, width), times `factor`; the sides are truncated, as officially."""
    height, width = sample.image.shape[:2]
    ratio = min(size[0] / height, size[1] / width) * factor
    shape = max(int(width * ratio), 1), max(int(height * ratio), 1)
    if shape == (width, height):
        return sample
    labels = sample.labels.copy()
    labels[:, :4] *= ratio
    return Sample(cv2.resize(sample.image, shape, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False), labels)


def mirror(sample: Sample) -> Sample:
    labels = sample.labels.copy()
    labels[:, [0, 2]] = sample.image.shape[1] - labels[:, [2, 0]]
    return Sample(cv2.flip(sample.image, 1).astype(np.uint8, copy=False), labels)


def hsv(image: Image, random: np.random.Generator) -> Image:
    """Hue, saturation and value moved, each by its own amount or not at all. Three tables instead of sums."""
    gains = (random.uniform(-1, 1, 3) * HSV_GAINS * random.integers(0, 2, 3)).astype(np.int16)
    levels = np.arange(256, dtype=np.int16)
    tables = np.stack([(levels + gains[0]) % 180, (levels + gains[1]).clip(0, 255), (levels + gains[2]).clip(0, 255)])
    table = np.ascontiguousarray(tables.T.astype(np.uint8)[None])  # (1, 256, 3)
    moved = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_BGR2HSV), table)
    return cv2.cvtColor(moved, cv2.COLOR_HSV2BGR).astype(np.uint8, copy=False)


@dataclass(frozen=True)
class AffineRange:
    """Rotation and shear in degrees to either side, scale from and to, translation as a fraction of the output."""

    rotation: float
    scale: tuple[float, float]
    shear: float
    translation: float

    def matrix(self, size: tuple[int, int], random: np.random.Generator) -> npt.NDArray[np.float64]:
        """A random map (2, 3). Rotation and scale are about the corner, not the centre: so is the official one."""
        turn = cv2.getRotationMatrix2D(
            (0, 0), random.uniform(-self.rotation, self.rotation), random.uniform(*self.scale)
        )
        shear_x, shear_y = (math.tan(math.radians(value)) for value in random.uniform(-self.shear, self.shear, 2))
        matrix = np.stack([turn[0] + shear_y * turn[1], turn[1] + shear_x * turn[0]])
        matrix[:, 2] = random.uniform(-self.translation, self.translation, 2) * (size[1], size[0])
        return matrix


def affine(sample: Sample, size: tuple[int, int], matrix: npt.NDArray[np.float64]) -> Sample:
    """The image under a map, cut to `size` (height, width). Boxes become those around their corners, cut as well."""
    height, width = size
    image = cv2.warpAffine(sample.image, matrix, (width, height), borderValue=(PAD_VALUE,) * 3)
    left, top, right, bottom = sample.labels[:, :4].T
    xs, ys = np.stack([left, right, left, right]), np.stack([top, bottom, bottom, top])  # (4, n)
    xs, ys = (row[0] * xs + row[1] * ys + row[2] for row in matrix)
    boxes = [xs.min(axis=0), ys.min(axis=0), xs.max(axis=0), ys.max(axis=0)]
    labels = np.stack([*boxes, sample.labels[:, 4]], axis=1).astype(np.float32)
    return Sample(image.astype(np.uint8, copy=False), clip(labels, size))


def clip(labels: Labels, size: tuple[int, int]) -> Labels:
    """Labels with the boxes cut to an image of (height, width)."""
    height, width = size
    limits = np.array([width, height, width, height], np.float32)
    return np.concatenate([labels[:, :4].clip(0, limits), labels[:, 4:]], axis=1)


def to_input(sample: Sample, size: tuple[int, int]) -> Sample:
    """The image fitted into the top left of an input of `size`, without boxes that are too small to teach anything."""
    fitted = fit(sample, size)
    height, width = fitted.image.shape[:2]
    image = fitted.image
    if (height, width) != size:
        image = np.full((*size, 3), PAD_VALUE, np.uint8)
        image[:height, :width] = fitted.image
    sides = fitted.labels[:, 2:4] - fitted.labels[:, :2]
    return Sample(image, fitted.labels[sides.min(axis=1, initial=np.inf) > SMALLEST_SIDE])


def colour_and_mirror(sample: Sample, random: np.random.Generator, hsv_probability: float, flip: float) -> Sample:
    if random.random() < hsv_probability:
        sample = Sample(hsv(sample.image, random), sample.labels)
    return mirror(sample) if random.random() < flip else sample

"""Mosaic and mixup: several images in one. Source: yolox/data/datasets/mosaicdetection.py; paper section 2.1."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .augment import PAD_VALUE, Sample, clip, fit, mirror


def mosaic(samples: Sequence[Sample], size: tuple[int, int], random: np.random.Generator) -> Sample:
    """Four images about a random point, each fitted into `size` (height, width), on a canvas of twice that size."""
    height, width = size
    y, x = int(random.uniform(0.5, 1.5) * height), int(random.uniform(0.5, 1.5) * width)
    canvas = np.full((2 * height, 2 * width, 3), PAD_VALUE, np.uint8)
    labels = []
    for index, sample in enumerate(fit(sample, size) for sample in samples):
        h, w = sample.image.shape[:2]
        left, top = x - w if index % 2 == 0 else x, y - h if index < 2 else y
        rows, columns = slice(max(top, 0), min(top + h, 2 * height)), slice(max(left, 0), min(left + w, 2 * width))
        canvas[rows, columns] = sample.image[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
        moved = sample.labels.copy()
        moved[:, :4] += (left, top, left, top)
        labels.append(moved)
    return Sample(canvas, clip(np.concatenate(labels), canvas.shape[:2]))


def mixup(
    sample: Sample, other: Sample, scale: tuple[float, float], flip: float, random: np.random.Generator
) -> Sample:
    """Half the image and half another one, which is fitted into it, scaled again and shifted at random.

    Beyond the other image, the first one is blended with black: so does the official code.
    """
    size = height, width = sample.image.shape[:2]
    factor = random.uniform(*scale)
    fitted = fit(other, size, factor)
    canvas = np.full((max(int(height * factor), 1), max(int(width * factor), 1), 3), PAD_VALUE, np.uint8)
    part = fitted.image[: canvas.shape[0], : canvas.shape[1]]
    canvas[: part.shape[0], : part.shape[1]] = part
    blended = Sample(canvas, clip(fitted.labels, canvas.shape[:2]))
    if random.random() < flip:
        blended = mirror(blended)
    top, left = (
        int(random.integers(0, spare)) if spare > 0 else 0
        for spare in (canvas.shape[0] - height, canvas.shape[1] - width)
    )
    part = blended.image[top : top + height, left : left + width]
    image = cv2.convertScaleAbs(sample.image, alpha=0.5)
    rows, columns = part.shape[:2]
    image[:rows, :columns] = cv2.addWeighted(sample.image[:rows, :columns], 0.5, part, 0.5, 0)
    labels = blended.labels.copy()
    labels[:, :4] -= (left, top, left, top)
    return Sample(image.astype(np.uint8, copy=False), np.concatenate([sample.labels, clip(labels, size)]))

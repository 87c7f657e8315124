"""Mosaic, mixup and the rest written as the official code writes them, to measure ours against.

Source: yolox/data/datasets/mosaicdetection.py, yolox/data/data_augment.py. Only reading is shared with ours.
"""

from __future__ import annotations

import math
import random

import cv2
import numpy as np
import numpy.typing as npt

from runtimes.preprocess import Image
from yolox_deploy.data.augment import Sample
from yolox_deploy.data.store import SampleStore
from yolox_deploy.training.recipe import Augmentation

Array = npt.NDArray[np.float32]


class PlainAugmentation:
    """A training sample: float32 (3, H, W) and labels (120, 5), class index and centre form, padded with zeros."""

    def __init__(self, store: SampleStore, size: tuple[int, int], augmentation: Augmentation) -> None:
        self.store, self.size, self.augmentation = store, size, augmentation

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        if random.random() >= self.augmentation.mosaic:
            sample = self.store[index]
            return self.finish(sample.image, sample.labels)
        image, labels = self.affine(*self.mosaic(index))
        if len(labels) and random.random() < self.augmentation.mixup:
            image, labels = self.mixup(image, labels)
        return self.finish(image, labels)

    def mosaic(self, index: int) -> tuple[Image, Array]:
        height, width = self.size
        y, x = int(random.uniform(0.5 * height, 1.5 * height)), int(random.uniform(0.5 * width, 1.5 * width))
        canvas = np.full((height * 2, width * 2, 3), 114, dtype=np.uint8)
        found = []
        indices = [index] + [random.randint(0, len(self.store) - 1) for _ in range(3)]
        for place, number in enumerate(indices):
            sample = self.store[number]
            h0, w0 = sample.image.shape[:2]
            scale = min(height / h0, width / w0)
            image = cv2.resize(sample.image, (int(w0 * scale), int(h0 * scale)), interpolation=cv2.INTER_LINEAR)
            h, w = image.shape[:2]
            left, top = (x - w, x)[place % 2], (y - h, y)[place // 2]
            x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + w, 2 * width), min(top + h, 2 * height)
            canvas[y1:y2, x1:x2] = image[y1 - top : y2 - top, x1 - left : x2 - left]
            labels = sample.labels.copy()
            labels[:, [0, 2]] = scale * labels[:, [0, 2]] + left
            labels[:, [1, 3]] = scale * labels[:, [1, 3]] + top
            found.append(labels)
        joined = np.concatenate(found, 0)
        np.clip(joined[:, [0, 2]], 0, 2 * width, out=joined[:, [0, 2]])
        joined[:, [0, 2]] = joined[:, [0, 2]].clip(0, 2 * width)
        joined[:, [1, 3]] = joined[:, [1, 3]].clip(0, 2 * height)
        return canvas, joined

    def affine(self, image: Image, labels: Array) -> tuple[Image, Array]:
        height, width = self.size
        options = self.augmentation
        angle, scale = random.uniform(-options.rotation, options.rotation), random.uniform(*options.mosaic_scale)
        turn = cv2.getRotationMatrix2D(angle=angle, center=(0, 0), scale=scale)
        shear_x, shear_y = (math.tan(random.uniform(-options.shear, options.shear) * math.pi / 180) for _ in range(2))
        matrix = np.ones([2, 3])
        matrix[0], matrix[1] = turn[0] + shear_y * turn[1], turn[1] + shear_x * turn[0]
        matrix[0, 2] = random.uniform(-options.translation, options.translation) * width
        matrix[1, 2] = random.uniform(-options.translation, options.translation) * height
        image = cv2.warpAffine(image, matrix, dsize=(width, height), borderValue=(114, 114, 114))  # type: ignore
        if len(labels):
            corners = np.ones((4 * len(labels), 3))
            corners[:, :2] = labels[:, [0, 1, 2, 3, 0, 3, 2, 1]].reshape(4 * len(labels), 2)
            corners = (corners @ matrix.T).reshape(len(labels), 8)
            xs, ys = corners[:, [0, 2, 4, 6]], corners[:, [1, 3, 5, 7]]
            boxes = np.concatenate((xs.min(1), ys.min(1), xs.max(1), ys.max(1))).reshape(4, len(labels)).T
            labels[:, [0, 2]] = boxes[:, [0, 2]].clip(0, width)
            labels[:, [1, 3]] = boxes[:, [1, 3]].clip(0, height)
        return image, labels

    def mixup(self, image: Image, labels: Array) -> tuple[Image, Array]:
        height, width = self.size
        factor, flip = random.uniform(*self.augmentation.mixup_scale), random.uniform(0, 1) > 0.5
        other = Sample(image, labels[:0])
        while not len(other.labels):
            other = self.store[random.randint(0, len(self.store) - 1)]
        canvas = np.ones((height, width, 3), dtype=np.uint8) * 114
        ratio = min(height / other.image.shape[0], width / other.image.shape[1])
        shape = int(other.image.shape[1] * ratio), int(other.image.shape[0] * ratio)
        canvas[: shape[1], : shape[0]] = cv2.resize(other.image, shape, interpolation=cv2.INTER_LINEAR)
        canvas = cv2.resize(canvas, (int(width * factor), int(height * factor)))  # type: ignore[assignment]
        ratio *= factor
        if flip:
            canvas = canvas[:, ::-1, :]
        h, w = canvas.shape[:2]
        padded = np.zeros((max(h, height), max(w, width), 3), dtype=np.uint8)
        padded[:h, :w] = canvas
        top = random.randint(0, padded.shape[0] - height - 1) if padded.shape[0] > height else 0
        left = random.randint(0, padded.shape[1] - width - 1) if padded.shape[1] > width else 0
        part = padded[top : top + height, left : left + width]
        boxes = other.labels[:, :4].copy()
        boxes[:, 0::2] = np.clip(boxes[:, 0::2] * ratio, 0, w)
        boxes[:, 1::2] = np.clip(boxes[:, 1::2] * ratio, 0, h)
        if flip:
            boxes[:, 0::2] = w - boxes[:, 0::2][:, ::-1]
        boxes[:, 0::2] = np.clip(boxes[:, 0::2] - left, 0, width)
        boxes[:, 1::2] = np.clip(boxes[:, 1::2] - top, 0, height)
        labels = np.vstack((labels, np.hstack((boxes, other.labels[:, 4:5]))))
        mixed = 0.5 * image.astype(np.float32) + 0.5 * part.astype(np.float32)
        return mixed.astype(np.uint8), labels

    def finish(self, image: Image, labels: Array) -> tuple[Array, Array]:
        padded = np.zeros((120, 5), np.float32)
        if random.random() < self.augmentation.hsv:
            gains = (np.random.uniform(-1, 1, 3) * [5, 30, 30] * np.random.randint(0, 2, 3)).astype(np.int16)
            colours = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.int16)
            colours[..., 0] = (colours[..., 0] + gains[0]) % 180
            colours[..., 1] = np.clip(colours[..., 1] + gains[1], 0, 255)
            colours[..., 2] = np.clip(colours[..., 2] + gains[2], 0, 255)
            image = cv2.cvtColor(colours.astype(np.uint8), cv2.COLOR_HSV2BGR)  # type: ignore[assignment]
        boxes = labels[:, :4].copy()
        if random.random() < self.augmentation.flip:
            boxes[:, 0::2] = image.shape[1] - boxes[:, 2::-2]
            image = image[:, ::-1]
        height, width = self.size
        canvas = np.ones((height, width, 3), dtype=np.uint8) * 114
        ratio = min(height / image.shape[0], width / image.shape[1])
        shape = int(image.shape[1] * ratio), int(image.shape[0] * ratio)
        canvas[: shape[1], : shape[0]] = cv2.resize(image, shape, interpolation=cv2.INTER_LINEAR).astype(np.uint8)
        boxes *= ratio
        sides = boxes[:, 2:] - boxes[:, :2]
        kept = sides.min(1, initial=np.inf) > 1
        rows = np.hstack((labels[kept, 4:5], boxes[kept, :2] + sides[kept] / 2, sides[kept]))[:120]
        padded[: len(rows)] = rows
        return np.ascontiguousarray(canvas.transpose(2, 0, 1), dtype=np.float32), padded

"""Pictures of a training: batches as the model sees them, and what it finds beside what is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from runtimes.detections import Detections
from runtimes.preprocess import Image
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.drawing import FONT, draw

TILE, BORDER, TITLE = 416, 4, 22  # px
SHOWN_SCORE = 0.3
MOST = 12


def batch_picture(images: npt.NDArray[np.uint8], labels: Sequence[npt.NDArray[Any]], names: Sequence[str]) -> Image:
    """Up to 12 images (N, H, W, 3) with their labels (n, 5): class index, centre x, y, width, height in pixels."""
    tiles = []
    for image, rows in zip(images[:MOST], labels, strict=False):
        corners = np.concatenate([rows[:, 1:3] - rows[:, 3:] / 2, rows[:, 1:3] + rows[:, 3:] / 2], axis=1)
        tiles.append(_tile(image, _certain(corners, rows[:, 0]), names, scores=False))
    return grid(tiles, columns=4)


def predictions_picture(dataset: Dataset, found: Sequence[Detections], names: Sequence[str]) -> Image:
    """Up to 12 images, evenly chosen: on the left of each pair what is there, on the right what was found."""
    count = min(len(dataset), MOST)
    images, tiles = dataset.read_images(), []
    for index in (number * len(dataset) // count for number in range(count)):
        image, labelled, detections = images[index], dataset.images[index], found[index]
        shown = detections.confidence >= SHOWN_SCORE
        sure = Detections(detections.xyxy[shown], detections.confidence[shown], detections.class_id[shown])
        truth = _certain(labelled.boxes, labelled.class_ids)
        tiles.append(_tile(image, truth, dataset.class_names, scores=False, title="truth"))
        tiles.append(_tile(image, sure, names, scores=True, title=f"found, score {SHOWN_SCORE:g} and over"))
    return grid(tiles, columns=4 if count > 1 else 2)


def grid(tiles: Sequence[Image], columns: int) -> Image:
    """Pictures of one size in rows."""
    empty = np.full_like(tiles[0], 255)
    tiles = [*tiles, *[empty] * (-len(tiles) % columns)]
    rows = [np.concatenate(tiles[start : start + columns], axis=1) for start in range(0, len(tiles), columns)]
    return np.concatenate(rows)


def _tile(image: Image, detections: Detections, names: Sequence[str], scores: bool, title: str = "") -> Image:
    """A square with the title, and below it the image, resized before boxes are drawn, so that names can be read."""
    height, width = image.shape[:2]
    ratio = (TILE - BORDER) / max(height, width)
    shape = max(round(width * ratio), 1), max(round(height * ratio), 1)
    resized = cv2.resize(image, shape, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR)
    boxes = Detections(detections.xyxy * np.float32(ratio), detections.confidence, detections.class_id)
    tile = np.full((TILE + (TITLE if title else 0), TILE, 3), 255, np.uint8)
    cv2.putText(tile, title, (2, TITLE - 7), FONT, 0.5, (60, 60, 60), 1, cv2.LINE_AA)
    top = TITLE if title else 0
    tile[top : top + shape[1], : shape[0]] = draw(resized.astype(np.uint8, copy=False), boxes, names, scores)
    return tile


def _certain(corners: npt.NDArray[Any], class_ids: npt.NDArray[Any]) -> Detections:
    return Detections(corners.astype(np.float32), np.ones(len(corners), np.float32), class_ids.astype(np.int64))

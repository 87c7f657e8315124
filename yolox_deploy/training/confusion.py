"""Which class is taken for which: the confusion matrix of a detector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from exporters.matching import iou
from runtimes.detections import Detections
from yolox_deploy.data.dataset import LabelledImage

MIN_SCORE, MIN_IOU = 0.25, 0.45
IN_CROWD = 0.5  # of a detection's area: then it is neither right nor wrong

Matrix = npt.NDArray[np.int64]


def confusion_matrix(
    images: Sequence[LabelledImage], found: Sequence[Detections], classes: Sequence[int], num_classes: int
) -> Matrix:
    """(C + 1, C + 1): rows are true classes, columns detected ones; the last of each is background.

    classes: the data set's class index of each of the model's. Detections from score 0.25 on; each is paired with one
    object at most, the largest IoU first, whatever the classes.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for image, detections in zip(images, found, strict=True):
        confident = detections.confidence >= MIN_SCORE
        boxes = detections.xyxy[confident]
        class_ids = np.asarray(classes, np.int64)[detections.class_id[confident]]
        truth, true_ids = image.boxes[~image.crowd], image.class_ids[~image.crowd]
        pairs = _pairs(iou(truth, boxes))
        for row, column in pairs.items():
            matrix[true_ids[row], class_ids[column]] += 1
        for row in set(range(len(truth))) - pairs.keys():
            matrix[true_ids[row], num_classes] += 1
        alone = sorted(set(range(len(boxes))) - set(pairs.values()))
        for column in alone:
            if not _in_crowd(boxes[column], image.boxes[image.crowd]):
                matrix[num_classes, class_ids[column]] += 1
    return matrix


def _pairs(overlaps: npt.NDArray[np.float64]) -> dict[int, int]:
    """Object to detection, each once, the largest IoU first."""
    rows, columns = np.nonzero(overlaps >= MIN_IOU)
    pairs: dict[int, int] = {}
    for index in np.argsort(-overlaps[rows, columns], kind="stable"):
        row, column = int(rows[index]), int(columns[index])
        if row not in pairs and column not in pairs.values():
            pairs[row] = column
    return pairs


def _in_crowd(box: npt.NDArray[np.float32], crowds: npt.NDArray[np.float64]) -> bool:
    """Whether most of a box (4,) lies in one of the regions (n, 4)."""
    sides = np.minimum(box[2:], crowds[:, 2:]) - np.maximum(box[:2], crowds[:, :2])
    area = float((box[2:] - box[:2]).prod())
    return bool((sides.clip(min=0).prod(axis=1) > IN_CROWD * area).any())

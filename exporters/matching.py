"""Which detection of one model is which of another."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from runtimes.detections import Detections
from runtimes.postprocess import Floats, corners


def identical(left: Detections, right: Detections) -> bool:
    """Whether two are the same detections, in the same order, to the last bit."""
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in vars(left))


def match(expected: Detections, actual: Detections, min_iou: float = 0.5) -> npt.NDArray[np.intp]:
    """Pair detections of the same class, those with the largest IoU first.

    Returns (p, 2): index in expected, index in actual. Each index stands in one pair at most.
    """
    overlaps = iou(expected.xyxy, actual.xyxy)
    overlaps[expected.class_id[:, None] != actual.class_id[None, :]] = 0
    rows, columns = np.nonzero(overlaps >= min_iou)
    # Of equal overlaps, the pair with the closest ranks: both lists are best first.
    order = np.lexsort((np.abs(rows - columns), -overlaps[rows, columns]))
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in pairs and column not in taken:
            pairs[row] = column
            taken.add(column)
    return np.array([*pairs.items()], dtype=np.intp).reshape(-1, 2)


def iou(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The IoU of every pair of xyxy boxes: (n, 4) and (m, 4) to (n, m)."""
    return aligned_iou(first[:, None], second[None])


def aligned_iou(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The IoU of each xyxy box with the one in the same place: (..., 4) and (..., 4) to (...)."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = np.clip(sides, 0, None).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (first, second)]
    result: npt.NDArray[np.float64] = shared / np.maximum(areas[0] + areas[1] - shared, 1e-12)
    return result


def is_in_output(
    detections: Detections, output: Floats, ratio: float, box_tolerance: float, score_tolerance: float
) -> npt.NDArray[np.bool_]:
    """Whether each detection stands in a model's decoded output (A, 5 + C), even if that model did not choose it.

    Two models that compute the same can choose differently where two classes of an anchor, or two overlapping boxes,
    have the same score but for rounding. Then each one's choice stands in the other's output. Returns (n,).
    """
    boxes = corners(output[:, :4]) / np.float32(ratio)
    found = np.zeros(len(detections), dtype=bool)
    for index, (box, confidence, class_id) in enumerate(detections):
        if class_id >= output.shape[1] - 5:
            continue
        scores = output[:, 4] * output[:, 5 + class_id]
        near = np.abs(boxes[np.abs(scores - confidence) <= score_tolerance] - box)  # (k, 4)
        found[index] = bool((near.max(axis=1) <= box_tolerance).any())
    return found


def is_in_rows(
    detections: Detections, rows: Floats, ratio: float, box_tolerance: float, score_tolerance: float
) -> npt.NDArray[np.bool_]:
    """`is_in_output` for the rows of a graph with TopK (K, 6), which tell one class of each anchor.

    The class may be another: that it has the same score there, the other side's output says. Returns (n,).
    """
    boxes = rows[:, :4] / np.float32(ratio)
    found = np.zeros(len(detections), dtype=bool)
    for index, (box, confidence, _) in enumerate(detections):
        near = np.abs(boxes[np.abs(rows[:, 4] - confidence) <= score_tolerance] - box)  # (k, 4)
        found[index] = bool((near.max(axis=1) <= box_tolerance).any())
    return found

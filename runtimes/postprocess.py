"""From the network's output to detections. The one and only copy: evaluation, parity and apps all call this."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .detections import Detections
from .spec import ModelSpec

Floats = npt.NDArray[np.float32]

FARTHEST = 1e6  # pixels


def anchor_grid(input_size: tuple[int, int], strides: Sequence[int]) -> tuple[Floats, Floats]:
    """The cell (x, y) and the stride of every anchor: (A, 2) and (A, 1), level by level, row-major."""
    cells, steps = [], []
    for stride in strides:
        rows, columns = np.mgrid[: input_size[0] // stride, : input_size[1] // stride]
        level = np.stack([columns.ravel(), rows.ravel()], axis=1)  # (h * w, 2)
        cells.append(level)
        steps.append(np.full((len(level), 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(steps).astype(np.float32)


@lru_cache(maxsize=8)
def known_grid(input_size: tuple[int, int], strides: tuple[int, ...]) -> tuple[Floats, Floats]:
    """`anchor_grid`, made once, and not to be written to."""
    grid = anchor_grid(input_size, strides)
    for values in grid:
        values.flags.writeable = False
    return grid


def decode(boxes: Floats, cells: Floats, strides: Floats) -> Floats:
    """Raw box predictions (..., n, 4) to (cx, cy, w, h) in input pixels.

    cells (n, 2) and strides (n, 1) are those of the n anchors. Source: yolox/models/yolo_head.py, `decode_outputs`;
    the grid is made of whole numbers, without the half cell that other detectors add.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # an absurd size becomes infinite
        return np.concatenate([(boxes[..., :2] + cells) * strides, np.exp(boxes[..., 2:4]) * strides], axis=-1)


def corners(boxes: Floats) -> Floats:
    """(cx, cy, w, h) to (left, top, right, bottom): (..., 4) to (..., 4)."""
    centres, reach = boxes[..., :2], boxes[..., 2:] / 2
    xyxy = np.empty_like(boxes)
    np.subtract(centres, reach, out=xyxy[..., :2])
    np.add(centres, reach, out=xyxy[..., 2:])
    return xyxy


def decode_output(output: Floats, spec: ModelSpec) -> Floats:
    """An artifact's output (N, A, 5 + C) with its boxes in input pixels, whether or not the graph decoded them."""
    if spec.decoded:
        return output
    return np.concatenate(
        [decode(output[..., :4], *anchor_grid(spec.input_size, spec.strides)), output[..., 4:]], axis=-1
    )


def non_maximum_suppression(
    xyxy: Floats, scores: Floats, class_ids: npt.NDArray[np.int64], threshold: float
) -> npt.NDArray[np.intp]:
    """Class-aware NMS: drop a box that overlaps a better one of its class by an IoU over `threshold`.

    xyxy (n, 4), scores (n,), class_ids (n,). Returns the indices that stay, best first.
    """
    if len(scores) == 0:
        return np.zeros(0, dtype=np.intp)
    # OpenCV keeps classes apart by shifting each by more than the largest coordinate, in double precision. That needs
    # coordinates that are not negative, so the boxes are moved first.
    # Far beyond any image, their size would eat up the precision that the others need.
    boxes = xyxy.astype(np.float64)
    np.clip(boxes, -FARTHEST, FARTHEST, out=boxes)
    boxes -= boxes.min()
    boxes[:, 2:] -= boxes[:, :2]  # left, top, width, height
    # OpenCV copies arrays of these types at once, but reads boxes number by number, which is sooner done from a list.
    kept = cv2.dnn.NMSBoxesBatched(boxes.tolist(), scores, class_ids.astype(np.int32), 0.0, threshold)  # type: ignore
    return np.asarray(kept, dtype=np.intp).reshape(-1)


def detect_one(
    output: Floats, ratio: float, spec: ModelSpec, score_threshold: float, nms_threshold: float
) -> Detections:
    """The detections of one image from its output (A, 5 + C), in pixels of the original image."""
    # A class score is at most 1, so an anchor whose objectness is below the threshold cannot pass.
    anchors = np.flatnonzero(output[:, 4] >= score_threshold)
    classes = output[anchors, 5:]
    class_ids = classes.argmax(axis=1)  # of NaN, where there is one
    scores = output[anchors, 4] * classes[np.arange(len(anchors)), class_ids]
    passed = np.flatnonzero((scores >= score_threshold) & (scores < np.inf))
    anchors, class_ids, scores = anchors[passed], class_ids[passed], scores[passed]
    boxes = np.asfortranarray(output[anchors, :4])  # by columns: NumPy is quicker along many boxes than along 4 values
    if not spec.decoded:
        cells, strides = known_grid(spec.input_size, spec.strides)
        boxes = decode(boxes, cells[anchors], strides[anchors])
    return _suppress(corners(boxes), scores, class_ids, ratio, nms_threshold)


def read_best(rows: Floats, ratio: float, spec: ModelSpec, score_threshold: float, nms_threshold: float) -> Detections:
    """As `detect_one`, of the rows (K, 6) of a graph that ends in the best anchors; see `best_rows`."""
    rows = sound_rows(rows[rows[:, 4] >= score_threshold], spec.num_classes)
    return _suppress(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64), ratio, nms_threshold)


def _suppress(
    xyxy: Floats, scores: Floats, class_ids: npt.NDArray[np.int64], ratio: float, nms_threshold: float
) -> Detections:
    """What NMS leaves of candidates in input pixels, in pixels of the original image."""
    original = xyxy / np.float32(ratio)
    if not np.isfinite(original).all():  # raw sizes are exponents, which can overflow
        finite = np.isfinite(original).all(axis=1)
        xyxy, original, scores, class_ids = xyxy[finite], original[finite], scores[finite], class_ids[finite]
    kept = non_maximum_suppression(xyxy, scores, class_ids, nms_threshold)
    return Detections(original[kept], scores[kept], class_ids[kept])


def best_rows(output: Floats, count: int) -> Floats:
    """What a graph with TopK gives for a decoded output: (N, A, 5 + C) to (N, count, 6), best first.

    A row is left, top, right, bottom, confidence, class index.
    """
    class_ids = output[..., 5:].argmax(axis=-1)[..., None]
    with np.errstate(over="ignore", invalid="ignore"):
        scores = output[..., 4:5] * np.take_along_axis(output[..., 5:], class_ids, axis=-1)
        rows = np.concatenate([corners(output[..., :4]), scores, class_ids.astype(np.float32)], axis=-1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(rows, order, axis=1)


def split_rows(rows: Floats, ratios: Sequence[float], score_threshold: float, num_classes: int) -> list[Detections]:
    """Read the output of a graph with NMS inside.

    rows: (M, 7) float32, best first: index of the image in the batch, left, top, right, bottom in input pixels,
    confidence, class index.
    """
    rows = rows[rows[:, 5] >= score_threshold]
    found = []
    for index, ratio in enumerate(ratios):
        own = rows[rows[:, 0] == index]
        own[:, 1:5] /= np.float32(ratio)
        own = sound_rows(own, num_classes)
        found.append(Detections(np.ascontiguousarray(own[:, 1:5]), own[:, 5], own[:, 6].astype(np.int64)))
    return found


def sound_rows(rows: Floats, num_classes: int) -> Floats:
    """The rows (n, k) in which every value is a number, and the last one a class."""
    class_ids = rows[:, -1]
    return rows[np.isfinite(rows).all(axis=1) & (class_ids >= 0) & (class_ids < num_classes)]


def clip(found: Detections, size: tuple[int, int]) -> Detections:
    """The boxes cut at the edges of their image (height, width); those without any area in it are dropped."""
    xyxy = np.empty_like(found.xyxy)
    np.clip(found.xyxy[:, ::2], 0, size[1], out=xyxy[:, ::2])
    np.clip(found.xyxy[:, 1::2], 0, size[0], out=xyxy[:, 1::2])
    inside = (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1)
    return Detections(xyxy[inside], found.confidence[inside], found.class_id[inside])


def postprocess(
    output: npt.NDArray[Any],
    ratios: Sequence[float],
    spec: ModelSpec,
    score_threshold: float,
    nms_threshold: float,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> list[Detections]:
    """An artifact's output for N letterboxed images to the detections of each.

    Keeps anchors whose objectness x best class score is at least `score_threshold`, one class an anchor, then
    suppresses within each class. Scores of exactly 0 are dropped; nothing caps the number of detections. Source:
    yolox/utils/boxes.py, `postprocess`. With NMS in the graph, its own `nms_threshold` holds.

    sizes: (height, width) of each original image, to which boxes are clipped at the end (see `clip`); None leaves them
    as the network gives them, which the official evaluation measures.

    NaN and infinity detect nothing: an anchor or row whose score, box (in pixels of the original image too) or, of a
    row, class is NaN or infinite is dropped before NMS, where it could suppress others; so is a row of a class that
    there is not. A class score that is NaN makes its anchor's score NaN. NMS and TopK in a graph come before that.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # infinity minus infinity, say: what is dropped may be computed
        if spec.nms is not None:
            found = split_rows(output, ratios, score_threshold, spec.num_classes)
        else:
            read = detect_one if spec.topk is None else read_best
            each = zip(output, ratios, strict=True)
            found = [read(one, ratio, spec, score_threshold, nms_threshold) for one, ratio in each]
    return found if sizes is None else [clip(one, size) for one, size in zip(found, sizes, strict=True)]

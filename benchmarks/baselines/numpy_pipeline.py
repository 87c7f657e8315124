"""What stands around the network in a plain Python program: NumPy, as the official ONNX Runtime demo goes about it.

Written anew and as plainly: grids made at each call, scores of every anchor and class, a loop for NMS. Facts from
yolox/data/data_augment.py (`preproc`), yolox/utils/demo_utils.py and demo/ONNXRuntime/onnx_inference.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from runtimes.detections import Detections
from runtimes.preprocess import Image

Floats = npt.NDArray[np.float32]
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Rules:
    """What makes a detection of a prediction. The defaults are those of the official demo.

    class_aware: boxes suppress those of their own class only. pixel: what is added to the sides of boxes and of what
    they share; 1 counts pixels, the IoU proper has 0.
    """

    score_threshold: float = 0.1
    nms_threshold: float = 0.45
    class_aware: bool = False
    pixel: int = 1


OFFICIAL = Rules()
CONTRACT = Rules(score_threshold=0.25, nms_threshold=0.65, class_aware=True, pixel=0)  # what `runtimes` does
NANO_SIZE: Size = (416, 416)


def letterbox(image: Image, size: Size) -> tuple[Image, float]:
    """The image in the top-left corner of a grey canvas (H, W, 3) uint8, and the ratio that boxes are divided by."""
    canvas: Image = np.ones((*size, 3), np.uint8) * 114
    ratio = min(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = int(image.shape[0] * ratio), int(image.shape[1] * ratio)
    canvas[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return canvas, ratio


def network_input(image: Image, size: Size) -> tuple[Floats, float]:
    """(1, 3, H, W) float32, BGR, 0..255, and the ratio."""
    canvas, ratio = letterbox(image, size)
    return np.ascontiguousarray(canvas.transpose(2, 0, 1), dtype=np.float32)[None], ratio


def detections(output: Floats, size: Size, ratio: float, rules: Rules) -> Detections:
    """output: that of the network for one image (A, 5 + C), boxes not decoded; it is overwritten."""
    decode(output, size)
    boxes = output[:, :4]
    xyxy = np.empty_like(boxes)
    xyxy[:, 0] = boxes[:, 0] - boxes[:, 2] / 2
    xyxy[:, 1] = boxes[:, 1] - boxes[:, 3] / 2
    xyxy[:, 2] = boxes[:, 0] + boxes[:, 2] / 2
    xyxy[:, 3] = boxes[:, 1] + boxes[:, 3] / 2
    xyxy /= ratio
    return select(xyxy, output[:, 4:5] * output[:, 5:], rules)


def decode(output: Floats, size: Size) -> None:
    """Turn the boxes of an output (A, 5 + C) into (cx, cy, w, h) in input pixels, in place."""
    grids, strides = [], []
    for stride in (8, 16, 32):
        columns, rows = np.meshgrid(np.arange(size[1] // stride), np.arange(size[0] // stride))
        grids.append(np.stack((columns, rows), axis=2).reshape(-1, 2))
        strides.append(np.full((columns.size, 1), stride))
    grid, steps = np.concatenate(grids), np.concatenate(strides)
    output[:, :2] = (output[:, :2] + grid) * steps
    output[:, 2:4] = np.exp(output[:, 2:4]) * steps


def select(xyxy: Floats, scores: Floats, rules: Rules) -> Detections:
    """The best class of each anchor, a threshold, NMS. xyxy: (A, 4); scores: (A, C)."""
    class_ids = scores.argmax(axis=1)
    confidence = scores[np.arange(len(scores)), class_ids]
    passed = confidence > rules.score_threshold
    xyxy, confidence, class_ids = xyxy[passed], confidence[passed], class_ids[passed]
    if not rules.class_aware:
        kept = np.array(suppress(xyxy, confidence, rules.nms_threshold, rules.pixel), np.intp)
        return Detections(xyxy[kept], confidence[kept], class_ids[kept])
    found = []
    for class_id in np.unique(class_ids):
        own = np.flatnonzero(class_ids == class_id)
        found.append(own[suppress(xyxy[own], confidence[own], rules.nms_threshold, rules.pixel)])
    kept = np.concatenate([np.zeros(0, np.intp), *found])
    kept = kept[np.argsort(-confidence[kept], kind="stable")]
    return Detections(xyxy[kept], confidence[kept], class_ids[kept])


def suppress(xyxy: Floats, scores: Floats, threshold: float, pixel: int = 1) -> list[int]:
    """Greedy NMS: the indices that stay, best first. xyxy: (n, 4); scores: (n,)."""
    left, top, right, bottom = xyxy.T
    areas = (right - left + pixel) * (bottom - top + pixel)
    order, kept = scores.argsort()[::-1], []
    while order.size > 0:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        width = np.minimum(right[best], right[rest]) - np.maximum(left[best], left[rest]) + pixel
        height = np.minimum(bottom[best], bottom[rest]) - np.maximum(top[best], top[rest]) + pixel
        shared = np.maximum(0, width) * np.maximum(0, height)
        order = rest[shared / (areas[best] + areas[rest] - shared) <= threshold]
    return kept

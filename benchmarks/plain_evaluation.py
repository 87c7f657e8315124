"""What evaluation is measured against: COCO's figures by pycocotools, and the official postprocessing in NumPy.

Source: yolox/evaluators/coco_evaluator.py, `convert_to_coco_format` and `evaluate_prediction`; yolox/utils/boxes.py,
`postprocess`, whose `batched_nms` is torchvision's.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from runtimes.detections import Detections
from runtimes.postprocess import Floats
from yolox_deploy.data.dataset import Dataset, LabelledImage
from yolox_deploy.evaluator import CocoFigures, Evaluation, class_metrics
from yolox_deploy.results import coco_results


def plain_evaluation(dataset: Dataset, found: Sequence[Detections], categories: Sequence[int]) -> Evaluation:
    """As `coco_evaluation`, of at least one detection, by pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    entries = [
        entry
        for image, one in zip(dataset.images, found, strict=True)
        for entry in coco_results(one, image.image_id, categories, dataset.class_names)
    ]
    truth = COCO()
    truth.dataset = coco_truth(dataset)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints tables of its own
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(entries), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = CocoFigures(*(float(value) for value in evaluation.stats))
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return Evaluation(figures, precision, class_metrics(dataset, precision))


def coco_truth(dataset: Dataset) -> dict[str, list[dict[str, Any]]]:
    """A data set in COCO's format. Annotations are numbered from 1: pycocotools takes id 0 for "none"."""
    annotations = [entry for image in dataset.images for entry in _annotations(image, dataset.category_ids)]
    return {
        "images": [
            {"id": image.image_id, "file_name": image.path.name, "height": image.size[0], "width": image.size[1]}
            for image in dataset.images
        ],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, 1)],
        "categories": [{"id": number, "name": name} for number, name in dataset.categories.items()],
    }


def _annotations(image: LabelledImage, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    boxes = np.concatenate([image.boxes[:, :2], image.boxes[:, 2:] - image.boxes[:, :2]], axis=1).tolist()
    columns = zip(boxes, image.class_ids.tolist(), image.area.tolist(), image.crowd.tolist(), strict=True)
    return [
        {
            "image_id": image.image_id,
            "category_id": category_ids[class_id],
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
        }
        for box, class_id, area, crowd in columns
    ]


def plain_postprocess(output: Floats, ratio: float, score_threshold: float, nms_threshold: float) -> Detections:
    """As `postprocess`, for one image with decoded boxes, (A, 5 + C)."""
    boxes = np.empty_like(output[:, :4])
    boxes[:, 0] = output[:, 0] - output[:, 2] / 2
    boxes[:, 1] = output[:, 1] - output[:, 3] / 2
    boxes[:, 2] = output[:, 0] + output[:, 2] / 2
    boxes[:, 3] = output[:, 1] + output[:, 3] / 2
    class_ids = output[:, 5:].argmax(axis=1)
    scores = output[:, 4] * output[:, 5:].max(axis=1)
    passed = scores >= score_threshold
    boxes, scores, class_ids = boxes[passed], scores[passed], class_ids[passed]
    kept = plain_batched_nms(boxes, scores, class_ids, nms_threshold)
    return Detections(boxes[kept] / np.float32(ratio), scores[kept], class_ids[kept])


def plain_batched_nms(
    boxes: Floats, scores: Floats, class_ids: npt.NDArray[np.int64], threshold: float
) -> npt.NDArray[np.intp]:
    """As `non_maximum_suppression`: classes are set apart by shifting their boxes, and one box after another, the best
    first, drops those that are left and overlap it."""
    if len(boxes) == 0:
        return np.zeros(0, np.intp)
    shifted = boxes + class_ids[:, None] * (boxes.max() - boxes.min() + 1.0).astype(np.float64)
    left, top, right, bottom = shifted.T
    areas = (right - left) * (bottom - top)
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        width = np.minimum(right[best], right[order]) - np.maximum(left[best], left[order])
        height = np.minimum(bottom[best], bottom[order]) - np.maximum(top[best], top[order])
        shared = width.clip(0) * height.clip(0)
        order = order[shared / (areas[best] + areas[order] - shared) <= threshold]
    return np.array(kept, np.intp)

"""Detections in COCO's results format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from runtimes.detections import Detections


def coco_results(detections: Detections, image_id: int | str, categories: Sequence[int]) -> list[dict[str, Any]]:
    """One entry a detection: image_id, category_id, bbox as left, top, width, height, score.

    categories: the category id of each class index.
    """
    return [
        {
            "image_id": image_id,
            "category_id": categories[class_id],
            "bbox": [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])],
            "score": confidence,
        }
        for box, confidence, class_id in detections
    ]


def results_json(results: Sequence[dict[str, Any]]) -> str:
    """One entry a line. Twice as quick as an indented file, which counts where somebody waits after Ctrl-C."""
    return "[" + ",".join(f"\n {json.dumps(entry)}" for entry in results) + "\n]\n"

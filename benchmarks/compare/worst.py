"""The images that an artifact and its reference disagree on most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from exporters.matching import match
from runtimes.detections import Detections
from runtimes.preprocess import Image
from yolox_deploy.data.dataset import Dataset

SHOWN_SCORE = 0.3
WORST_IMAGES = 6

Found = Sequence[Detections]


@dataclass(frozen=True, eq=False)
class WorstImage:
    """An image that an artifact and its reference disagree on most. artifact: its name in the table."""

    artifact: str
    image: Image
    expected: Detections
    found: Detections
    class_names: tuple[str, ...]


def worst_images(
    dataset: Dataset, truth: Found, candidates: Mapping[str, Found], class_names: tuple[str, ...]
) -> list[WorstImage]:
    """The images with the largest disagreement, the worst first, no image twice.

    truth, candidates: the detections in every image of the data set, of the reference and of each artifact by name.
    """
    ranked = sorted(
        (
            (disagreement(expected, found), name, index)
            for name, found_by in candidates.items()
            for index, (expected, found) in enumerate(zip(truth, found_by, strict=True))
        ),
        reverse=True,
    )
    chosen: list[WorstImage] = []
    used: set[int] = set()
    images = dataset.read_images()
    for score, name, index in ranked:
        if score <= 0 or len(chosen) == WORST_IMAGES:
            break
        if index in used:
            continue
        used.add(index)
        expected, found = confident(truth[index]), confident(candidates[name][index])
        chosen.append(WorstImage(name, images[index], expected, found, class_names))
    return chosen


def confident(detections: Detections) -> Detections:
    shown = detections.confidence >= SHOWN_SCORE
    return Detections(detections.xyxy[shown], detections.confidence[shown], detections.class_id[shown])


def disagreement(expected: Detections, found: Detections) -> float:
    """The confidence of what only one side has, and the differences of what both have, of confident detections."""
    left, right = confident(expected), confident(found)
    pairs = match(left, right)
    alone = left.confidence.sum() + right.confidence.sum()
    alone -= left.confidence[pairs[:, 0]].sum() + right.confidence[pairs[:, 1]].sum()
    return float(alone + np.abs(left.confidence[pairs[:, 0]] - right.confidence[pairs[:, 1]]).sum())

"""From detections to COCO's figures, by hotcoco: pycocotools' numbers to the last bit, a hundred times sooner."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from runtimes.detections import Detections

from .data.dataset import Dataset

if TYPE_CHECKING:
    from hotcoco import COCO

IOUS, RECALLS = 10, 101  # 0.50:0.95 and 0:1, at which COCO takes the precision


@dataclass(frozen=True)
class CocoFigures:
    """Average precision and recall over IoU 0.50:0.95 as fractions. Names as COCO's: s, m, l are object sizes."""

    AP: float
    AP50: float
    AP75: float
    APs: float
    APm: float
    APl: float
    AR1: float
    AR10: float
    AR100: float
    ARs: float
    ARm: float
    ARl: float

    def __str__(self) -> str:
        rows = [f"{name:>6}  {value:6.4f}" for name, value in asdict(self).items()]
        return "\n".join(f"{left}    {right}" for left, right in zip(rows[:6], rows[6:], strict=True))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """figures: -1 where there are no such objects. precision: (10, 101, C) float64, at each IoU 0.50:0.95 and recall
    0:1 of each category, for objects of all sizes and at most 100 detections an image; -1 without objects."""

    figures: CocoFigures
    precision: npt.NDArray[np.float64]


def coco_evaluation(dataset: Dataset, found: Sequence[Detections], categories: Sequence[int]) -> Evaluation:
    """Measure the detections in every image of the data set, in its order. All is 0 where nothing was found at all.

    categories: the category id of each class index.
    """
    if not any(map(len, found)):
        return Evaluation(CocoFigures(*[0.0] * 12), np.zeros((IOUS, RECALLS, len(dataset.categories))))
    from hotcoco import COCOeval

    # Numbered in ascending order of id, which decides between equal scores: ids themselves may not fit into a float.
    images = np.argsort(np.argsort([image.image_id for image in dataset.images]))
    truth = _truth(dataset, images)
    evaluation = COCOeval(truth, truth.load_res(_results(dataset, found, categories, images)), "bbox")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a table of its own
        evaluation.run()
    arrays = evaluation.eval
    assert arrays is not None
    figures = CocoFigures(*(float(value) for value in evaluation.stats))
    return Evaluation(figures, arrays["precision"][:, :, :, 0, -1])


def _truth(dataset: Dataset, images: npt.NDArray[np.intp]) -> COCO:
    """The data set's objects. images: the number of each image, (n,); categories are numbered as they stand."""
    from hotcoco import COCO

    boxes = np.concatenate([image.boxes for image in dataset.images])
    return COCO.from_arrays(
        [{"id": number} for number in images.tolist()],
        [{"id": number, "name": name} for number, name in enumerate(dataset.class_names)],
        np.repeat(images, [len(image.boxes) for image in dataset.images]),
        np.concatenate([image.class_ids for image in dataset.images]),
        np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1),
        area=np.concatenate([image.area for image in dataset.images]),
        iscrowd=np.concatenate([image.crowd for image in dataset.images]),
    )


def _results(
    dataset: Dataset, found: Sequence[Detections], categories: Sequence[int], images: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """COCO's results as an array, (N, 7): image, left, top, width, height, score, category."""
    columns = np.array([dataset.category_ids.index(number) for number in categories])
    boxes = np.concatenate([one.xyxy for one in found])
    rows = np.empty((len(boxes), 7))
    rows[:, 0] = np.repeat(images, [len(one) for one in found])
    rows[:, 1:3] = boxes[:, :2]
    rows[:, 3:5] = boxes[:, 2:] - boxes[:, :2]
    rows[:, 5] = np.concatenate([one.confidence for one in found])
    rows[:, 6] = columns[np.concatenate([one.class_id for one in found])]
    return rows

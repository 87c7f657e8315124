"""From detections to COCO's metrics, by hotcoco: pycocotools' numbers to the last bit, a hundred times sooner."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from runtimes.detections import Detections

from .categories import Categories, common_classes
from .data.dataset import Dataset

if TYPE_CHECKING:
    from hotcoco import COCO

MISSING = "-: there are no such objects in the data"


def points(fraction: float) -> str:
    """Format AP or AR for people: 0 to 100, "-" where there are no objects to measure it on."""
    return f"{100 * fraction:.2f}" if fraction >= 0 else "-"


@dataclass(frozen=True)
class CocoFigures:
    """Average precision and recall over IoU 0.50:0.95 as fractions. Names as COCO's: s, m, l are object sizes.

    -1 where the data has no such objects, as COCO has it. Printed in points, 0 to 100.
    """

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
        rows = [f"{name:>6}  {points(value):>6}" for name, value in asdict(self).items()]
        lines = [f"{left}    {right}" for left, right in zip(rows[:6], rows[6:], strict=True)]
        return "\n".join([*lines, MISSING] if -1 in asdict(self).values() else lines)


@dataclass(frozen=True)
class ClassMetrics:
    """One class. objects: those that count (no crowds), in so many images; AP, AP50: fractions, -1 without objects."""

    name: str
    category_id: int
    images: int
    objects: int
    AP: float
    AP50: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """figures: of the K classes that model and data have in common. precision: (10, 101, K) float64, at each IoU
    0.50:0.95 and recall 0:1 of each of them, ascending in category id, for objects of all sizes and at most 100
    detections an image; -1 without objects. classes: K, in the same order."""

    figures: CocoFigures
    precision: npt.NDArray[np.float64]
    classes: tuple[ClassMetrics, ...]


def coco_evaluation(dataset: Dataset, found: Sequence[Detections], categories: Categories) -> Evaluation:
    """Measure the detections in every image of the data set, in its order.

    categories: the category id of each class index, None for a class that the data set does not have: its detections
    are not counted, and neither are objects of other categories. See `match_categories`.
    """
    from hotcoco import COCOeval

    dataset, found = common_classes(dataset, found, categories)
    # Numbered in ascending order of id, which decides between equal scores: ids themselves may not fit into a float.
    images = np.argsort(np.argsort([image.image_id for image in dataset.images]))
    truth = _truth(dataset, images)
    evaluation = COCOeval(truth, truth.load_res(_results(found, images)), "bbox")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a table of its own
        evaluation.run()
    arrays = evaluation.eval
    assert arrays is not None
    figures = CocoFigures(*(float(value) for value in evaluation.stats))
    precision = arrays["precision"][:, :, :, 0, -1]
    return Evaluation(figures, precision, class_metrics(dataset, precision))


def class_metrics(dataset: Dataset, precision: npt.NDArray[np.float64]) -> tuple[ClassMetrics, ...]:
    """Return those of each class of the data set from its precision, (10, 101, K): COCO's mean over IoU and recall."""
    counted = [image.class_ids[~image.crowd] for image in dataset.images]
    objects = np.bincount(np.concatenate(counted), minlength=len(dataset.categories))
    images = np.bincount(np.concatenate([np.unique(one) for one in counted]), minlength=len(dataset.categories))
    return tuple(
        ClassMetrics(
            name=name,
            category_id=number,
            images=int(images[index]),
            objects=int(objects[index]),
            AP=float(precision[:, :, index].mean()),
            AP50=float(precision[0, :, index].mean()),
        )
        for index, (number, name) in enumerate(dataset.categories.items())
    )


def class_table(classes: Sequence[ClassMetrics]) -> str:
    """Format the metrics of each class for people, AP in points."""
    width = max(len("class"), *(len(one.name) for one in classes))
    rows = [
        f"{one.name:<{width}}  {one.images:>6}  {one.objects:>7}  {points(one.AP):>6}  {points(one.AP50):>6}"
        for one in classes
    ]
    missing = [MISSING] if any(one.objects == 0 for one in classes) else []
    return "\n".join([f"{'class':<{width}}  {'images':>6}  {'objects':>7}  {'AP':>6}  {'AP50':>6}", *rows, *missing])


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


def _results(found: Sequence[Detections], images: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """COCO's results as an array, (N, 7): image, left, top, width, height, score, category.

    Where nothing was found, one box without area, which is worth as much: hotcoco takes no empty array.
    """
    boxes = np.concatenate([one.xyxy for one in found])
    if not len(boxes):
        return np.zeros((1, 7))
    rows = np.empty((len(boxes), 7))
    rows[:, 0] = np.repeat(images, [len(one) for one in found])
    rows[:, 1:3] = boxes[:, :2]
    rows[:, 3:5] = boxes[:, 2:] - boxes[:, :2]
    rows[:, 5] = np.concatenate([one.confidence for one in found])
    rows[:, 6] = np.concatenate([one.class_id for one in found])
    return rows

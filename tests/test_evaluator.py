"""COCO's figures are pycocotools', wherever they might differ: ties, crowds, sizes at a boundary, what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.made_detections import made_results
from benchmarks.plain_evaluation import plain_evaluation
from runtimes import Detections
from yolox_deploy.data.dataset import Dataset, LabelledImage, labelled_image
from yolox_deploy.evaluator import Evaluation, coco_evaluation

MadeSet = tuple[Dataset, list[Detections]]
NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def assert_same(ours: Evaluation, expected: Evaluation) -> None:
    assert ours.figures == expected.figures  # to the last bit
    assert np.array_equal(ours.precision, expected.precision)


def changed(made: MadeSet, image: Callable[[LabelledImage], LabelledImage]) -> MadeSet:
    dataset, found = made
    return replace(dataset, images=tuple(map(image, dataset.images))), found


def as_made(made: MadeSet) -> MadeSet:
    return made


def more_than_a_hundred_of_a_class(made: MadeSet) -> MadeSet:
    """Two classes of five; the other three have neither objects nor detections."""
    dataset, found = changed(made, lambda image: replace(image, class_ids=image.class_ids % 2 + 1))
    few = replace(dataset, categories={7: "a", 30: "b", 31: "c", 50: "d", 90: "e"})
    return few, [replace(one, class_id=one.class_id % 2 + 1) for one in found]


def ties(made: MadeSet) -> MadeSet:
    """Scores of one digit in hundreds of detections of two classes, so that nearly all are equal to others."""
    dataset, found = more_than_a_hundred_of_a_class(made)
    return dataset, [replace(one, confidence=one.confidence.round(1)) for one in found]


def crowds(made: MadeSet) -> MadeSet:
    return changed(made, lambda image: replace(image, crowd=np.arange(len(image.boxes)) % 3 == 0))


def areas_at_a_boundary(made: MadeSet) -> MadeSet:
    """Objects, and boxes that miss them, of exactly 32 x 32 and 96 x 96 pixels."""

    def square(boxes: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        corners = boxes[:, :2].round()
        return np.concatenate([corners, corners + np.where(np.arange(len(boxes)) % 2, 32, 96)[:, None]], axis=1)

    dataset, found = made
    images = tuple(
        replace(image, boxes=square(image.boxes), area=np.where(np.arange(len(image.boxes)) % 2, 1024.0, 9216.0))
        for image in dataset.images
    )
    return replace(dataset, images=images), [replace(one, xyxy=square(one.xyxy)) for one in found]


def empty_images(made: MadeSet) -> MadeSet:
    """A third without objects, a third without detections, some with neither."""
    dataset, found = made
    images = tuple(
        labelled_image(image.image_id, image.path, image.size, [], []) if number % 3 == 0 else image
        for number, image in enumerate(dataset.images)
    )
    return replace(dataset, images=images), [
        NOTHING if n % 3 == 1 or n % 6 == 0 else one for n, one in enumerate(found)
    ]


def ids_beyond_a_float(made: MadeSet) -> MadeSet:
    """Neighbours among them would be one and the same as float64."""
    return changed(made, lambda image: replace(image, image_id=2**60 + image.image_id))


def boxes_without_area(made: MadeSet) -> MadeSet:
    """Every fourth object and every fourth detection has a height, but no width."""

    def flat(boxes: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return np.where(np.arange(len(boxes))[:, None] % 4 == 0, boxes[:, [0, 1, 0, 3]], boxes)

    dataset, found = changed(made, lambda image: replace(image, boxes=flat(image.boxes)))
    return dataset, [replace(one, xyxy=flat(one.xyxy)) for one in found]


CHANGES = [
    as_made,
    more_than_a_hundred_of_a_class,
    ties,
    crowds,
    areas_at_a_boundary,
    empty_images,
    ids_beyond_a_float,
    boxes_without_area,
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_the_figures_are_those_of_pycocotools(change: Callable[[MadeSet], MadeSet], seed: int) -> None:
    dataset, found = change(made_results(12 + seed, 260, seed))
    expected = plain_evaluation(dataset, found, dataset.category_ids)
    assert expected.figures.AR100 > 0
    assert_same(coco_evaluation(dataset, found, dataset.category_ids), expected)


def test_classes_in_another_order_than_the_categories() -> None:
    dataset, found = made_results(10, 100, 3)
    turned = dataset.category_ids[::-1]
    right = [replace(one, class_id=len(turned) - 1 - one.class_id) for one in found]
    assert_same(coco_evaluation(dataset, right, turned), plain_evaluation(dataset, found, dataset.category_ids))
    assert coco_evaluation(dataset, found, turned).figures.AP < 0.05


def test_what_is_detected_decides_the_figures() -> None:
    """A box moved, a score changed, a detection left out: each is seen."""
    dataset, found = made_results(10, 100, 4)
    before = coco_evaluation(dataset, found, dataset.category_ids).figures
    best, *others = found
    moved = replace(best, xyxy=best.xyxy + np.float32(9))
    scored = replace(best, confidence=best.confidence[::-1])
    fewer = Detections(best.xyxy[30:], best.confidence[30:], best.class_id[30:])
    for one in (moved, scored, fewer):
        after = coco_evaluation(dataset, [one, *others], dataset.category_ids)
        assert after.figures != before
        assert_same(after, plain_evaluation(dataset, [one, *others], dataset.category_ids))


def test_what_is_right_has_an_ap_of_one() -> None:
    image = labelled_image(5, Path("x"), (90, 90), [[10, 10, 50, 60]], [1])
    dataset = Dataset(Path("d"), (image,), {3: "cat", 8: "dog"})
    evaluation = coco_evaluation(dataset, [Detections(image.boxes, np.ones(1), np.ones(1))], dataset.category_ids)
    figures = evaluation.figures
    assert (figures.AP, figures.AP50, figures.APm, figures.AR1, figures.APs) == pytest.approx((1, 1, 1, 1, -1))
    assert evaluation.precision.shape == (10, 101, 2)
    assert (evaluation.precision[:, :, 0] == -1).all() and evaluation.precision[:, :, 1] == pytest.approx(1)


def test_nothing_found_and_nothing_to_find(capfd: pytest.CaptureFixture[str]) -> None:
    dataset, found = made_results(4, 20, 5)
    nothing = coco_evaluation(dataset, [NOTHING] * 4, dataset.category_ids)
    assert astuple(nothing.figures) == (0,) * 12
    objects = np.array([one.objects for one in nothing.classes])
    assert nothing.precision.shape == (10, 101, 80) and 0 < (objects > 0).sum() < 80
    assert (nothing.precision == np.where(objects > 0, 0, -1)).all()
    assert [one.AP for one in nothing.classes] == np.where(objects > 0, 0, -1).tolist()
    bare = replace(dataset, images=tuple(labelled_image(i.image_id, i.path, i.size, [], []) for i in dataset.images))
    assert astuple(coco_evaluation(bare, found, dataset.category_ids).figures) == (-1,) * 12
    assert capfd.readouterr() == ("", ""), "it says nothing by itself"

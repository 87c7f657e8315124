"""Which of a model's classes is which of the data's: by name, said aloud where not all are the same, or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.compare.task import check_same_classes
from benchmarks.made_detections import made_results
from runtimes import COCO_CATEGORY_IDS, COCO_CLASS_NAMES, Detections, InvalidInput, ModelSpec
from yolox_deploy.categories import check_classes, class_warnings, common_classes, match_categories
from yolox_deploy.console import run
from yolox_deploy.data.dataset import Dataset, labelled_image
from yolox_deploy.evaluator import coco_evaluation
from yolox_deploy.options import default_class_names
from yolox_deploy.training.confusion import confusion_matrix

VOC = ("aeroplane", "bicycle", "car", "diningtable", "motorbike", "pottedplant", "sofa", "tvmonitor")


def model(*names: str) -> ModelSpec:
    return ModelSpec("m", (64, 64), names)


def data(*names: str, objects: tuple[int, ...] = (0,)) -> Dataset:
    """Categories 10, 20, 30 and so on; one image with an object of each of these classes."""
    boxes = [[10.0, 10, 30, 30]] * len(objects)
    image = labelled_image(1, Path("a.png"), (64, 64), boxes, objects)
    return Dataset(Path("d"), (image,), {10 * number: name for number, name in enumerate(names, 1)})


@pytest.mark.parametrize(
    ("classes", "names", "expected"),
    [
        (("cat", "owl"), ("owl", "cat"), (20, 10)),
        (("cat",), ("owl", "cat"), (20,)),
        (("cat", "dog", "owl"), ("owl", "cat"), (20, None, 10)),
        (("Traffic-Light", "CAT"), ("cat", "traffic light"), (20, 10)),
        (("traffic_light",), ("Traffic  Light",), (10,)),
        (("cafe\u0301",), ("caf\xe9",), (10,)),
        (("Car", "car", "bus"), ("car", "bus"), (None, 10, 20)),
        (("car", "bus"), ("Car", "CAR", "bus"), (None, 30)),
        (("class 0", "class 1"), ("class 0", "class 1"), (10, 20)),
        (("class 0",), ("cat",), (10,)),
        (("sofa", "cat"), ("couch", "cat"), (None, 20)),
        (("pottedplant", "cat"), ("potted plant", "cat"), (None, 20)),
    ],
)
def test_names_are_matched(classes: tuple[str, ...], names: tuple[str, ...], expected: tuple[int | None, ...]) -> None:
    dataset = data(*names, objects=tuple(range(len(names))))
    assert match_categories(model(*classes), dataset) == expected
    equal = expected == dataset.category_ids and classes == names
    if set(classes) == set(names):
        assert class_warnings(model(*classes), dataset, expected) == (), "orders may differ"
    else:
        assert not equal and class_warnings(model(*classes), dataset, expected)


@pytest.mark.parametrize(
    ("classes", "names", "says"),
    [
        (
            default_class_names(3)[0],
            ("car", "chair", "person"),
            r"not name its classes.*order of training.*--class-names FILE.*car",
        ),
        (default_class_names(2)[0], ("class 1", "class 0"), "not name its classes"),
        (default_class_names(3)[0], ("class 1", "class 2", "class 3"), "not name its classes"),
        (default_class_names(1)[0], ("cat", "dog"), "not name its classes"),
        (("cat", "cat", "dog"), ("cat", "dog"), "'cat' twice"),
        (COCO_CLASS_NAMES, ("helmet", "vest"), r"no class in common.*person.*and 75 more.*helmet, vest"),
        (("persons", "cars"), ("person", "tree"), "'persons' and 'person'"),
        (VOC, ("airplane", "couch"), "'aeroplane' and 'airplane'; 'sofa' and 'couch'"),
        (("Boxes",), ("bóxes",), "in common"),
    ],
)
def test_nothing_is_guessed(classes: tuple[str, ...], names: tuple[str, ...], says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        match_categories(model(*classes), data(*names))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "objects"),
    [(("cat", "dog"), ()), (("cat",), (1, 1)), (("class 0",), ())],
    ids=["none", "others", "one"],
)
def test_nothing_to_measure(classes: tuple[str, ...], objects: tuple[int, ...]) -> None:
    names = ("cat",) if len(objects) == 0 and len(classes) == 1 else ("cat", "dog")
    with pytest.raises(InvalidInput, match=r"nothing to measure.*1 images of d.*cat"):
        match_categories(model(*classes), data(*names, objects=objects))


def test_a_crowd_is_nothing_to_measure() -> None:
    dataset = data("cat")
    (image,) = dataset.images
    with pytest.raises(InvalidInput, match="nothing to measure"):
        match_categories(model("cat"), replace(dataset, images=(replace(image, crowd=np.ones(1, bool)),)))


def test_what_is_left_out_is_said() -> None:
    dataset = data(*COCO_CLASS_NAMES)
    (only,) = class_warnings(model("person"), dataset, match_categories(model("person"), dataset))
    assert "1 of the 80 classes" in only and "bicycle, car" in only and "74 more" in only
    (more,) = class_warnings(
        model(*COCO_CLASS_NAMES), data("person"), match_categories(model(*COCO_CLASS_NAMES), data("person"))
    )
    assert "79 of the model's 80 classes" in more and "bicycle" in more
    both = class_warnings(model("person", "sofa"), data("person", "couch"), (10, None))
    assert len(both) == 2 and "'sofa' and 'couch'" in both[0]
    (one,) = class_warnings(model("class 0"), data("cat"), (10,))
    assert "'cat'" in one
    (other,) = class_warnings(model("Cat"), data("cat"), (10,))
    assert "'Cat' is taken for 'cat'" in other
    assert all("\n" not in sentence for sentence in (only, more, *both, one, other))


def test_a_warning_is_printed_once_in_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    from yolox_deploy.data.__main__ import DataConfig

    def command(config: DataConfig) -> None:
        for _ in range(3):
            check_classes(model("cat"), data("cat", "dog"))

    for _ in range(2):
        assert run("x", DataConfig, command, ["somewhere"]) == 0
        printed = capsys.readouterr()
        assert printed.err.count("warning: ") == 1 and printed.err.count("\n") == 1 and printed.out == ""


def test_only_what_both_have_is_counted() -> None:
    """As if the model, and the data, had no other classes."""
    dataset, found = made_results(10, 100, 6)
    counted = [3, 0, 62]
    some = [
        number if number in {dataset.category_ids[index] for index in counted} else None
        for number in dataset.category_ids
    ]
    ours = coco_evaluation(dataset, found, some)
    everything = coco_evaluation(dataset, found, dataset.category_ids)
    assert [one.category_id for one in ours.classes] == [number for number in some if number is not None]
    assert ours.precision.shape == (10, 101, 3)
    kept = sorted(counted)
    assert np.array_equal(ours.precision, everything.precision[:, :, kept])
    assert ours.classes == tuple(everything.classes[index] for index in kept)
    measured = [one.AP for one in ours.classes if one.objects]
    assert pytest.approx(np.mean(measured)) == ours.figures.AP and ours.figures.AP != everything.figures.AP


def test_a_model_of_other_classes_in_another_order() -> None:
    """Its index of a class is not the data's, and one of its classes is not there at all."""
    dataset = data("cat", "dog", "owl", objects=(0, 2))
    boxes = np.array([[10, 10, 30, 30]] * 3, np.float32)
    found = [Detections(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 1, 2]))]  # owl, fox, cat
    categories = match_categories(model("owl", "fox", "cat"), dataset)
    assert categories == (30, None, 10)
    common, counted = common_classes(dataset, found, categories)
    assert common.categories == {10: "cat", 30: "owl"}
    assert common.images[0].class_ids.tolist() == [0, 1] and counted[0].class_id.tolist() == [1, 0]
    evaluation = coco_evaluation(dataset, found, categories)
    assert pytest.approx(1) == evaluation.figures.AP
    assert [(one.name, one.images, one.objects) for one in evaluation.classes] == [("cat", 1, 1), ("owl", 1, 1)]
    matrix = confusion_matrix(common.images, counted, range(2), 2)
    assert matrix.sum() == 2 and matrix[2].sum() == matrix[:, 2].sum() == 0, "the fox is neither right nor wrong"


def test_artifacts_of_other_classes_are_not_compared() -> None:
    dataset = data("cat", "dog", objects=(0, 1))
    specs = {"a": model("cat", "dog"), "b": model("dog", "cat")}
    check_same_classes(specs, dataset)
    with pytest.raises(InvalidInput, match=r"c and a do not have the same classes.*'dog'"):
        check_same_classes({**specs, "c": model("cat")}, dataset)


def test_coco_on_coco_has_nothing_to_say() -> None:
    dataset = replace(data(*COCO_CLASS_NAMES), categories=dict(zip(COCO_CATEGORY_IDS, COCO_CLASS_NAMES, strict=True)))
    spec = model(*COCO_CLASS_NAMES)
    assert match_categories(spec, dataset) == COCO_CATEGORY_IDS
    assert check_classes(spec, dataset) == ()

"""Every kind of fault that a data set can have, planted in the three formats: loader and doctor go by one rule."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from runtimes.errors import InvalidInput
from tests.data_sets import SPLITS, WRITERS, Object, image
from yolox_deploy import train
from yolox_deploy.data.dataset import MAX_LABELS, check_trainable, truncated
from yolox_deploy.data.faults import RULES, Fault
from yolox_deploy.data.inspection import inspect
from yolox_deploy.data.open import find_splits, open_dataset
from yolox_deploy.data.report import DataReport, Finding
from yolox_deploy.data.store import SampleStore

SIZE = (64, 64)
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Case:
    """A fault that is planted in the training split of a sound data set. place: a part of how the doctor names it."""

    layout: str
    kind: str
    place: str
    plant: Callable[[Path], object]
    count: int = 1


def edit_coco(change: Callable[[dict[str, Any]], object], split: str = "train") -> Callable[[Path], object]:
    def plant(root: Path) -> None:
        file = root / "annotations" / f"instances_{split}.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return plant


def annotate(**fields: Any) -> Callable[[Path], object]:
    """A further annotation of COCO's image 0."""
    entry = {"id": 77, "image_id": 0, "category_id": 10, "bbox": [1, 1, 9, 9]} | fields
    return edit_coco(lambda content: content["annotations"].append(entry))


def group_categories(content: dict[str, Any]) -> None:
    """As Roboflow exports them."""
    for entry in content["categories"]:
        entry["supercategory"] = "animals"
    content["categories"].insert(0, {"id": 0, "name": "animals", "supercategory": "none"})


def replace(file: str, old: str, new: str) -> Callable[[Path], object]:
    def plant(root: Path) -> None:
        text = (root / file).read_text()
        assert old in text
        (root / file).write_text(text.replace(old, new, 1))

    return plant


def append(file: str, text: str) -> Callable[[Path], object]:
    return lambda root: (root / file).write_text((root / file).read_text() + text)


def with_boxes(layout: str, boxes: list[Object]) -> Callable[[Path], object]:
    """The same data set anew, with these in the first image beside two hundred that are sound."""
    sound: list[Object] = [
        ("cat", x, y, x + 5, y + 5) for _ in range(2) for x in range(2, 75, 8) for y in range(0, 55, 6)
    ]
    splits = {**SPLITS, "train": [*SPLITS["train"], ((60, 80), sound[:100]), ((60, 80), sound[100:])]}
    size, objects = splits["train"][0]
    splits["train"][0] = (size, [*objects, *boxes])

    def plant(root: Path) -> None:
        shutil.rmtree(root)
        WRITERS[layout](root, splits)

    return plant


XML, LABELS, TEXT, YAML = "Annotations/train0.xml", "labels/train/0.txt", "ImageSets/Main/train.txt", "data.yaml"


def first_image(layout: str) -> str:
    return {"coco": "train/0.png", "voc": "JPEGImages/train0.png", "yolo": "images/train/0.png"}[layout]


def cut(layout: str) -> Callable[[Path], object]:
    """The first half of the file alone, whose header still says how large it is."""
    return lambda root: (root / first_image(layout)).write_bytes((root / first_image(layout)).read_bytes()[:4000])


def piped(layout: str) -> Callable[[Path], object]:
    """In the place of an image stands a pipe, which would be read for ever."""

    def plant(root: Path) -> None:
        (root / first_image(layout)).unlink()
        os.mkfifo(root / first_image(layout))

    return plant


def copy(layout: str, target: str) -> Callable[[Path], object]:
    return lambda root: shutil.copy(root / first_image(layout), root / target)


def long_strip(layout: str) -> Callable[[Path], object]:
    def plant(root: Path) -> None:
        image(root / first_image(layout), (1, 2000))
        if layout == "coco":
            edit_coco(lambda content: content["images"][0].update(height=1, width=2000))(root)
        if layout == "voc":
            replace(XML, "<width>80</width><height>60</height>", "<width>2000</width><height>1</height>")(root)

    return plant


def turned(root: Path) -> None:
    """A camera that lay: its EXIF data says so, its annotations do not know."""
    exif = Pillow.Exif()
    exif[0x0112] = 6
    Pillow.fromarray(np.zeros((60, 80, 3), np.uint8)).save(root / "train" / "0.png", exif=exif)


def turned_square(layout: str) -> Callable[[Path], object]:
    """The second image, 40 x 40, whose size does not tell on what it was labelled."""
    name = {"coco": "train/1.png", "voc": "JPEGImages/train1.png", "yolo": "images/train/1.png"}[layout]

    def plant(root: Path) -> None:
        exif = Pillow.Exif()
        exif[0x0112] = 6
        Pillow.fromarray(np.zeros((40, 40, 3), np.uint8)).save(root / name, exif=exif)

    return plant


def deep(layout: str) -> Callable[[Path], object]:
    """The first image in 16 bits, of which 12 are used."""
    grey = np.arange(60 * 80, dtype=np.uint16).reshape(60, 80) % 4096
    return lambda root: cv2.imwrite(str(root / first_image(layout)), grey)


def rescaled(scale: Callable[[list[float]], list[float]]) -> Callable[[Path], object]:
    """COCO's boxes in numbers of another meaning; twelve more of them, so that they say something together."""

    def change(content: dict[str, Any]) -> None:
        for number in range(12):
            box = [20.0 + number, 20.0, 50.0, 35.0]
            content["annotations"].append({"id": 50 + number, "image_id": 0, "category_id": 10, "bbox": box})
        for entry in content["annotations"]:
            entry["bbox"] = scale(entry["bbox"])

    return edit_coco(change)


def fractions_in_voc(root: Path) -> None:
    (root / XML).write_text(
        "<annotation><object><name>cat</name><bndbox><xmin>0.1</xmin><ymin>0.2</ymin><xmax>0.5</xmax><ymax>0.7</ymax>"
        "</bndbox></object></annotation>"
    )


def percent(root: Path) -> None:
    """Boxes up to 100 of images of 300 pixels."""
    boxes: list[Object] = [("cat", 8 * n, 50, 8 * n + 11, 99) for n in range(12)]
    shutil.rmtree(root)
    WRITERS["coco"](root, {**SPLITS, "train": [((300, 300), boxes)]})


def many_beyond(layout: str) -> Callable[[Path], object]:
    boxes: list[Object] = [("cat", 70 - n, 5, 90, 30) for n in range(9)]
    small: list[Object] = [("cat", n, 0, n + 2, 9) for n in range(40)]

    def plant(root: Path) -> None:
        shutil.rmtree(root)
        WRITERS[layout](root, {**SPLITS, "train": [((60, 80), [*boxes, *small])]})

    return plant


def again(entry: dict[str, Any]) -> Callable[[Path], object]:
    """COCO's image 0 under another id or name as well, without its boxes."""
    return edit_coco(lambda c: c["images"].append({"id": 9, "file_name": "0.png", "height": 60, "width": 80} | entry))


def linked(layout: str, name: str) -> Callable[[Path], object]:
    """The first image under another name as well, without its boxes."""
    return lambda root: os.link(root / first_image(layout), root / name)


def two_cases_of_a_name(root: Path) -> None:
    """The labels name a third spelling."""
    for name in ("X.png", "x.PNG"):
        image(root / "train" / name, (60, 80))
    edit_coco(lambda c: c["images"].append({"id": 9, "file_name": "x.png", "height": 60, "width": 80}))(root)


def misspelt_class(root: Path) -> None:
    """Once in five; the same for val, so that no class is there alone."""
    shutil.rmtree(root)
    boxes: list[Object] = [("cat", 8, 6 * n, 40, 6 * n + 9) for n in range(5)]
    WRITERS["voc"](root, {"train": [((60, 80), boxes)], "val": [((60, 80), boxes)]})
    for file in (root / "Annotations").iterdir():
        file.write_text(file.read_text().replace(">cat<", ">pesron<", 1).replace(">cat<", ">person<"))


def key_points(root: Path) -> None:
    """Two boxes with two key points of three numbers, of which a polygon could be made."""
    (root / LABELS).write_text("0 0.3 0.35 0.4 0.5 0.2 0.3 2 0.35 0.4 1\n2 0.25 0.35 0.1 0.3 0.25 0.3 2 0.2 0.4 0\n")


BOXES: dict[str, tuple[list[Object], int]] = {
    "box without area": ([("cat", 5, 5, 5, 25), ("dog", 7, 7, 7, 7)], 2),
    "box with negative sides": ([("cat", 30, 5, 10, 25)], 1),
    "box outside its image": ([("cat", 90, 5, 110, 25)], 1),
    "box partly outside": ([("cat", 60, 40, 95, 70)], 1),
    "box too small for the input": ([("cat", 5, 5, 6, 25)], 1),
    "same box twice": ([("cat", 8, 6, 40, 36)], 1),
    "more boxes than training takes": ([("dog", n / 80, 2, 30, 30) for n in range(2000)], 1),
    "box that no anchor is left for": ([("dog", 50 - n / 4, 40, 54 + n / 4, 44) for n in range(30)], 3),
}

CASES = [
    *(
        Case(layout, kind, "0.png", with_boxes(layout, boxes), count)
        for layout in WRITERS
        for kind, (boxes, count) in BOXES.items()
    ),
    *(Case(layout, "unreadable image", "0.png", cut(layout)) for layout in WRITERS),
    *(Case(layout, "unreadable image", "0.png", piped(layout)) for layout in ("voc", "yolo")),
    *(Case(layout, "extreme aspect ratio", "2000 x 1", long_strip(layout)) for layout in WRITERS),
    *(
        Case(layout, "many boxes outside their images", "0.png", with_boxes(layout, [("owl", 90, 1, 99, 9)] * 9))
        for layout in WRITERS
    ),
    Case("coco", "split that cannot be read", "Extra data", append("annotations/instances_train.json", "}")),
    Case("coco", "broken annotation", "images[0]", edit_coco(lambda content: content["images"][0].pop("file_name"))),
    Case("coco", "broken annotation", "images[1]", edit_coco(lambda content: content["images"].insert(1, "1.png"))),
    Case("coco", "broken annotation", "annotations[3]", annotate(bbox=[1, 2, 3])),
    Case("coco", "broken annotation", "annotations[3]", annotate(image_id=[0])),
    *(Case("coco", "broken annotation", "annotations[3]", annotate(iscrowd=value)) for value in ("0", "yes", [0], 2)),
    *(Case("coco", "broken annotation", "annotations[3]", annotate(category_id=value)) for value in (True, 10.5, "10")),
    *(Case("coco", "broken annotation", "images[0]", edit_coco(lambda c, v=value: c["images"][0].update(width=v)))
      for value in (80.5, "80", True)),
    Case("coco", "broken annotation", "annotations[3]", annotate(bbox=[1, 2, 3, 10**400])),
    *(
        Case("coco", "coordinates that are no numbers", "annotation 77", annotate(bbox=[1, 1, value, 5]))
        for value in (float("nan"), float("inf"), "5", None)
    ),
    Case("coco", "coordinates that are no numbers", "annotation 77", annotate(area=float("nan"))),
    Case("coco", "unknown category", "annotation 77", annotate(category_id=13)),
    Case("coco", "unknown image", "annotation 77", annotate(image_id=2)),
    Case("coco", "duplicate category", "10", edit_coco(lambda c: c["categories"].append({"id": 10, "name": "elk"}))),
    Case("coco", "duplicate category", "owl", edit_coco(lambda c: c["categories"].append({"id": 13, "name": "owl"}))),
    Case("coco", "duplicate image id", "1", edit_coco(lambda content: content["images"].append(content["images"][1]))),
    Case("coco", "missing image", "1.png", lambda root: (root / "train/1.png").unlink()),
    Case("coco", "another size than labelled", "60 x 80, which is turned by its EXIF data, labelled as 80 x", turned),
    Case("coco", "crowd region", "0.png", annotate(iscrowd=1)),
    Case("coco", "duplicate annotation id", "1", annotate(id=1)),
    Case("coco", "same image twice", "2.png = 0.png", lambda root: (copy("coco", "train/2.png")(root), edit_coco(
        lambda c: c["images"].append({"id": 2, "file_name": "2.png", "height": 60, "width": 80}))(root))),
    Case("coco", "image in two splits", "1.png = 0.png of train", copy("coco", "val/1.png")),
    Case("coco", "other classes than another split", "val than train",
         edit_coco(lambda content: content["categories"][0].update(name="lynx"), "val")),
    Case("coco", "class names that look alike", "'cat' = 'Cat '",
         edit_coco(lambda content: content["categories"].append({"id": 13, "name": "Cat "}))),
    Case("coco", "nothing to learn from", "instances_train.json", edit_coco(lambda c: c["annotations"].clear())),
    Case("voc", "split that cannot be read", "no folder", lambda root: (root / "JPEGImages").rename(root / "jpegs")),
    Case("voc", "broken annotation", "train0.xml", append(XML, "<")),
    Case("voc", "broken annotation", "train0.xml, object 2", replace(XML, "<name>owl</name>", "")),
    Case("voc", "broken annotation", "val0.xml", append("Annotations/val0.xml", "<")),
    Case("voc", "coordinates that are no numbers", "train0.xml, object 1", replace(XML, ">9<", ">nan<")),
    Case("voc", "coordinates that are no numbers", "train0.xml, object 1", replace(XML, ">9<", ">nine<")),
    Case("voc", "missing image", "train7", append(TEXT, "train7\n")),
    Case("voc", "missing label file", "train0.xml", lambda root: (root / XML).unlink()),
    Case("voc", "two images of one name", "train0", copy("voc", "JPEGImages/train0.jpg")),
    Case("voc", "another size than labelled", "train0.png", replace(XML, "<width>80<", "<width>90<")),
    Case("voc", "image listed twice", "train0", append(TEXT, "train0 1\n")),
    Case("coco", "supercategory without boxes", "'animals' (id 0)", edit_coco(group_categories)),
    Case("voc", "same image twice", "train1.png = train0.png", copy("voc", "JPEGImages/train1.png")),
    Case("voc", "image in two splits", "train0.png of train", append("ImageSets/Main/val.txt", "train0\n")),
    Case("voc", "class names that look alike", "'Cat' = 'cat'", replace(XML, ">owl<", ">Cat<")),
    Case("voc", "class that is not learned", "elk", replace("Annotations/val0.xml", ">cat<", ">elk<")),
    Case("yolo", "split that cannot be read", "nowhere", replace(YAML, "images/train", "nowhere")),
    Case("yolo", "broken annotation", "0.txt:3", append(LABELS, "0 0.5 0.5\n")),
    Case("yolo", "broken annotation", "0.txt", lambda root: (root / LABELS).write_bytes(b"\xff\0")),
    Case("yolo", "coordinates that are no numbers", "0.txt:3", append(LABELS, "0 0.5 nan 0.1 0.1\n")),
    Case("yolo", "coordinates that are no numbers", "0.txt:3", append(LABELS, "0 0.5 0.5 inf 0.1\n")),
    Case("yolo", "coordinates in pixels", "0.txt:3", append(LABELS, "0 40 30 10 10\n")),
    Case("yolo", "unknown category", "0.txt:3", append(LABELS, "3 0.5 0.5 0.1 0.1\n")),
    Case("yolo", "missing image", "gone.png", lambda root: (
        (root / "train.txt").write_text("images/train/0.png\nimages/train/gone.png\n"),
        replace(YAML, "images/train", "train.txt")(root))),
    Case("yolo", "image listed twice", "0.png", lambda root: (
        (root / "train.txt").write_text("images/train/0.png\n" * 2), replace(YAML, "images/train", "train.txt")(root))),
    Case("yolo", "label file without image", "9.txt", lambda root: (root / "labels/train/9.txt").write_text("")),
    Case("yolo", "image without boxes", "0.png", lambda root: (root / LABELS).unlink()),
    Case("yolo", "class without boxes", "owl", replace(LABELS, "2 0.25", "0 0.25")),
    *(Case(layout, "class that is not measured", "owl", lambda root: None, 2) for layout in WRITERS),
    Case("voc", "class name like another", "pesron (1 box), person (4)", misspelt_class),
    Case("yolo", "same image twice", "2.png = 0.png", copy("yolo", "images/train/2.png")),
    Case("yolo", "image in two splits", "9.png = 0.png of train", copy("yolo", "images/val/9.png")),
    Case("yolo", "class names that look alike", "'dog' = 'DOG'", replace(YAML, "2: owl", "2: DOG")),
    Case("coco", "boxes in fractions", "0.png", rescaled(lambda b: [b[0] / 80, b[1] / 80, b[2] / 80, b[3] / 80])),
    Case("voc", "boxes in fractions", "train0.png", fractions_in_voc),
    Case("coco", "boxes by their corners", "instances_train.json",
         rescaled(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])),
    Case("coco", "boxes that may be percent", "instances_train.json", percent),
    *(Case(layout, "many boxes beyond their images", "9 of 49", many_beyond(layout)) for layout in WRITERS),
    *(Case(layout, "image turned by EXIF", "1.png", turned_square(layout)) for layout in WRITERS),
    Case("coco", "one image with different labels", "0.png", again({})),
    Case("coco", "one image with different labels", "0.png", again({"file_name": "./0.png"})),
    Case("coco", "one image with different labels", "0.png", again({"file_name": "../train/0.png"})),
    Case("coco", "one image with different labels", "5.png = 0.png", lambda root: (
        linked("coco", "train/5.png")(root), again({"file_name": "5.png"})(root))),
    Case("yolo", "one image with different labels", "5.png = 0.png", linked("yolo", "images/train/5.png")),
    Case("voc", "one image with different labels", "train5.png = train0.png", lambda root: (
        linked("voc", "JPEGImages/train5.png")(root), append(TEXT, "train5\n")(root),
        (root / "Annotations/train5.xml").write_text("<annotation/>"))),
    *(Case(layout, "same image with different labels", " = ", copy(layout, name)) for layout, name in
      (("yolo", "images/train/2.png"), ("voc", "JPEGImages/train1.png"))),
    Case("yolo", "two images of one name", "0", copy("yolo", "images/train/0.jpg")),
    Case("yolo", "two images of one name", "0", lambda root: image(root / "images/train/0.PNG", (60, 80))),
    Case("coco", "image listed twice", "1.png", lambda root: edit_coco(lambda c: (
        c["images"].append(c["images"][1] | {"id": 9}),
        c["annotations"].append(c["annotations"][2] | {"id": 9, "image_id": 9})))(root)),
    Case("coco", "ambiguous file name", "x.png", two_cases_of_a_name),
    Case("coco", "file name spelled otherwise", "0.PNG = 0.png",
         edit_coco(lambda c: c["images"][0].update(file_name="0.PNG"))),
    Case("voc", "file name spelled otherwise", "TRAIN1 = train1.png", replace(TEXT, "train1", "TRAIN1")),
    Case("yolo", "file name spelled otherwise", "0.txt = 0.TXT", lambda root: (
        (root / LABELS).rename(root / "labels/train/0.TXT"))),
    Case("yolo", "key points taken for polygons", "0.txt:1", key_points),
    *(Case(layout, "16-bit image of few levels", "up to 4095 of 65535; 16 grey levels", deep(layout))
      for layout in WRITERS),
    *(Case(layout, "file that is no image", "a.heic", lambda root, name=name: (root / name).write_bytes(b"no image"))
      for layout, name in (("voc", "JPEGImages/a.heic"), ("yolo", "images/train/a.heic"))),
]  # fmt: skip


def train_on(root: Path) -> None:
    """What a training asks of its data before, and in, its first epoch."""
    training, validation = (open_dataset(root, [split]) for split in ("train", "val"))
    for dataset in (training, validation):
        check_trainable(dataset)
        SampleStore(dataset.images, SIZE)[:]
    if training.class_names != validation.class_names:
        raise InvalidInput("not the same classes")


def all_findings(report: DataReport) -> list[Finding]:
    return [finding for split in report.splits for finding in split.findings]


@pytest.mark.parametrize("layout", WRITERS)
def test_a_sound_data_set_is_trained_on(layout: str, tmp_path: Path) -> None:
    root = WRITERS[layout](tmp_path / "data")
    train_on(root)
    report = inspect(root, SIZE).report
    assert report
    harmless = {"image without boxes", "class without boxes", "class that is not measured"}
    assert {finding.kind for finding in all_findings(report)} <= harmless


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.layout}: {case.kind}, {case.place}")
def test_each_fault_is_named_and_treated_by_its_rule(case: Case, tmp_path: Path) -> None:
    root = WRITERS[case.layout](tmp_path / "data")
    case.plant(root)
    report = inspect(root, SIZE).report
    found = [finding for finding in all_findings(report) if finding.kind == case.kind]
    named = [finding for finding in found if any(case.place in example for example in finding.examples)]
    assert case.count in [finding.count for finding in named]
    assert bool(report) == (not any(finding.refused for finding in all_findings(report)))
    if report:
        train_on(root)
    else:
        with pytest.raises(InvalidInput) as error:
            train_on(root)
        assert "\n" not in str(error.value) and "Error(" not in str(error.value)
    assert found[0].refused == RULES[case.kind].refused


def test_every_rule_has_a_case_and_stands_in_the_documentation() -> None:
    assert {case.kind for case in CASES} == set(RULES)
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    assert [kind for kind in RULES if f"| {kind} |" not in text] == []


@pytest.mark.parametrize("layout", WRITERS)
def test_many_faults_are_listed_at_once_and_the_loader_counts_them(layout: str, tmp_path: Path) -> None:
    """The doctor goes on; what is sound stays."""
    root = WRITERS[layout](tmp_path / "data")
    plants = {
        "coco": [annotate(id=70 + n, category_id=99) for n in range(3)] + [annotate(image_id=99)],
        "voc": [append(TEXT, "a\nb\nc\n"), replace(XML, ">9<", ">nan<")],
        "yolo": [append(LABELS, "9 0.5 0.5 0.1 0.1\n" * 3), append(LABELS, "0 0.5 0.5 nan 0.1\n")],
    }
    for plant in plants[layout]:
        plant(root)
    with pytest.raises(InvalidInput, match=r"; `yolox-deploy data .*data` lists 3 more, at least\.$"):
        open_dataset(root, ["train"])
    inspection = inspect(root, SIZE)
    assert inspection.report.refused == 4 + (layout == "voc")  # which may hide a class from the other split
    usable = inspection.usable["train"]
    assert sum(len(labelled.boxes) for labelled in usable.images) == 3 - (layout == "voc")


def test_what_is_left_out_or_taken_once_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = WRITERS["yolo"](tmp_path / "data")
    for name in ("8", "9"):
        (root / f"labels/train/{name}.txt").write_text("")
    open_dataset(root, ["train"])
    assert "label file without image: 2, such as 8.txt; left out." in capsys.readouterr().err


def test_ids_with_gaps_are_numbered_in_their_order(tmp_path: Path) -> None:
    root = WRITERS["coco"](tmp_path / "data")

    def spread(content: dict[str, Any]) -> None:
        for entry in content["annotations"]:
            entry["category_id"] = entry["category_id"] ** 2
            entry["image_id"] = 1000 - entry["image_id"]
        for entry in content["categories"]:
            entry["id"] = entry["id"] ** 2
        for entry in content["images"]:
            entry["id"] = 1000 - entry["id"]

    before = open_dataset(root, ["train"])
    edit_coco(spread)(root)
    after = open_dataset(root, ["train"])
    assert after.class_names == before.class_names and after.category_ids == (100, 121, 144)
    for one, other in zip(before.images, after.images, strict=True):
        assert np.array_equal(one.boxes, other.boxes) and np.array_equal(one.class_ids, other.class_ids)


def test_crowded_images_are_known(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    with_boxes("coco", [("dog", 2, 2, 30, 30)] * (MAX_LABELS - 2))(root)
    assert truncated(open_dataset(root, ["train"])) == []  # 120 are learned
    with_boxes("coco", [("dog", 2, 2, 30, 30)] * (MAX_LABELS - 1))(root)
    assert [labelled.path.name for labelled in truncated(open_dataset(root, ["train"]))] == ["0.png"]


def test_training_says_what_it_does_not_learn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before its first step: here it ends before that, since the classes differ."""
    root = tmp_path / "data"
    root.mkdir()
    with_boxes("coco", [("dog", n / 80, 2, 30, 30) for n in range(2000)] + [("cat", 5, 5, 5, 9)])(root)
    edit_coco(lambda content: content["categories"][0].update(name="lynx"), "val")(root)
    assert train.main(["--data", str(root), "--output", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert "left out: 1 box without area in the image." in printed.out
    assert "1 image with more than 120 boxes, such as 0.png:\nthe first 120 are learned." in printed.out
    assert "does not have the classes of" in printed.err


def test_a_fault_travels_between_processes() -> None:
    fault = pickle.loads(pickle.dumps(Fault("missing image", "a.png", "a.png is missing.")))
    assert (fault.kind, fault.place, str(fault)) == ("missing image", "a.png", "a.png is missing.")


def test_broken_annotations_of_any_shape_end_in_a_sentence(tmp_path: Path, random: np.random.Generator) -> None:
    """One field at a time becomes something else: the reader says so, or reads on; nothing else is raised."""
    root = WRITERS["coco"](tmp_path / "data")
    file = root / "annotations" / "instances_train.json"
    text = file.read_text()
    values = [None, "x", -1, 1e400, [], {}, True, [[1]], 10**30, "0.png", float("nan")]
    refused = 0
    for _ in range(300):
        content = json.loads(text)
        part = content[["images", "annotations", "categories"][random.integers(3)]]
        entry = part[random.integers(len(part))]
        entry[list(entry)[random.integers(len(entry))]] = values[random.integers(len(values))]
        file.write_text(json.dumps(content))
        for read in find_splits(root).values():
            try:
                read()
                open_dataset(root, ["train"])
            except InvalidInput as error:
                refused += 1
                assert "\n" not in str(error)
    assert refused > 100


def test_noise_is_never_the_same(tmp_path: Path) -> None:
    """What the cases above rest on."""
    for name in ("a.png", "b.png"):
        image(tmp_path / name, (8, 8))
    assert not np.array_equal(*(cv2.imread(str(tmp_path / name)) for name in ("a.png", "b.png")))

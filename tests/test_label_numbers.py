"""Numbers in labels that mean something else than their format says: read rightly where that is sure, else refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtimes.detections import Detections
from runtimes.errors import InvalidInput
from tests.data_sets import write_coco, write_voc, write_yolo
from yolox_deploy.data.dataset import check_evaluable
from yolox_deploy.data.faults import Fault
from yolox_deploy.data.long_rows import LongRows
from yolox_deploy.data.open import open_dataset
from yolox_deploy.evaluator import coco_evaluation

BOX = [0.3, 0.35, 0.4, 0.5]  # of an image of 80 x 60: 8, 6, 40, 36


def row(*numbers: float) -> str:
    return " ".join(map(str, [0, *numbers])) + "\n"


def posed(random: np.random.Generator, points: int, each: int, rows: int = 8) -> str:
    """Rows of boxes with key points in them, some of which are not labelled."""
    text = ""
    for _ in range(rows):
        width, height = random.uniform(0.1, 0.5, 2)
        x, y = random.uniform(width / 2, 1 - width / 2), random.uniform(height / 2, 1 - height / 2)
        numbers = [x, y, width, height]
        for _ in range(points):
            seen = random.random() < 0.8
            point = [x + width * random.uniform(-0.5, 0.5), y + height * random.uniform(-0.5, 0.5)] if seen else [0, 0]
            numbers += [*point, *([2 * int(seen)] if each == 3 else [])]
        text += row(*numbers)
    return text


def polygons(random: np.random.Generator, corners: int, rows: int = 8) -> str:
    """Rows of blobs about some centre."""
    text = ""
    for _ in range(rows):
        angles = np.linspace(0, 2 * np.pi, corners, endpoint=False) + random.uniform(0, 6)
        radius = random.uniform(0.02, 0.2)
        x, y = random.uniform(radius, 1 - radius, 2)
        text += row(*np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1).ravel().tolist())
    return text


def yolo_with(root: Path, text: str, yaml: str = "") -> Path:
    write_yolo(root)
    (root / "labels/train/0.txt").write_text(text)
    (root / "data.yaml").write_text((root / "data.yaml").read_text() + yaml)
    return root


@pytest.mark.parametrize(("points", "each"), [(12, 3), (17, 3), (5, 2), (4, 2), (3, 2), (1, 2), (2, 3)])
def test_key_points_that_the_yaml_names_leave_the_box(points: int, each: int, tmp_path: Path) -> None:
    rest = [0.9, 0.1, 2][:each] * points
    root = yolo_with(tmp_path, row(*BOX, *rest) + row(*BOX), f"kpt_shape: [{points}, {each}]\n")
    boxes = open_dataset(root, ["train"]).images[0].boxes
    assert boxes.tolist() == [pytest.approx([8, 6, 40, 36])] * 2
    (root / "labels/train/0.txt").write_text(row(*BOX, *rest, 0.5, 0.5, 0.5, 0.5))
    with pytest.raises(InvalidInput, match=f"class and {4 + points * each} numbers"):
        open_dataset(root, ["train"])


@pytest.mark.parametrize(("points", "each"), [(12, 3), (17, 3), (4, 3), (17, 2), (5, 2), (3, 2)])
def test_key_points_that_it_does_not_name_are_refused(
    points: int, each: int, tmp_path: Path, random: np.random.Generator
) -> None:
    root = yolo_with(tmp_path, posed(random, points, each))
    with pytest.raises(InvalidInput, match=rf"kpt_shape: \[{points}, {each}\]"):
        open_dataset(root, ["train"])


@pytest.mark.parametrize("corners", [3, 4, 5, 8, 20, 40])
@pytest.mark.parametrize("rows", [1, 8, 100])
def test_polygons_of_equal_length_stay_polygons(corners: int, rows: int, random: np.random.Generator) -> None:
    for _ in range(20):
        found = LongRows(Path("data.yaml"))
        for line in polygons(random, corners, rows).splitlines():
            found.add("x", list(map(float, line.split()[1:])))
        assert found.faults() == []


@pytest.mark.parametrize("shape", ["[12]", "[0, 3]", "[12, 4]", "12", "[12.5, 3]", "[a, 3]"])
def test_a_broken_kpt_shape_is_refused(shape: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="kpt_shape"):
        open_dataset(yolo_with(tmp_path, row(*BOX), f"kpt_shape: {shape}\n"), ["train"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (row(*BOX, 0.93), "confidence"),
        ("3 0.5 0.5 0.1 0.1\n", "count from 1"),
        ("4 0.5 0.5 0.1 0.1\n", r"names classes 0 to 2\.$"),
        ("-1 0.5 0.5 0.1 0.1\n", "names classes"),
        (row(30, 35, 40, 50), "percent or pixels"),
        (row(300, 350, 40, 50), "but in pixels"),
        (row(0.5, 0.5, 0.1), "is not a label"),
    ],
)
def test_rows_that_mean_something_else(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=says):
        open_dataset(yolo_with(tmp_path, text), ["train"])


def test_an_oriented_box_gives_the_box_around_it(tmp_path: Path) -> None:
    root = yolo_with(tmp_path, row(0.5, 0.1, 0.7, 0.4, 0.4, 0.6, 0.2, 0.3) * 12)
    assert open_dataset(root, ["train"]).images[0].boxes[0].tolist() == pytest.approx([16, 6, 56, 36])


def coco_with(root: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The first annotation, of the box 8, 6, 40, 36, changed."""
    write_coco(root)
    file = root / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    change(content["annotations"][0])
    file.write_text(json.dumps(content))
    return root


POLYGON = [[8, 6, 40, 6, 20, 30], [9, 20, 20, 36, 12, 12]]


@pytest.mark.parametrize(
    ("fields", "area"),
    [
        ({"area": None}, 960),
        ({"area": 500.5, "iscrowd": None}, 500.5),
        ({"iscrowd": False, "area": 7}, 7),
        ({"bbox": None, "segmentation": POLYGON}, 960),
        ({"bbox": [], "segmentation": POLYGON, "area": 70}, 70),
        ({"bbox": [], "segmentation": POLYGON, "iscrowd": None, "area": None}, 960),
    ],
)
def test_coco_without_some_of_its_fields(fields: dict[str, Any], area: float, tmp_path: Path) -> None:
    found = open_dataset(coco_with(tmp_path, lambda entry: entry.update(fields)), ["train"]).images[0]
    assert found.boxes[0].tolist() == [8, 6, 40, 36] and found.area[0] == area and not found.crowd.any()


def test_coco_without_iscrowd_and_area(tmp_path: Path) -> None:
    root = coco_with(tmp_path, lambda entry: [entry.pop(name, None) for name in ("iscrowd", "area", "id")])
    assert open_dataset(root, ["train"]).images[0].area[0] == 960


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"bbox": None}, "bbox is empty"),
        ({"bbox": [], "segmentation": []}, "bbox is empty"),
        ({"bbox": None, "segmentation": {"counts": "abc", "size": [60, 80]}}, "bbox is empty"),
        ({"bbox": None, "segmentation": [[1, 2, 3]]}, "no list of polygons"),
        ({"bbox": None, "segmentation": [[1, 2, 3, "x", 5, 6]]}, "annotations"),
        ({"area": "big"}, "area 'big'"),
    ],
)
def test_coco_fields_that_say_nothing(fields: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=says) as error:
        open_dataset(coco_with(tmp_path, lambda entry: entry.update(fields)), ["train"])
    assert "\n" not in str(error.value)


def test_negative_ids_are_ids(tmp_path: Path) -> None:
    """AP of perfect detections is 1 with them as well."""
    root = write_coco(tmp_path)
    file = root / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    for image in content["images"]:
        image["id"] = -5 - image["id"]
    for category in content["categories"]:
        category["id"] -= 12
    for entry in content["annotations"]:
        entry |= {"image_id": -5 - entry["image_id"], "category_id": entry["category_id"] - 12, "id": -entry["id"]}
    file.write_text(json.dumps(content))
    dataset = open_dataset(root, ["train"])
    assert dataset.category_ids == (-2, -1, 0)
    found = [
        Detections(image.boxes.astype(np.float32), np.ones(len(image.boxes), np.float32), image.class_ids)
        for image in dataset.images
    ]
    assert pytest.approx(1) == coco_evaluation(dataset, found, dataset.category_ids).figures.AP


def test_voc_coordinates_may_be_fractions_of_pixels(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    file = root / "Annotations/train0.xml"
    file.write_text(file.read_text().replace(">9<", ">9.25<").replace(">41<", "> 4.1e1 <"))
    assert open_dataset(root, ["train"]).images[0].boxes[0].tolist() == [8.25, 6, 40, 36]


def test_what_ap_cannot_be_measured_on(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    assert check_evaluable(open_dataset(root, ["val"]))
    file = root / "annotations/instances_val.json"
    content = json.loads(file.read_text())
    for entry in content["annotations"]:
        entry["iscrowd"] = 1
    file.write_text(json.dumps(content))
    with pytest.raises(Fault, match="no boxes to measure AP on") as error:
        check_evaluable(open_dataset(root, ["val"]))
    assert error.value.kind == "nothing to learn from"


COCO_UNITS: dict[str, tuple[Callable[[float, float, float, float, float, float], list[float]], str | None]] = {
    "fractions": (lambda x, y, w, h, width, height: [x / width, y / height, w / width, h / height], "fractions"),
    "corners": (lambda x, y, w, h, width, height: [x, y, x + w, y + h], "left, top, width and height"),
    "twice as large": (lambda x, y, w, h, width, height: [2 * x, 2 * y, 2 * w, 2 * h], "other units"),
    "rows first": (lambda x, y, w, h, width, height: [y, x, h, w], "outside their images"),
    "percent": (lambda x, y, w, h, width, height: [100 * x / width, 100 * y / height, w / width, h / height], None),
    "centres": (lambda x, y, w, h, width, height: [x + w / 2, y + h / 2, w, h], None),
}


@pytest.mark.parametrize("units", COCO_UNITS)
def test_coco_in_other_units(units: str, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Real images and boxes. What may be right is warned of: percent, and centres."""
    convert, says = COCO_UNITS[units]
    source = shared / "data/coco-val2017-206"
    content = json.loads((source / "annotations/instances_val2017.json").read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    for entry in content["annotations"]:
        entry["bbox"] = convert(*entry["bbox"], *sizes[entry["image_id"]])
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").symlink_to(source / "val2017")
    (tmp_path / "annotations/instances_val2017.json").write_text(json.dumps(content))
    if says:
        with pytest.raises(InvalidInput, match=says):
            open_dataset(tmp_path)
    else:
        open_dataset(tmp_path)
        warned = "boxes that may be percent" if units == "percent" else "many boxes beyond their images: 521 of 1786"
        assert warned in capsys.readouterr().err

"""Labelled data sets: three formats, one meaning; what is wrong with one is said before any work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtimes.errors import InvalidInput
from yolox_deploy.data.dataset import Dataset, check_trainable, labelled_image, training_labels
from yolox_deploy.data.open import open_dataset

# For each image: (height, width), and objects as class, left, top, right, bottom.
SPLITS = {
    "train": [((60, 80), [("cat", 8, 6, 40, 36), ("owl", 16, 12, 24, 30)]), ((40, 40), [("dog", 0, 0, 40, 20)])],
    "val": [((50, 100), [("cat", 10, 5, 90, 45)]), ((32, 64), [])],
}
NAMES = ["cat", "dog", "owl"]


def image(path: Path, size: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), 90, np.uint8))


def write_coco(root: Path) -> Path:
    (root / "annotations").mkdir(parents=True)
    for split, images in SPLITS.items():
        entries, annotations = [], []
        for index, (size, objects) in enumerate(images):
            image(root / split / f"{index}.png", size)
            entries.append({"id": index, "file_name": f"{index}.png", "height": size[0], "width": size[1]})
            for name, left, top, right, bottom in objects:
                box = [left, top, right - left, bottom - top]
                entry = {"image_id": index, "category_id": 10 + NAMES.index(name), "bbox": box}
                annotations.append({"id": len(annotations) + 1, **entry})
        categories = [{"id": 10 + number, "name": name} for number, name in enumerate(NAMES)]
        content = {"images": entries, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def write_voc(root: Path) -> Path:
    for folder in ("ImageSets/Main", "Annotations"):
        (root / folder).mkdir(parents=True)
    for split, images in SPLITS.items():
        (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"{split}{n}\n" for n in range(len(images))))
        for index, (size, objects) in enumerate(images):
            image(root / "JPEGImages" / f"{split}{index}.png", size)
            rows = "".join(
                f"<object><name>{name}</name><bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin>"
                f"<xmax>{right + 1}</xmax><ymax>{bottom + 1}</ymax></bndbox></object>"
                for name, left, top, right, bottom in objects
            )
            text = f"<annotation><size><width>{size[1]}</width><height>{size[0]}</height></size>{rows}</annotation>"
            (root / "Annotations" / f"{split}{index}.xml").write_text(text)
    return root


def write_yolo(root: Path) -> Path:
    for split, images in SPLITS.items():
        (root / "labels" / split).mkdir(parents=True)
        for index, (size, objects) in enumerate(images):
            image(root / "images" / split / f"{index}.png", size)
            lines = [
                f"{NAMES.index(name)} {(left + right) / 2 / size[1]} {(top + bottom) / 2 / size[0]}"
                f" {(right - left) / size[1]} {(bottom - top) / size[0]}\n"
                for name, left, top, right, bottom in objects
            ]
            if lines:
                (root / "labels" / split / f"{index}.txt").write_text("".join(lines))
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(NAMES))
    (root / "data.yaml").write_text(f"path: .\ntrain: images/train\nval: images/val\nnames:\n{names}")
    return root


WRITERS: dict[str, Callable[[Path], Path]] = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo}


@pytest.fixture(params=WRITERS)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return WRITERS[request.param](tmp_path / "data")


def test_all_formats_say_the_same(root: Path) -> None:
    for split, images in SPLITS.items():
        dataset = open_dataset(root, [split])
        assert dataset.class_names == ("cat", "dog", "owl")
        assert [found.size for found in dataset.images] == [size for size, _ in images]
        for found, (_, objects) in zip(dataset.images, images, strict=True):
            np.testing.assert_allclose(found.boxes, np.array([box for _, *box in objects]).reshape(-1, 4), atol=1e-3)
            assert found.class_ids.tolist() == [NAMES.index(name) for name, *_ in objects]
            assert not found.crowd.any()
    joined = open_dataset(root, ["train", "val"])
    assert len(joined) == 4 and len({found.image_id for found in joined.images}) == 4
    assert open_dataset(root).images[0].size == (50, 100), "val, where nothing is said"


def test_splits_have_synonyms_and_wrong_ones_are_named(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    for old, new in (("val", "val2017"), ("train", "training")):
        (root / "annotations" / f"instances_{old}.json").rename(root / "annotations" / f"instances_{new}.json")
        (root / old).rename(root / new)
    assert len(open_dataset(root, ["train", "val"])) == 4
    with pytest.raises(InvalidInput, match=r"no split 'test'; name one of training, val2017"):
        open_dataset(root, ["test"])


def test_what_there_is_to_learn() -> None:
    boxes = [[-5, 10, 20, 30], [90, 40, 130, 70], [200, 10, 220, 20], [10, 10, 10, 30], [5, 5, 9, 9]]
    found = labelled_image(0, Path("x.png"), (50, 100), boxes, [0, 1, 2, 3, 4])
    assert training_labels(found).tolist() == [[0, 10, 20, 30, 0], [90, 40, 100, 50, 1], [5, 5, 9, 9, 4]]
    names = dict(enumerate("abcde", 1))
    with pytest.raises(InvalidInput, match=r"1 of the 5 boxes of d lie wholly outside their images, .* x\.png"):
        check_trainable(Dataset(Path("d"), (found,), names))
    sound = labelled_image(1, Path("y.png"), (50, 100), boxes[:1] * 96, [0] * 96)
    assert check_trainable(Dataset(Path("d"), (found, sound), names)) == 2  # one in a hundred is a slip
    empty = labelled_image(0, Path("x.png"), (50, 100), [], [])
    with pytest.raises(InvalidInput, match="holds no boxes to learn from"):
        check_trainable(Dataset(Path("d"), (empty,), names))


@pytest.mark.parametrize(
    ("writer", "file", "text", "says"),
    [
        ("yolo", "labels/train/0.txt", "7 0.5 0.5 0.1 0.1", r"0\.txt.*7"),
        ("yolo", "labels/train/0.txt", "0 0.5 0.5 0.1", r"0\.txt"),
        ("yolo", "labels/train/0.txt", "0 50 50 10 10", r"0\.txt"),
        ("yolo", "labels/train/0.txt", "0 a b c d", r"0\.txt"),
        ("yolo", "data.yaml", "train: images/train\nnames: 5", "names must be a list"),
        ("yolo", "data.yaml", "train: nowhere\nval: images/val\nnames: [cat, dog, owl]", "nowhere"),
        ("yolo", "data.yaml", "names: [cat", "is not YAML"),
        ("voc", "Annotations/train0.xml", "<annotation>", "is not XML"),
        ("voc", "Annotations/train0.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "holds a DOCTYPE"),
        ("voc", "Annotations/train0.xml", "<annotation><object><name>cat</name></object></annotation>", "object 1"),
        ("voc", "ImageSets/Main/train.txt", "nothing", r"nothing"),
        ("coco", "annotations/instances_train.json", "{", "cannot read"),
    ],
)
def test_what_is_wrong_is_named(writer: str, file: str, text: str, says: str, tmp_path: Path) -> None:
    root = WRITERS[writer](tmp_path)
    (root / file).write_text(text)
    with pytest.raises(InvalidInput, match=says) as error:
        open_dataset(root, ["train"])
    assert "\n" not in str(error.value)


def test_polygons_become_their_boxes(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    (root / "labels/train/0.txt").write_text("1 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.4")
    assert open_dataset(root, ["train"]).images[0].boxes.tolist() == [pytest.approx([8, 12, 40, 36])]


def test_blood_cells(shared: Path) -> None:
    root = shared / "data" / "bccd-voc"
    parts = {split: open_dataset(root, [split]) for split in ("train", "val", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 205, "val": 87, "test": 72}
    everything = open_dataset(root, ["train", "val", "test"])
    assert everything.class_names == ("Platelets", "RBC", "WBC")
    assert sum(len(found.boxes) for found in everything.images) == 4888
    assert check_trainable(everything) == 2

"""Labelled data sets: three formats, one meaning; what is wrong with one is said before any work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtimes.errors import InvalidInput
from tests.data_sets import NAMES, SPLITS, WRITERS, write_coco, write_yolo
from yolox_deploy.data.dataset import Dataset, check_trainable, labelled_image, training_labels
from yolox_deploy.data.open import open_dataset


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
        ("coco", "annotations/instances_train.json", "{", "is not JSON"),
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


@pytest.mark.parametrize("key", ["names", "path"])
def test_yaml_that_is_endless_as_text_is_refused_at_once(key: str, tmp_path: Path) -> None:
    """Nine lists of nine times the one before: some hundred bytes, and gigabytes where they are written out."""
    root = write_yolo(tmp_path)
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 13))
    own = "path: .\nnames: *l12\n" if key == "names" else "path: *l12\nnames: [cat, dog, owl]\n"
    (root / "data.yaml").write_text(f"l0: &l0 [x]\n{levels}train: images/train\nval: images/val\n{own}")
    with pytest.raises(InvalidInput, match=key):
        open_dataset(root)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("created: 2024-13-45\n", "is not YAML"),
        (f"n: {'9' * 5000}\n", "is not YAML"),
        (f"n: {'[' * 3000}\n", "is not YAML"),
        ('names: ["cat", "a\\e[2J", "owl"]\n', "names a class"),
    ],
    ids=["date", "number", "deep", "steering"],
)
def test_odd_yaml_is_one_sentence(text: str, says: str, tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    usual = (root / "data.yaml").read_text()
    (root / "data.yaml").write_text(usual[: usual.index("names:")] + text if "names" in text else usual + text)
    with pytest.raises(InvalidInput, match=says):
        open_dataset(root)

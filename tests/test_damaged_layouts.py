"""A file of labels that is damaged or gone: its split or layout is refused or named, and never left out in silence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runtimes.errors import InvalidInput
from tests.data_sets import WRITERS, image
from tests.layout_sets import (
    TRAIN,
    VAL,
    coco,
    coco_files_beside,
    cvat_ultralytics,
    cvat_yolo,
    label_studio_coco,
    roboflow_coco,
    voc_split_folders,
    write,
    yolo_split_folders,
)
from yolox_deploy.data.inspection import inspect
from yolox_deploy.data.open import find_splits, open_dataset

DAMAGES = {"truncated": '{"images": [{"id": 0,', "empty": "", "list": "[]", "html": "<html></html>"}


def instances(root: Path) -> Path:
    for split, images in {"train": TRAIN, "valid": VAL}.items():
        coco(root / "annotations" / f"instances_{split}.json", images, root / split)
    return root


def json_of_any_name(root: Path) -> Path:
    for split, images in {"train": TRAIN, "valid": VAL}.items():
        coco(root / split / "labels of mine.json", images, root / split)
    return root


JSON_LAYOUTS = {
    instances: "annotations/instances_train.json",
    roboflow_coco: "train/_annotations.coco.json",
    json_of_any_name: "train/labels of mine.json",
    coco_files_beside: "train.json",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("writer", JSON_LAYOUTS)
def test_a_damaged_json_file_is_refused_in_every_layout(
    writer: Callable[[Path], Path], damage: str, tmp_path: Path
) -> None:
    root = writer(tmp_path / "data")
    file = root / JSON_LAYOUTS[writer]
    file.write_text(DAMAGES[damage])
    assert len(find_splits(root)) == 2
    with pytest.raises(InvalidInput, match="is not in COCO's format" if damage == "list" else "is not JSON") as error:
        open_dataset(root, ["train"])
    assert str(file) in str(error.value)
    train, valid = inspect(root, (64, 64)).report.splits
    assert train.contents is None and valid.contents is not None
    assert "class without boxes" not in {finding.kind for finding in valid.findings}  # which says: never learned


@pytest.mark.parametrize("writer", [instances, roboflow_coco, json_of_any_name])
def test_images_whose_json_file_is_gone_are_counted(
    writer: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = writer(tmp_path / "data")
    find_splits(root)
    assert capsys.readouterr().err == ""
    (root / JSON_LAYOUTS[writer]).unlink()
    assert find_splits(root).keys() == {"valid"}
    assert f"{root}: left out: train (2 images), which has no labels." in capsys.readouterr().err


def test_one_file_for_the_images_of_all_folders_leaves_none_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco(tmp_path / "annotations" / "all.json", TRAIN, tmp_path / "images" / "train", prefix="train/")
    assert len(open_dataset(tmp_path)) == 2 and capsys.readouterr().err == ""


def test_a_damaged_file_beside_others_is_refused(tmp_path: Path) -> None:
    """Label Studio's result.json, with another JSON file in the folder."""
    root = label_studio_coco(tmp_path / "data")
    write(root / "package.json", "{}")
    (root / "result.json").write_text(DAMAGES["truncated"])
    with pytest.raises(InvalidInput, match=r"result\.json is not JSON"):
        open_dataset(root)


@pytest.mark.parametrize("writer", [yolo_split_folders, voc_split_folders])
def test_labels_whose_images_are_gone_are_counted(
    writer: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = writer(tmp_path / "data")
    shutil.rmtree(root / "images" / "train")
    assert find_splits(root).keys() == {"valid"}
    assert f"{root}: left out: train (2 label files), which has no images." in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "<html></html>", "train: [", "path: .\ntrain: images/train\n", "names: [cat]"])
def test_a_damaged_yaml_is_refused_where_another_layout_remains(text: str, tmp_path: Path) -> None:
    root = cvat_ultralytics(tmp_path / "data")
    write(root / "labels" / "classes.txt", "cat\ndog\nowl\n")
    write(root / "data.yaml", text)
    with pytest.raises(InvalidInput, match=r"data\.yaml"):
        open_dataset(root, ["train"])


@pytest.mark.parametrize("text", ["lr: 0.1\n", "train: {lr: 0.1}\n"])
def test_a_yaml_of_something_else_changes_nothing(text: str, tmp_path: Path) -> None:
    root = WRITERS["coco"](tmp_path / "data")
    write(root / "dataset.yaml", "licence: CC-BY\n")
    write(root / "config.yaml", text)
    assert find_splits(root).keys() == {"train", "val"}


@pytest.mark.parametrize("text", ["", "classes = 3\n", "classes = 3\ntrain = data/train.txt\n", "names = obj.names\n"])
def test_a_damaged_data_file_is_refused_where_its_lists_remain(text: str, tmp_path: Path) -> None:
    root = cvat_yolo(tmp_path / "data")
    write(root / "obj.data", text)
    with pytest.raises(InvalidInput, match=r"obj\.data lacks the line `(names|train)"):
        find_splits(root)


def test_an_empty_folder_of_a_split_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = roboflow_coco(tmp_path / "data")
    (root / "test").mkdir()
    image(root / "more" / "a.png", (9, 9))  # which is named as no split is
    find_splits(root)
    assert "left out: test (0 images)" in (said := capsys.readouterr().err) and "more" not in said

"""A data set without a validation split is divided into train and val: the same boxes, each image in one of them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.data_sets import SPLITS, Object, image, write_coco, write_voc
from tests.layout_sets import (
    ALL,
    CASES,
    CLASSES,
    Case,
    Images,
    coco,
    cvat_coco,
    label_studio_coco,
    label_studio_yolo,
    labelimg_voc,
    roboflow_voc,
    txt,
    write,
)
from yolox_deploy import evaluate, train
from yolox_deploy.data import division
from yolox_deploy.data.__main__ import main as data_check
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.data.division import unique_names
from yolox_deploy.data.inspection import inspect
from yolox_deploy.data.open import find_splits, open_dataset
from yolox_deploy.data.scenes import main as write_scenes

SIZE = (416, 416)
WEIGHTS = Path(__file__).parents[1] / "yolox_deploy" / "weights" / "yolox-nano-scenes.safetensors"


def divide(data: Path, output: Path, *options: str, fraction: float = 0.5) -> int:
    return data_check([str(data), "--split", str(fraction), "--output", str(output), *options])


def many(count: int, seed: int = 0) -> Images:
    """Images with one to three boxes: half of a cat, a few of a dog, two of an owl."""
    random = np.random.default_rng(seed)
    found: list[tuple[tuple[int, int], list[Object]]] = []
    for number in range(count):
        names = ["cat"] * int(random.integers(1, 4)) + ["dog"] * (number % 10 == 0) + ["owl"] * (number in (3, 7))
        corners = random.integers(0, 20, (len(names), 2)).tolist()
        found.append(((40, 48), [(name, x, y, x + 20, y + 20) for name, (x, y) in zip(names, corners, strict=True)]))
    return found


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    return {str(path): (digest(path), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def contents(dataset: Dataset) -> dict[str, tuple[Any, ...]]:
    """What is known of each image, by its content; images of equal content are one."""
    return {
        digest(found.path): (
            found.size,
            found.boxes.round(6).tolist(),
            [dataset.class_names[index] for index in found.class_ids],
            found.area.tolist(),
            found.crowd.tolist(),
        )
        for found in dataset.images
    }


WHOLE = [case for case in CASES if sum(map(len, case.splits.values())) == len(ALL)]


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.write.__name__)
def test_every_layout_is_written_as_coco_and_says_the_same(case: Case, tmp_path: Path) -> None:
    path = case.write(tmp_path / "data")
    before = snapshot(tmp_path / "data")
    assert divide(path, tmp_path / "mine") == 0
    assert snapshot(tmp_path / "data") == before
    assert inspect(tmp_path / "mine", SIZE).report, "it can be trained on"
    names = {"train", "test"} | {"val"} if "test" in case.splits else {"train", "val"}
    assert set(find_splits(tmp_path / "mine")) == names
    source, written = (
        {key: value for split in find_splits(root) for key, value in contents(open_dataset(root, [split])).items()}
        for root in (path, tmp_path / "mine")
    )
    assert source == written
    files = {file.name for file in (tmp_path / "mine").iterdir()}
    assert files == {"annotations", *names}, "nothing is left beside"


def test_ids_areas_and_crowds_are_kept(tmp_path: Path) -> None:
    root = cvat_coco(tmp_path / "data")
    file = root / "annotations/instances_default.json"
    content = json.loads(file.read_text())
    for number, entry in enumerate(content["annotations"]):
        entry.update(category_id=10 * entry["category_id"], image_id=7 * entry["image_id"] + 100, area=number + 0.5)
    content["annotations"][1]["iscrowd"] = 1
    for entry in content["categories"]:
        entry["id"] *= 10
    for entry in content["images"]:
        entry["id"] = 7 * entry["id"] + 100
    file.write_text(json.dumps(content))
    assert divide(root, tmp_path / "mine") == 0
    parts = [open_dataset(tmp_path / "mine", [split]) for split in ("train", "val")]
    assert all(part.categories == {10: "cat", 20: "dog", 30: "owl"} for part in parts)
    assert sorted(found.image_id for part in parts for found in part.images) == [100, 107, 114, 121]
    assert sorted(area for part in parts for found in part.images for area in found.area) == [0.5, 1.5, 2.5, 3.5]
    assert sum(int(found.crowd.sum()) for part in parts for found in part.images) == 1


def written(output: Path) -> dict[str, set[str]]:
    return {split: {digest(found.path) for found in open_dataset(output, [split]).images} for split in ("train", "val")}


def test_the_share_is_met_and_every_class_is_in_both(tmp_path: Path) -> None:
    for fraction in (0.8, 0.5, 0.9):
        root, output = tmp_path / f"data{fraction}", tmp_path / f"mine{fraction}"
        coco(root / "labels.json", many(50), root)
        assert divide(root, output, fraction=fraction) == 0
        parts = written(output)
        assert len(parts["val"]) == round(50 * (1 - fraction)) and len(parts["train"]) == 50 - len(parts["val"])
        for split in ("train", "val"):
            names = {name for *_, names, _, _ in contents(open_dataset(output, [split])).values() for name in names}
            assert names == {"cat", "dog", "owl"}, "owls are in two images of fifty"


def test_a_seed_divides_by_content_alone(tmp_path: Path) -> None:
    """Whatever the names, the format and the order."""
    first, second = tmp_path / "a" / "data", tmp_path / "b" / "data"
    coco(first / "labels.json", many(20), first)
    txt(second / "images", second / "labels", many(20), name="z")
    write(second / "classes.txt", CLASSES)
    for number in range(20):
        shutil.copy(first / f"data{number}.png", second / "images" / f"z{number}.png")
    outputs = {name: tmp_path / name for name in ("one", "same", "other", "format")}
    for name, root, seed in (("one", first, 3), ("same", first, 3), ("other", first, 4), ("format", second, 3)):
        assert divide(root, outputs[name], "--seed", str(seed)) == 0
    parts = {name: written(output) for name, output in outputs.items()}
    assert parts["one"] == parts["same"] == parts["format"] != parts["other"]


def test_equal_images_are_never_on_both_sides(tmp_path: Path) -> None:
    root = tmp_path / "data"
    coco(root / "labels.json", many(12), root)
    for number in range(0, 12, 2):
        shutil.copy(root / f"data{number}.png", root / f"data{number + 1}.png")
    for seed in range(5):
        assert divide(root, tmp_path / f"mine{seed}", "--seed", str(seed)) == 0
        parts = written(tmp_path / f"mine{seed}")
        assert parts["train"] and parts["val"] and parts["train"].isdisjoint(parts["val"])


def test_only_the_training_images_are_divided(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_coco(tmp_path / "data", {"train2017": [*SPLITS["train"], *SPLITS["val"]], "test2017": SPLITS["train"]})
    shutil.copy(root / "test2017/0.png", root / "train2017/2.png")  # of which the labels differ in size
    image(root / "train2017/2.png", (50, 100))
    assert divide(root, tmp_path / "mine") == 0
    assert {split: len(open_dataset(tmp_path / "mine", [split])) for split in ("train", "val", "test")} == {
        "train": 2,
        "val": 2,
        "test": 2,
    }
    shutil.copy(root / "test2017/0.png", root / "train2017/0.png")
    capsys.readouterr()
    assert divide(root, tmp_path / "other", "--json", "-") == 0
    printed = capsys.readouterr()
    assert "train2017: left out, since another split has the same: 1 image, such as 0.png." in printed.err
    report = json.loads(printed.out)["written"]
    assert sum(report["images"].values()) == 5 and "0.png" in report["warnings"][0]


def test_splits_that_are_there_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = roboflow_voc(tmp_path / "data")
    assert divide(root, tmp_path / "mine") == 0
    assert "warning: train and valid stay as they are" in capsys.readouterr().err
    for split in ("train", "val"):
        assert contents(open_dataset(tmp_path / "mine", [split])) == contents(open_dataset(root, [split]))
    voc = write_voc(tmp_path / "voc")
    (voc / "ImageSets/Main/trainval.txt").write_text("train0\ntrain1\nval0\nval1\n")
    assert divide(voc, tmp_path / "second") == 0
    assert set(find_splits(tmp_path / "second")) == {"train", "val"}
    for name in ("train", "val"):
        (voc / f"ImageSets/Main/{name}.txt").unlink()
    assert divide(voc, tmp_path / "third") == 0
    assert sum(len(open_dataset(tmp_path / "third", [split])) for split in ("train", "val")) == 4


def test_a_class_with_one_image_is_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(6):
        root = label_studio_coco(tmp_path / f"data{seed}")  # of the dog and the owl there is one image each
        assert divide(root, tmp_path / f"mine{seed}", "--seed", str(seed)) == 0
        assert "val has no boxes of" in capsys.readouterr().err
        learned = contents(open_dataset(tmp_path / f"mine{seed}", ["train"])).values()
        assert {name for *_, names, _, _ in learned for name in names} == {"cat", "dog", "owl"}


def test_images_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for part in ("a", "b"):
        txt(root / "images" / part, root / "labels" / part, ALL)
    write(root / "classes.txt", CLASSES)
    assert divide(root, tmp_path / "mine") == 0
    assert sum(len(open_dataset(tmp_path / "mine", [split])) for split in ("train", "val")) == 8
    names = unique_names([Path("/x/a/1.png"), Path("/x/b/1.png"), Path("/y/b/1.png"), Path("/x/b/1.PNG")])
    assert names == ["1.png", "b_1.png", "y_b_1.png", "b_1.PNG"] or len({name.casefold() for name in names}) == 4


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert data_check(arguments) == 1
    return capsys.readouterr().err.splitlines()[-1]


def test_what_cannot_be_done_is_said_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, full, new = labelimg_voc(tmp_path / "data"), labelimg_voc(tmp_path / "full"), str(tmp_path / "mine")
    data = str(root)
    for options, says in (
        (["--split", "0.8"], "--output"),
        (["--split", "80", "--output", new], "between 0 and 1"),
        (["--split", "0", "--output", new], "between 0 and 1"),
        (["--split", "nan", "--output", new], "between 0 and 1"),
        (["--split", "0.8", "--seed", "-1", "--output", new], "negative"),
        (["--split", "0.8", "--output", str(full)], "is not empty"),
        (["--split", "0.8", "--output", data], "is not empty"),
        (["--split", "0.8", "--output", str(root / "new")], "is in the data set"),
        (["--split", "0.8", "--output", str(root / "a0.png")], "is not a folder"),
    ):
        assert says in refused([data, *options], capsys)
    assert not Path(new).exists() and not (root / "new").exists()


def test_faults_are_mended_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = labelimg_voc(tmp_path / "data")
    (root / "a1.xml").write_text("<annotation>")
    assert "training would refuse this data" in refused(
        [str(root), "--split", "0.8", "--output", str(tmp_path / "mine")], capsys
    )
    lone = label_studio_yolo(tmp_path / "lone")
    for number in (0, 1):
        write(lone / f"labels/a{number}.txt", "")
    assert "fewer than two different images with boxes" in refused(
        [str(lone), "--split", "0.8", "--output", str(tmp_path / "mine")], capsys
    )
    assert {path.name for path in tmp_path.iterdir()} == {"data", "lone"}


@pytest.mark.parametrize("fail", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "stopped"])
def test_nothing_is_left_of_what_was_cut_short(
    fail: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = labelimg_voc(tmp_path / "data")
    real: Callable[[Path, str], None] = division.write_text

    def write_text(path: Path, text: str) -> None:
        if "val" in path.name:
            raise fail
        real(path, text)

    monkeypatch.setattr(division, "write_text", write_text)
    assert divide(root, tmp_path / "mine") in (1, 130)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_images_are_copied_where_links_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = labelimg_voc(tmp_path / "data")
    assert divide(root, tmp_path / "linked") == 0

    def link(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", link)
    assert divide(root, tmp_path / "copied") == 0
    assert written(tmp_path / "linked") == written(tmp_path / "copied")
    links = [[path.stat().st_nlink for path in (tmp_path / name).rglob("*.png")] for name in ("linked", "copied")]
    assert min(links[0]) > 1 and max(links[1]) < 3


def test_many_boxes_outside_stay_in_train_where_they_are_few(tmp_path: Path) -> None:
    """One in a hundred is a slip, also of the few boxes of val."""
    root = tmp_path / "data"
    coco(root / "labels.json", [*many(60), ((40, 48), [("cat", 60, 5, 70, 30), ("cat", 5, 5, 30, 30)])], root)
    for seed in range(4):
        assert divide(root, tmp_path / f"mine{seed}", "--seed", str(seed), fraction=0.8) == 0
        assert inspect(tmp_path / f"mine{seed}", SIZE).report


def test_training_says_what_to_type_and_trains_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that the sentence names is typed as it stands."""
    root = labelimg_voc(tmp_path / "my data")
    monkeypatch.chdir(tmp_path)
    options = ["--model", "yolox-nano", "--input-size", "64", "64", "--batch", "2", "--dry-run", "--output", "trained"]
    assert train.main(["--data", str(root), *options]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "no split 'train', only all" in error
    command = error.split("`")[1].replace("'", "").split(" ")
    words = [*command[:2], str(root), *command[-4:]]
    assert words[:2] == ["yolox-deploy", "data"] and words[3:] == ["--split", "0.8", "--output", "mine"]
    assert data_check(words[2:]) == 0
    assert train.main(["--data", "mine", *options]) == 0
    monkeypatch.chdir(root)
    assert train.main(["--data", ".", *options]) == 1
    assert str(tmp_path / "mine") in capsys.readouterr().err.splitlines()[-1], "not in the data set"


def as_roboflow(scenes: Path, root: Path) -> Path:
    shutil.copytree(scenes / "val", root / "valid")
    content = json.loads((scenes / "annotations/instances_val.json").read_text())
    for entry in content["categories"]:
        entry["supercategory"] = "shapes"
    content["categories"].insert(0, {"id": 0, "name": "shapes", "supercategory": "none"})
    write(root / "valid/_annotations.coco.json", json.dumps(content))
    return root


def as_label_studio(scenes: Path, root: Path) -> Path:
    shutil.copytree(scenes / "val", root / "images")
    content = json.loads((scenes / "annotations/instances_val.json").read_text())
    for entry in content["images"]:
        entry["file_name"] = f"../../label-studio/data/media/upload/1/{entry['file_name']}"
    write(root / "result.json", json.dumps(content))
    return root


TOOLS = (as_roboflow, as_label_studio)


def test_evaluation_measures_the_same_in_every_layout(tmp_path: Path) -> None:
    assert write_scenes([str(tmp_path / "scenes"), "--train", "1", "--val", "4"]) == 0
    roots = [tmp_path / "scenes", *(make(tmp_path / "scenes", tmp_path / make.__name__) for make in TOOLS)]
    figures = []
    for number, root in enumerate(roots):
        file = tmp_path / f"{number}.json"
        options = ["--split", "val"] if number < 2 else []
        assert evaluate.main([str(WEIGHTS), "--data", str(root), "--json", str(file), *options]) == 0
        figures.append(json.loads(file.read_text())["AP"])
    assert figures[0] == figures[1] == figures[2] > 0.2


def test_real_images_keep_their_labels(shared: Path, tmp_path: Path) -> None:
    """BCCD's three lists stay; of COCO's val, the only split, crowds and ids of 80 classes are kept."""
    data = shared / "data" / "coco-val2017-206"
    assert divide(data, tmp_path / "mine", fraction=0.8) == 0
    parts = [open_dataset(tmp_path / "mine", [split]) for split in ("train", "val")]
    assert [len(part) for part in parts] == [165, 41]
    together = {key: value for part in parts for key, value in contents(part).items()}
    assert together == contents(open_dataset(data))
    assert all(part.category_ids == open_dataset(data).category_ids for part in parts)
    assert cv2.imread(str(parts[1].images[0].path)) is not None


@pytest.mark.parametrize("names", [("train1", "train2"), ("trainval1", "trainval2")])
def test_splits_of_one_plain_name_are_never_left_out(
    names: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = many(8)
    root = write_coco(tmp_path / "data", {names[0]: images[:4], names[1]: images[4:]})
    assert names[1] in refused([str(root), "--split", "0.5", "--output", str(tmp_path / "mine")], capsys)
    assert not (tmp_path / "mine").exists()


def test_no_class_is_lost_to_train_for_another_to_be_measured(random: np.random.Generator) -> None:
    """Sixty classes, of which many have one image or two."""
    for share in (0.1, 0.2, 0.5):
        for _ in range(100):
            classes = {str(n): {int(i) for i in random.geometric(0.05, random.integers(4)) % 60} for n in range(40)}
            classes["cat alone"] = {100}
            classes["cat too"] = {100}
            for found in classes.values():
                found |= {division.LABELLED} if found else set()
            chosen = division._choose(dict.fromkeys(classes, 1), classes, share)
            learned = {index for group, found in classes.items() if group not in chosen for index in found}
            assert learned == {index for found in classes.values() for index in found}
            assert 0 < len(chosen) <= round(42 * share)
            assert share < 0.5 or len({"cat alone", "cat too"} & chosen) == 1


def test_of_images_that_are_each_the_only_one_of_a_class_one_is_measured() -> None:
    classes = {"a": {0, 1, division.LABELLED}, "b": {2, division.LABELLED}, "c": {3, 4, division.LABELLED}, "d": set()}
    assert "b" in division._choose(dict.fromkeys(classes, 1), classes, 0.5)

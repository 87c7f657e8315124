"""Every command that uses labels refuses what is wrong with them alike, before any work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from benchmarks.compare.__main__ import main as compare
from benchmarks.tune.__main__ import main as tune
from tests.data_sets import write_coco, write_voc, write_yolo
from yolox_deploy.data.__main__ import main as data
from yolox_deploy.data.open import open_dataset
from yolox_deploy.evaluate import main as evaluate
from yolox_deploy.export import main as export
from yolox_deploy.train import main as train

WEIGHTS = str(Path(__file__).parents[1] / "yolox_deploy" / "weights" / "yolox-nano-scenes.safetensors")
SMALL = ["--input-size", "64", "64"]
COMMANDS: dict[str, Callable[[Path], int]] = {
    "data": lambda root: data([str(root)]),
    "train": lambda root: train(["--data", str(root), "--model", "yolox-nano"]),
    "train --dry-run": lambda root: train(["--data", str(root), "--model", "yolox-nano", "--dry-run"]),
    "evaluate": lambda root: evaluate([WEIGHTS, "--data", str(root), *SMALL]),
    "export --data": lambda root: export(["--weights", WEIGHTS, "--data", str(root), *SMALL]),
    "export --dry-run": lambda root: export(["--weights", WEIGHTS, "--data", str(root), *SMALL, "--dry-run"]),
    "compare": lambda root: compare(["--export", WEIGHTS, "--data", str(root)]),
    "tune": lambda root: tune([WEIGHTS, "--data", str(root), "--min-ap", "20"]),
}
READING_ALL = ("data", "train --dry-run", "export --dry-run")  # others read an image when they use it


def turn(root: Path, orientation: int) -> None:
    """Every image gets an orientation; its pixels stay as they are stored, and so do the labels."""
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    for path in root.rglob("*.png"):
        with Pillow.open(path) as stored:
            pixels = np.asarray(stored)
        Pillow.fromarray(pixels).save(path, exif=exif)


def edit_both(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    for file in (root / "annotations").iterdir():
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))


def without_boxes(root: Path) -> None:
    edit_both(root, lambda content: content["annotations"].clear())


def crowds_alone(root: Path) -> None:
    edit_both(root, lambda content: [entry.update(iscrowd=1) for entry in content["annotations"]])


def in_fractions(root: Path) -> None:
    edit_both(root, lambda c: [entry.update(bbox=[v / 99 for v in entry["bbox"]]) for entry in c["annotations"]])


def twice(root: Path) -> None:
    edit_both(root, lambda content: content["images"].append(content["images"][0] | {"id": 9}))


def cut(root: Path) -> None:
    """The header stays whole."""
    for path in root.rglob("0.png"):
        path.write_bytes(path.read_bytes()[:-2000])


# What is planted, what the sentence holds, and the rule that the data check names.
FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "turned": (lambda root: turn(root, 6), "EXIF", "another size than labelled"),
    "no boxes": (without_boxes, "no boxes", "nothing to learn from"),
    "crowds alone": (crowds_alone, "no boxes", "nothing to learn from"),
    "fractions": (in_fractions, "fractions", "boxes in fractions"),
    "twice": (twice, "different labels", "one image with different labels"),
    "cut": (cut, "0.png", "unreadable image"),
}
CASES = [(command, fault) for command in COMMANDS for fault in FAULTS if fault != "cut" or command in READING_ALL]


@pytest.mark.parametrize(("command", "fault"), CASES)
def test_each_command_refuses(
    command: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    plant, says, kind = FAULTS[fault]
    root = write_coco(tmp_path / "data")
    plant(root)
    assert COMMANDS[command](root) == 1
    printed = capsys.readouterr()
    assert kind in printed.out if command == "data" else says in printed.err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_labels_on_the_stored_bitmap_name_exif_and_upright_ones_do_not(
    orientation: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for write in (write_coco, write_voc):
        root = write(tmp_path / write.__name__)
        turn(root, orientation)
        assert data([str(root)]) == 1
        assert "another size than labelled" in capsys.readouterr().out
    root = write_coco(tmp_path / "upright")
    turn(root, orientation)

    def swap(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["width"], image["height"] = image["height"], image["width"]
        for entry in content["annotations"]:
            entry["bbox"] = [entry["bbox"][n] for n in (1, 0, 3, 2)]

    edit_both(root, swap)
    found = open_dataset(root, ["val"])
    assert [image.size for image in found.images] == [(100, 50), (64, 32)]
    assert capsys.readouterr().err == ""  # the size says that the labels know


@pytest.mark.parametrize("write", [write_coco, write_voc, write_yolo])
def test_what_the_size_does_not_tell_is_warned_of_once(
    write: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A turn by 180 degrees keeps the size; YOLO's labels have none."""
    root = write(tmp_path / "data")
    turn(root, 3)
    for _ in range(2):
        open_dataset(root, ["val"])
    lines = [line for line in capsys.readouterr().err.splitlines() if "EXIF" in line]
    assert len(lines) == 1 and ": 2, such as" in lines[0] and "upright" in lines[0]


@pytest.mark.parametrize("skip", [False, True])
def test_a_dry_run_of_a_training_reads_every_image(
    skip: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The header of the second training image is whole, the rest is not."""
    monkeypatch.chdir(tmp_path)
    root = write_coco(tmp_path / "data")
    file = root / "train" / "1.png"
    file.write_bytes(file.read_bytes()[:-2000])
    options = ["--data", str(root), "--model", "yolox-nano", "--dry-run", "--device", "cpu", "--batch", "1", *SMALL]
    options += ["--multi-scale", "64", "64", "--skip-unreadable"] if skip else []
    assert train(options) == (0 if skip else 1)
    printed = capsys.readouterr()
    assert "1.png is not an image that can be read" in printed.err
    assert not skip or "1 images of" in printed.out


def test_an_image_that_is_none_is_named_and_not_its_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of unknown size, it has no inside."""
    root = write_yolo(tmp_path / "data")
    (root / "images/val/0.png").write_bytes(b"no image")
    assert COMMANDS["evaluate"](root) == 1
    assert "0.png is not an image" in capsys.readouterr().err
    assert len(open_dataset(root, ["val"], skip_unreadable=True)) == 1


def test_the_json_of_data_holds_the_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_yolo(tmp_path / "data")
    turn(root, 6)
    (root / "images/train/a.heic").write_bytes(b"no image")
    assert data([str(root), "--json", "-"]) == 0
    found = {one["kind"]: one["count"] for one in json.loads(capsys.readouterr().out)["splits"][0]["findings"]}
    assert found["image turned by EXIF"] == 2 and found["file that is no image"] == 1

"""Generated labelled images: the same from the same seed, and labelled where the objects are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from exporters.torch_runtime import TorchRuntime
from runtimes import Detector
from yolox_deploy.data import scenes
from yolox_deploy.data.open import open_dataset
from yolox_deploy.data.outlines import OUTLINES
from yolox_deploy.evaluate import evaluate
from yolox_deploy.model.checkpoint import read_checkpoint
from yolox_deploy.model.open import describe

ROOT = Path(__file__).parents[1]
BUNDLED = ROOT / "yolox_deploy" / "weights" / "yolox-nano-scenes.safetensors"
LOG = ROOT / "benchmarks" / "results" / "2026-11-24-scenes"


def digest(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    for name, seed in (("one", "3"), ("again", "3"), ("other", "4")):
        assert scenes.main([str(tmp_path / name), "--train", "4", "--val", "2", "--seed", seed]) == 0
    one, again, other = (digest(tmp_path / name) for name in ("one", "again", "other"))
    assert one == again
    assert one.keys() == other.keys() and not set(one.values()) & set(other.values())
    dataset = open_dataset(tmp_path / "one", ["train", "val"])
    assert (len(dataset), dataset.class_names) == (6, tuple(OUTLINES))


def test_labels_are_where_the_objects_are() -> None:
    made = [scenes.scene(0, 0, index) for index in range(60)]
    sides, classes = [], set()
    for one in made:
        height, width = one.image.shape[:2]
        assert min(height, width) >= 320 and max(height, width) <= 640
        for item in one.objects:
            left, top, right, bottom = item.box
            assert 0 <= left < right <= width and 0 <= top < bottom <= height
            assert 0 < item.area <= (right - left + 1) * (bottom - top + 1)
            sides.append(max(right - left, bottom - top))
            classes.add(item.class_id)
    assert classes == set(range(10))
    assert min(sides) < 16 and max(sides) > 250
    assert 4 < np.mean([len(one.objects) for one in made]) < 14


def bundled_ap(folder: Path, images: int) -> float:
    assert scenes.main([str(folder), "--train", "1", "--val", str(images)]) == 0
    checkpoint = read_checkpoint(BUNDLED)
    trained = describe(checkpoint.build(), checkpoint)
    detector = Detector(TorchRuntime(trained.model, trained.spec), 0.001)
    return evaluate(detector, open_dataset(folder, ["val"]), batch=8).AP


def test_the_bundled_model_is_small_and_detects(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(BUNDLED)
    assert BUNDLED.stat().st_size < 2_500_000
    assert (checkpoint.variant, checkpoint.class_names, checkpoint.input_size) == (
        "yolox-nano", tuple(OUTLINES), (320, 320)
    )  # fmt: skip
    assert 0.25 < bundled_ap(tmp_path / "scenes", 32) < 0.9


@pytest.mark.slow
def test_the_bundled_model_has_the_ap_of_its_log(tmp_path: Path) -> None:
    """On the images that its training measured, but for the weights' rounding to fp16 and that of other processors."""
    noted = json.loads((LOG / "results.json").read_text())["figures"]["AP"]
    assert bundled_ap(tmp_path / "scenes", 300) == pytest.approx(noted, abs=0.002)


def test_what_is_there_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    assert scenes.main([str(tmp_path)]) == 1
    assert "is not empty: name a new folder" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
    assert scenes.main([str(tmp_path / "new"), "--train", "0"]) == 1

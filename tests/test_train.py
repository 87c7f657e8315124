"""The command that trains, on a few generated squares: what it leaves, how it goes on, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from runtimes.errors import InvalidInput
from yolox_deploy import checkpoint, train
from yolox_deploy.data.loader import Batch
from yolox_deploy.model.checkpoint import read_checkpoint
from yolox_deploy.model.safe_load import safe_load
from yolox_deploy.training.engine import Engine
from yolox_deploy.training.loss import Losses
from yolox_deploy.training.recipe import Augmentation, Recipe
from yolox_deploy.training.schedule import Schedule

ROOT = Path(__file__).parents[1]
SMALL = ["--model", "yolox-nano", "--input-size", "64", "64", "--multi-scale", "64", "96", "--batch", "4"]
SHORT = ["--epochs", "3", "--warmup-epochs", "1", "--no-augmentation-epochs", "1", "--logger", "--workers", "0"]


def write_squares(folder: Path, splits: dict[str, int], boxes: int = 2) -> Path:
    """A COCO data set of squares in two colours."""
    random = np.random.default_rng(0)
    (folder / "annotations").mkdir(parents=True)
    for split, count in splits.items():
        (folder / split).mkdir()
        images, annotations = [], []
        for index in range(count):
            image = np.full((96, 128, 3), 90, np.uint8)
            for _ in range(boxes):
                side, kind = int(random.integers(16, 40)), int(random.integers(2))
                x, y = int(random.integers(0, 128 - side)), int(random.integers(0, 96 - side))
                image[y : y + side, x : x + side] = (0, 0, 255) if kind else (255, 0, 0)
                entry = {"image_id": index, "category_id": [4, 9][kind], "bbox": [x, y, side, side]}
                annotations.append({"id": len(annotations) + 1, **entry})
            cv2.imwrite(str(folder / split / f"{index}.png"), image)
            images.append({"id": index, "file_name": f"{index}.png", "height": 96, "width": 128})
        categories = [{"id": 9, "name": "red"}, {"id": 4, "name": "blue"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("data") / "squares", {"train": 12, "val": 4})


def run(data: Path, output: Path, *options: str) -> int:
    return train.main(["--data", str(data), "--output", str(output), *SMALL, *SHORT, *options])


@pytest.fixture(scope="module")
def trained(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "run"
    assert run(squares, output, "--json", str(output / "result.json")) == 0
    return output


def assert_same(found: Any, expected: Any) -> None:
    """Bit for bit."""
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected.keys() - {"images_per_second", "seconds"}:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list):
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


def test_what_it_leaves(trained: Path) -> None:
    history = json.loads((trained / "history.json").read_text())
    assert [record["epoch"] for record in history] == [1, 2, 3]
    assert [record["step"] for record in history] == [3, 6, 9]
    assert [record["losses"]["l1"] > 0 for record in history] == [False, False, True]
    assert all(0 <= record["figures"]["AP"] <= 1 for record in history)
    result, left = (json.loads((trained / name).read_text()) for name in ("result.json", "results.json"))
    assert result == {
        **left,
        "folder": str(trained),
        "best": str(trained / "best.pth"),
        "last": str(trained / "last.pth"),
        "warnings": [],
    }
    last = read_checkpoint(trained / "last.pth")
    assert (last.variant, last.class_names, last.category_ids) == ("yolox-nano", ("blue", "red"), (4, 9))
    assert last.weights.startswith("EMA")


def test_the_official_code_and_mmdetection_read_it(trained: Path, golden: Path, tmp_path: Path) -> None:
    content = safe_load(trained / "last.pth")
    assert {"model", "optimizer", "start_epoch", "best_ap", "curr_ap"} <= content.keys()
    assert (content["start_epoch"], len(content["optimizer"]["param_groups"])) == (3, 3)
    keys = json.loads((golden / "state_dict_shapes.json").read_text())["yolox-nano"].keys()
    assert content["model"].keys() == keys == content["raw_model"].keys()
    assert checkpoint.main([str(trained / "last.pth"), "--convert", "mmdet", "--output", str(tmp_path / "m.pth")]) == 0
    assert read_checkpoint(tmp_path / "m.pth").class_names == ("blue", "red")


@pytest.mark.parametrize("stop", [pytest.param(1, marks=pytest.mark.slow), 4, pytest.param(6, marks=pytest.mark.slow)])
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    stop: int, squares: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first step, in the middle of an epoch, and in the last step of one."""
    step = Engine.step

    def interrupted(engine: Engine, parts: Sequence[Batch]) -> list[Losses]:
        losses = step(engine, parts)
        if engine.state.progress.step == stop:
            os.kill(os.getpid(), signal.SIGINT)
        return losses

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "step", interrupted)
        assert run(squares, tmp_path / "run") == 130
    assert safe_load(tmp_path / "run" / "last.pth")["progress"]["step"] == stop
    assert run(squares, tmp_path / "run", "--resume") == 0
    found, expected = (safe_load(folder / "last.pth") for folder in (tmp_path / "run", trained))
    for name in ("model", "raw_model", "optimizer", "ema_updates", "progress"):
        assert_same(found[name], expected[name])


def test_the_same_seed_gives_the_same_weights_whatever_the_workers(
    squares: Path, trained: Path, tmp_path: Path
) -> None:
    assert run(squares, tmp_path / "same", "--workers", "2", "--cache", "ram") == 0
    assert run(squares, tmp_path / "other", "--seed", "1") == 0
    expected, same, other = (safe_load(path / "last.pth") for path in (trained, tmp_path / "same", tmp_path / "other"))
    assert_same(same["raw_model"], expected["raw_model"])
    assert not torch.equal(
        other["raw_model"]["head.stems.0.conv.weight"], expected["raw_model"]["head.stems.0.conv.weight"]
    )


@pytest.mark.slow
def test_two_processes_are_one_with_the_doubled_batch(squares: Path, tmp_path: Path) -> None:
    """With batch-norm statistics as they are, which each process would otherwise take of its own images."""
    fixed = ["--freeze-norms", "--count-positives-globally", "--device", "cpu", "--epochs", "7"]
    for name, options in {"one": [], "two": ["--devices", "2"]}.items():
        arguments = ["--data", str(squares), "--output", str(tmp_path / name), *SMALL, *SHORT, *fixed, *options]
        command = [sys.executable, "-m", "yolox_deploy.train", *arguments, "--evaluate-every", "7"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
    one, two = (safe_load(tmp_path / name / "last.pth") for name in ("one", "two"))
    assert one["progress"]["step"] == two["progress"]["step"] == 21
    for key, value in one["raw_model"].items():
        torch.testing.assert_close(two["raw_model"][key], value, rtol=1e-5, atol=1e-5)


ONE_EPOCH = ["--epochs", "1", "--no-augmentation-epochs", "0", "--warmup-epochs", "0"]


def test_accumulated_batches_are_one_large_one(tmp_path: Path) -> None:
    """With the same objects in every image, so that all parts have as many positives, and fixed batch norms."""
    data = write_squares(tmp_path / "data", {"train": 1, "val": 1})
    annotations = data / "annotations" / "instances_train.json"
    content = json.loads(annotations.read_text())
    for index in range(1, 4):
        (data / "train" / f"{index}.png").write_bytes((data / "train" / "0.png").read_bytes())
        content["images"].append({**content["images"][0], "id": index, "file_name": f"{index}.png"})
        copies = [{**entry, "image_id": index, "id": 10 * index + entry["id"]} for entry in content["annotations"][:2]]
        content["annotations"] += copies
    annotations.write_text(json.dumps(content))
    plain = ["--mosaic", "0", "--hsv", "0", "--flip", "0", "--multi-scale", "64", "64", "--freeze-norms", *ONE_EPOCH]
    for name, options in {"one": [], "four": ["--accumulate", "4"]}.items():
        assert run(data, tmp_path / name, *plain, "--learning-rate", "1", *options) == 0
    one, four = (safe_load(tmp_path / name / "last.pth") for name in ("one", "four"))
    assert one["progress"]["step"] == four["progress"]["step"] == 1
    started = {name: value for name, value in one["raw_model"].items() if value.is_floating_point()}
    for name, value in started.items():
        torch.testing.assert_close(four["raw_model"][name], value, rtol=1e-4, atol=1e-5)
    assert run(data, tmp_path / "four", *plain, "--learning-rate", "1", "--accumulate", "2", "--resume") == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--precision", "bf16", "--no-channels-last", "--save-every", "1"],
        ["--recipe", "improved", "--clip-gradients", "1", "--logger", "tensorboard"],
    ],
    ids=["bf16", "improved"],
)
def test_other_ways_to_train(options: list[str], squares: Path, tmp_path: Path) -> None:
    assert run(squares, tmp_path / "run", *ONE_EPOCH, *options) == 0
    content = safe_load(tmp_path / "run" / "last.pth")
    assert content["progress"]["step"] == 3
    assert all(torch.isfinite(value).all() for value in content["raw_model"].values())
    names = {file.name for file in (tmp_path / "run").rglob("*")}
    assert ("epoch_001.pth" in names) == ("--save-every" in options)
    assert any(name.startswith("events.out") for name in names) == ("tensorboard" in options)


def test_gradients_are_clipped_to_the_norm(squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    original = Engine._clip_gradients

    def watched(engine: Engine, batch: Batch) -> None:
        original(engine, batch)
        found = [p.grad.norm() for p in engine.state.model.parameters() if p.grad is not None]
        norms.append(float(torch.stack(found).norm()))

    monkeypatch.setattr(Engine, "_clip_gradients", watched)
    assert run(squares, tmp_path, *ONE_EPOCH, "--clip-gradients", "0.5") == 0
    assert len(norms) == 3 and all(norm == pytest.approx(0.5, rel=1e-3) for norm in norms)


def test_gradients_that_are_not_finite_stop_and_leave_the_batch(
    squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Engine._clip_gradients

    def spoiled(engine: Engine, batch: Batch) -> None:
        gradient = next(engine.state.model.parameters()).grad
        assert gradient is not None
        gradient.fill_(float("inf"))
        original(engine, batch)

    monkeypatch.setattr(Engine, "_clip_gradients", spoiled)
    assert run(squares, tmp_path, *ONE_EPOCH, "--clip-gradients", "10") == 1
    error = capsys.readouterr().err
    assert "the gradients are not finite at step 0" in error and "Traceback" not in error
    assert (tmp_path / "not_finite_0.pt").exists()


@pytest.mark.gpu
@pytest.mark.parametrize(
    "options", [["--precision", "fp16", "--clip-gradients", "10"], ["--precision", "bf16", "--compile"]]
)
def test_on_a_gpu(options: list[str], squares: Path, tmp_path: Path) -> None:
    assert run(squares, tmp_path, "--device", "cuda", *options) == 0
    content = safe_load(tmp_path / "last.pth")
    assert content["progress"]["step"] == 9
    assert all(torch.isfinite(value).all() for value in content["raw_model"].values())


def test_fine_tuning_to_other_classes(
    squares: Path, trained: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    official = ["--weights", str(shared / "weights" / "yolox_nano.pth")]
    assert run(squares, tmp_path / "run", *official) == 1
    assert (
        "knows 80 classes (person, bicycle, car, ...), the data 2 (blue, red): --new-classes" in capsys.readouterr().err
    )
    assert not (tmp_path / "run").exists()
    assert (
        run(
            squares,
            tmp_path / "run",
            *official,
            "--new-classes",
            "--epochs",
            "1",
            "--no-augmentation-epochs",
            "0",
            "--freeze",
            "backbone",
        )
        == 0
    )
    assert "anew: head.cls_preds.0.weight" in capsys.readouterr().out
    found = safe_load(tmp_path / "run" / "last.pth")["raw_model"]
    first = read_checkpoint(shared / "weights" / "yolox_nano.pth").state_dict
    for name, value in first.items():
        if name.startswith("backbone."):
            assert torch.equal(found[name], value), name
    assert not torch.equal(found["head.reg_preds.0.weight"], first["head.reg_preds.0.weight"])
    assert (
        run(
            squares,
            tmp_path / "again",
            "--weights",
            str(trained / "best.pth"),
            "--epochs",
            "1",
            "--no-augmentation-epochs",
            "0",
        )
        == 0
    )


def test_a_loss_that_is_not_finite_stops_and_leaves_the_batch(
    squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(squares, tmp_path, "--learning-rate", "1e30", "--warmup-epochs", "0") == 1
    assert "the loss is not finite at step" in capsys.readouterr().err
    content = torch.load(tmp_path / "not_finite_0.pt", weights_only=True)
    assert content["images"].dtype == torch.uint8 and len(content["labels"]) == 4


def test_early_stopping(squares: Path, tmp_path: Path) -> None:
    assert run(squares, tmp_path, "--learning-rate", "1e-12", "--patience", "2", "--epochs", "9") == 0
    assert len(json.loads((tmp_path / "history.json").read_text())) == 3


def test_unreadable_images(squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_squares(tmp_path / "data", {"train": 4, "val": 2})
    (data / "train" / "2.png").write_bytes(b"no image")
    assert run(data, tmp_path / "run") == 1
    error = capsys.readouterr().err
    assert "2.png is not an image" in error and "--skip-unreadable" in error
    assert (
        run(
            data,
            tmp_path / "run",
            "--skip-unreadable",
            "--overwrite",
            "--epochs",
            "1",
            "--no-augmentation-epochs",
            "0",
            "--cache",
            "disk",
        )
        == 0
    )
    assert "left out: " in capsys.readouterr().err


def test_unreadable_images_of_any_split_and_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """YOLO's labels are fractions, so that images are opened before the training starts."""
    for split, count in {"train": 4, "val": 3}.items():
        (tmp_path / "images" / split).mkdir(parents=True)
        (tmp_path / "labels" / split).mkdir(parents=True)
        for index in range(count):
            cv2.imwrite(str(tmp_path / "images" / split / f"{index}.jpg"), np.full((96, 128, 3), 90, np.uint8))
            (tmp_path / "labels" / split / f"{index}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [thing]\n")
    (tmp_path / "images" / "train" / "1.jpg").write_bytes(b"no image")
    whole = (tmp_path / "images" / "val" / "0.jpg").read_bytes()
    (tmp_path / "images" / "val" / "0.jpg").write_bytes(whole[: len(whole) // 2])
    assert run(tmp_path / "data.yaml", tmp_path / "run") == 1
    error = capsys.readouterr().err
    assert "1.jpg is not an image" in error and "--skip-unreadable" in error
    assert run(tmp_path / "data.yaml", tmp_path / "run", *ONE_EPOCH, "--skip-unreadable") == 0
    left_out = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert len(left_out) == 2 and "train/1.jpg" in left_out[0] and "val/0.jpg" in left_out[1]


@pytest.mark.parametrize(
    ("box", "says"),
    [([300, 10, 40, 40], "lie wholly outside their images"), ([-50, 10, 40, 40], "lie wholly outside their images")],
)
def test_boxes_outside(box: list[int], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_squares(tmp_path / "data", {"train": 4, "val": 2})
    file = data / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"] = box
    file.write_text(json.dumps(content))
    assert run(data, tmp_path / "run") == 1
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_labels_of_an_image_that_was_resized(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_squares(tmp_path / "data", {"train": 4, "val": 2})
    file = data / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    for entry in content["images"]:
        entry["height"], entry["width"] = 2 * entry["height"], 2 * entry["width"]
    file.write_text(json.dumps(content))
    assert run(data, tmp_path / "run") == 1
    assert "and labelled as" in capsys.readouterr().err


def test_one_process_that_fails_ends_all(squares: Path, tmp_path: Path) -> None:
    data = write_squares(tmp_path / "data", {"train": 4, "val": 2})
    (data / "train" / "2.png").write_bytes(b"no image")
    arguments = ["--data", str(data), "--output", str(tmp_path / "run"), *SMALL, *SHORT, "--devices", "2"]
    command = [sys.executable, "-m", "yolox_deploy.train", *arguments, "--device", "cpu", "--mosaic", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert done.returncode == 1
    assert "2.png is not an image" in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.slow
def test_an_official_checkpoint_of_the_same_number_of_classes(
    squares: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The official trainer notes no class names: their order is that of the data only where the user says so."""
    torch.save({"model": safe_load(trained / "best.pth")["model"]}, tmp_path / "official.pth")
    options = [*ONE_EPOCH, "--weights", str(tmp_path / "official.pth")]
    assert run(squares, tmp_path / "run", *options) == 1
    assert "does not say which its 2 classes are: --class-names FILE" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    (tmp_path / "names.txt").write_text("Blue\nred\n")
    assert run(squares, tmp_path / "run", *options, "--class-names", str(tmp_path / "names.txt")) == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--data", "{tmp}/nowhere"], "does not exist"),
        (["--data", "{tmp}"], "is not a data set"),
        (["--val-split", "test"], "no split 'test'"),
        (["--batch", "5", "--accumulate", "2"], "a multiple of 2 can"),
        (["--epochs", "0"], "--epochs must be positive"),
        (["--resume"], "there is nothing to resume"),
        (["--weights", "{tmp}/nothing.pth"], "nothing.pth does not exist"),
        (["--pretrained", "--weights", "{tmp}/nothing.pth"], "exclude each other"),
        (["--new-classes"], "--new-classes is for --weights"),
        (["--device", "cuda"], "--device cuda"),
        (["--precision", "fp16", "--device", "cpu"], "--precision fp16 is for CUDA"),
        (["--freeze", "neck"], "--freeze neck"),
        (["--workers", "-1"], "--workers cannot be negative"),
        (["--seed", "-1"], "--seed cannot be negative"),
        (["--sync-norms", "--device", "cpu"], "--sync-norms is for CUDA"),
        (["--no-augmentation-epochs", "3"], "--epochs 3 leaves none with augmentation"),
        (["--warmup-epochs", "4"], "--warmup-epochs 4 are more than --epochs 3"),
    ],
)
def test_what_is_refused_before_the_first_step(
    options: list[str], says: str, squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "cuda" in options and torch.cuda.is_available():
        pytest.skip("there is CUDA here")
    options = [option.replace("{tmp}", str(tmp_path)) for option in options]
    assert run(squares, tmp_path / "run", *options) == 1
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not (tmp_path / "run" / "last.pth").exists()


def test_processes_that_were_started_by_others(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert run(squares, tmp_path, "--devices", "2") == 1
    assert "4 processes were started, for --devices 2 and --nodes 1" in capsys.readouterr().err


def test_an_evaluation_that_fails_costs_no_epoch(
    squares: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> None:
        raise InvalidInput("no more memory")

    with monkeypatch.context() as patch:
        patch.setattr("yolox_deploy.training.trainer.evaluate", fails)
        assert run(squares, tmp_path) == 1
    assert safe_load(tmp_path / "last.pth")["progress"]["step"] == 3
    assert run(squares, tmp_path, "--resume") == 0
    found, expected = (json.loads((folder / "history.json").read_text()) for folder in (tmp_path, trained))
    assert_same(found, expected)


def test_what_is_overwritten(squares: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only what trainings write, and not what is to be started from."""
    (tmp_path / "best.pth").write_bytes((trained / "best.pth").read_bytes())
    (tmp_path / "mine.pth").write_text("precious")
    assert run(squares, tmp_path) == 1
    assert "holds a training" in capsys.readouterr().err
    assert run(squares, tmp_path, "--overwrite", "--weights", str(tmp_path / "best.pth")) == 1
    assert "which is to be started from" in capsys.readouterr().err
    assert run(squares, tmp_path, "--overwrite", "--epochs", "1", "--no-augmentation-epochs", "0") == 0
    assert (tmp_path / "mine.pth").read_text() == "precious"


def test_data_without_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_squares(tmp_path / "data", {"train": 4, "val": 2}, boxes=0)
    assert run(data, tmp_path / "run") == 1
    assert "holds no boxes to learn from" in capsys.readouterr().err


def test_a_training_is_neither_replaced_nor_mixed_with_another(
    squares: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (trained / "last.pth").read_bytes()
    assert run(squares, trained) == 1
    assert "--resume goes on with it, --overwrite replaces it" in capsys.readouterr().err
    assert run(squares, trained, "--resume", "--seed", "4", "--batch", "6") == 1
    error = capsys.readouterr().err
    assert "its seed was 0, and would be 4; its batch was 4, and would be 6" in error and error.count("\n") == 1
    assert f"--weights {trained / 'last.pth'} with another --output" in error
    assert run(squares, trained, "--resume", "--no-augmentation-epochs", "2") == 1
    assert "its no-augmentation-epochs was 1, and would be 2" in capsys.readouterr().err
    assert run(squares, trained, "--resume", "--epochs", "2") == 1
    assert "3 of 3 epochs done, and --epochs 2 leaves nothing to train" in capsys.readouterr().err
    assert (trained / "last.pth").read_bytes() == before


@pytest.fixture
def finished(trained: Path, tmp_path: Path) -> Path:
    """A copy of the training of three epochs, to go on with."""
    return Path(shutil.copytree(trained, tmp_path / "finished"))


def test_a_finished_training_goes_on_to_more_epochs(
    squares: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the schedule of the longer training, with all that was learned; and once more, as any other."""
    former = safe_load(finished / "last.pth")
    assert run(squares, finished, "--resume", "--epochs", "5") == 0
    printed = capsys.readouterr().out
    assert "was to have 3 epochs. From here on, in epoch 4" in printed and "finished: 5 of 5 epochs" in printed
    content, history = safe_load(finished / "last.pth"), json.loads((finished / "history.json").read_text())
    assert content["recipe"]["epochs"] == 5
    assert content["progress"]["changes"] == [{"step": 9, "from": 3, "to": 5}]
    assert [record["epochs"] for record in history] == [3, 3, 3, 5, 5]
    assert [record["losses"]["l1"] > 0 for record in history] == [False, False, True, False, True]  # the last of each
    assert_same(history[:3], former["progress"]["history"])
    recipe = Recipe(**{**content["recipe"], "augmentation": Augmentation(**content["recipe"]["augmentation"])})
    rates = [Schedule(recipe, 3).learning_rate(step) for step in (11, 14)]
    assert [record["learning_rate"] for record in history[3:]] == pytest.approx(rates)
    assert content["progress"]["step"] == 15 and content["ema_updates"] == 15
    assert run(squares, finished, "--resume", "--epochs", "5") == 0
    assert "From here on" not in (printed := capsys.readouterr().out) and "finished: 5 of 5 epochs" in printed
    assert_same(safe_load(finished / "last.pth"), content)


def test_more_epochs_before_the_first_step_are_the_longer_training(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a change leaves is bit for bit what a training of that many epochs has."""
    step = Engine.step

    def interrupted(engine: Engine, parts: Sequence[Batch]) -> list[Losses]:
        losses = step(engine, parts)
        os.kill(os.getpid(), signal.SIGINT)
        return losses

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "step", interrupted)
        assert run(squares, tmp_path / "changed", "--epochs", "9") == 130  # in the first step, with a rate of 0
    assert run(squares, tmp_path / "changed", "--resume", "--epochs", "2") == 0  # fewer than planned, more than done
    assert run(squares, tmp_path / "whole", "--epochs", "2") == 0
    found, expected = (safe_load(tmp_path / name / "last.pth") for name in ("changed", "whole"))
    assert found["progress"]["changes"] == [{"step": 1, "from": 9, "to": 2}]
    for name in ("model", "raw_model", "optimizer", "ema_updates"):
        assert_same(found[name], expected[name])


@pytest.mark.slow
def test_patience_and_more_epochs(
    squares: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    still = ["--learning-rate", "1e-12", "--epochs", "9"]
    assert run(squares, tmp_path / "run", *still, "--patience", "2") == 0
    assert "ended early: 3 of 9 epochs, by --patience 2" in capsys.readouterr().out
    best = (tmp_path / "run" / "best.pth").read_bytes()
    again = [*still, "--epochs", "12", "--resume"]
    assert run(squares, tmp_path / "run", *again, "--patience", "2") == 0
    assert "ended early: 3 of 12 epochs" in capsys.readouterr().out
    assert run(squares, tmp_path / "run", *again, "--patience", "3") == 0
    assert "ended early: 4 of 12 epochs" in capsys.readouterr().out
    assert (tmp_path / "run" / "best.pth").read_bytes() == best


def test_a_training_of_before_the_change_goes_on(squares: Path, finished: Path) -> None:
    """Whose checkpoints do not note how many epochs there were to be, nor changes of that."""
    content = safe_load(finished / "last.pth")
    del content["progress"]["changes"]
    for record in content["progress"]["history"]:
        del record["epochs"]
    torch.save(content, finished / "last.pth")
    assert run(squares, finished, "--resume", "--epochs", "4") == 0
    history = json.loads((finished / "history.json").read_text())
    assert [record["epochs"] for record in history] == [None, None, None, 4]


@pytest.mark.parametrize("epochs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_few_epochs_need_no_other_option(
    epochs: int, squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["yolox-nano", "--data", str(squares), "--output", str(tmp_path), "--epochs", str(epochs), *SMALL[2:]]
    assert train.main([*command, "--logger", "--workers", "0"]) == 0
    says = f"--epochs {epochs} shortens the recipe: --warmup-epochs {epochs / 10} (of 5), --no-augmentation-epochs 0"
    printed = capsys.readouterr().out
    assert says in printed and "yolox-nano starts from random weights" in printed
    assert safe_load(tmp_path / "last.pth")["recipe"]["warmup_epochs"] == epochs / 10


@pytest.mark.parametrize(
    "place", [*(pytest.param(place, marks=pytest.mark.slow) for place in ("first", "last")), "option"]
)
def test_the_model_goes_first_last_or_after_an_option(
    place: str, squares: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The variant, and with it the recipe, are those of the checkpoint; of a folder, best.pth is taken."""
    model = str(trained if place == "last" else trained / "best.pth")
    words = {"first": [model], "last": [], "option": ["--weights", model]}[place]
    rest = ["--data", str(squares), "--output", str(tmp_path / "run"), "--dry-run", "--epochs", "2"]
    assert train.main([*words, *rest, "--json", str(tmp_path / "plan"), *([model] if place == "last" else [])]) == 0
    plan, printed = json.loads((tmp_path / "plan").read_text()), capsys.readouterr()
    assert (plan["model"], plan["input_size"]) == ("yolox-nano", [416, 416])
    assert f"starting from {trained / 'best.pth'}" in printed.out and "random weights" not in printed.out
    assert printed.err.count("its best.pth is taken") == (place == "last")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["yolox-s", "--model", "yolox-m"], "yolox-s and yolox-m are two models"),
        (["{best}", "--weights", "{other}"], "are two models: name one of them"),
        (["{best}", "--model", "yolox-s"], "holds a yolox-nano, not the yolox-s"),
        (["{best}", "--pretrained"], "exclude each other"),
        (["yolox_s"], "yolox_s does not exist. Did you mean yolox-s?"),
        (["{tmp}/data.yaml"], "a data set is named by --data"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_models_to_start_from_that_are_refused(
    words: list[str], says: str, squares: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(trained / "last.pth", tmp_path / "other.pth")
    (tmp_path / "data.yaml").write_text("train: images\n")
    places = {"best": trained / "best.pth", "other": tmp_path / "other.pth", "tmp": tmp_path}
    words = [word.format(**places) for word in words]
    assert train.main([*words, "--data", str(squares), "--output", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_help_shows_the_recipe_of_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {}
    for model in ("yolox-nano", "yolox-s"):
        for words in (["--model", model, "--epochs", "20"], ["--epochs", "20", model]):
            with pytest.raises(SystemExit):
                train.main([*words, "--help"])
            printed = capsys.readouterr().out
            sizes[model] = "416 416" in printed
            assert re.search(r"--warmup-epochs FLOAT\s[\s\S]{0,200}?\(default:\s+\W?\s*2\.0\)", printed)
    assert sizes == {"yolox-nano": True, "yolox-s": False}


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_signals_reach_workers_too(number: signal.Signals, squares: Path, tmp_path: Path) -> None:
    """Ctrl-C goes to the whole process group, a cluster's end too; what was learned is kept all the same."""
    arguments = ["--data", str(squares), "--output", str(tmp_path / "run"), *SMALL, *SHORT, "--epochs", "500"]
    command = [sys.executable, "-m", "yolox_deploy.train", *arguments, "--workers", "2", "--evaluate-every", "500"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    errors = tmp_path / "errors.txt"
    with (
        errors.open("w") as file,
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=file, text=True, env=environment, start_new_session=True
        ) as process,
    ):
        assert process.stdout is not None
        assert "epoch 1/500" in next(line for line in process.stdout if line.startswith("epoch"))
        os.killpg(process.pid, number)
        rest = process.stdout.read()
    assert process.returncode == 130, errors.read_text()[-2000:]
    assert "--resume goes on" in rest
    assert safe_load(tmp_path / "run" / "last.pth")["progress"]["step"] >= 3

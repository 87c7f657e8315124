"""`--dry-run`: it writes nothing, says what the real run then does, and refuses what that refuses, in its words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import __main__ as compare
from benchmarks.tune import __main__ as tune
from yolox_deploy import export, train
from yolox_deploy.data.scenes import main as draw_scenes

WEIGHTS = Path(__file__).parents[1] / "yolox_deploy" / "weights" / "yolox-nano-scenes.safetensors"

Main = Callable[[list[str]], int]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "scenes"
    assert draw_scenes([str(folder), "--train", "2", "--val", "2"]) == 0
    return folder


def files(folder: Path) -> dict[str, int]:
    """Everything below it, with the time at which it was changed."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, Any, str]]:
    """Run a command with --dry-run in an empty folder, and see that it changes nothing. Returns its exit code, its JSON
    and its standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOLOX_DEPLOY_CACHE", str(tmp_path / "cache"))

    def run(main: Main, *arguments: object) -> tuple[int, Any, str]:
        capsys.readouterr()  # what was printed before
        before = files(tmp_path)
        code = main([*map(str, arguments), "--dry-run", "--json", "-"])
        assert files(tmp_path) == before
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if printed.out else None, printed.err

    return run


def test_export(look: Callable[..., tuple[int, Any, str]], scenes: Path, tmp_path: Path) -> None:
    arguments = ["--weights", str(WEIGHTS), "--input-size", "64", "64", "--target", "onnx", "ncnn"]
    code, planned, says = look(export.main, *arguments, "--data", scenes, "--split", "val", "--max-ap-drop", "5")
    assert code == 0 and planned["dry_run"] is True
    assert "AP on 2 images" in says and "5 points may be lost" in says
    assert export.main([*arguments, "--target", "onnx"]) == 0
    assert planned["artifacts"][0]["folder"] in {str(path.parent) for path in Path("artifacts").glob("*/model.onnx")}
    code, planned, says = look(export.main, *arguments)
    assert (code, planned) == (1, None) and "exists already: --overwrite" in says
    code, planned, says = look(export.main, *arguments, "--overwrite")
    assert [one["replaces"] for one in planned["artifacts"]] == [True, False]
    assert "(replaces what is there)" in says


def test_an_artifact_whose_export_was_killed_counts_and_stays(
    look: Callable[..., tuple[int, Any, str]], tmp_path: Path
) -> None:
    old = tmp_path / "artifacts" / ".yolox-nano-seeded-onnx-fp32.old"
    old.mkdir(parents=True)
    (old / "model.onnx").touch()
    code, _, says = look(export.main, "--seeded")
    assert code == 1 and "artifacts/yolox-nano-seeded-onnx-fp32 exists already" in says


REFUSED = [
    (["--weights", "gone.pth"], "gone.pth does not exist."),
    (["--seeded", "--input-size", "65", "64"], "65"),
    (["--seeded", "--data", "gone"], "there is no data set gone"),
    (["--seeded", "--verify-images", "gone"], "gone names no image"),
    (["--seeded", "--target", "trt"], "--no-build"),
    (["--seeded", "--batch", "0"], "--batch must be at least 1"),
    (["--seeded", "--json", "."], "--json . is a folder"),
]


@pytest.mark.parametrize(("arguments", "says"), REFUSED, ids=lambda value: value[-1] if isinstance(value, list) else "")
def test_what_an_export_refuses(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = []
    for options in ([], ["--dry-run"]):
        code = export.main([*arguments, *options])
        found.append((code, capsys.readouterr().err.splitlines()[-1]))
        assert files(tmp_path) == {}
    assert found[0] == found[1] and found[0][0] == 1 and says in found[0][1]


def test_official_weights_that_are_not_here_are_not_downloaded(
    look: Callable[..., tuple[int, Any, str]], scenes: Path
) -> None:
    end = "the official weights of yolox-s would be downloaded first; what needs them is not checked."
    labelled = ("--data", scenes)
    for main, arguments in (
        (export.main, ["--model", "yolox-s"]),
        (train.main, [*labelled, "--model", "yolox-s", "--pretrained", "--new-classes"]),
        (compare.main, ["--export", "yolox-s"]),
        (tune.main, ["yolox-s", *labelled, "--min-ap", "20"]),
    ):
        code, planned, says = look(main, *arguments)
        assert (code, planned) == (0, {"dry_run": True, "end": end, "warnings": []})
        assert f"dry run: {end}" in says


TRAIN = ["--model", "yolox-nano", "--input-size", "64", "64", "--multi-scale", "64", "64", "--batch", "2", "--workers"]
TRAIN += ["0", "--device", "cpu", "--warmup-epochs", "0", "--no-augmentation-epochs", "0", "--epochs", "1"]


def test_train(look: Callable[..., tuple[int, Any, str]], scenes: Path, tmp_path: Path) -> None:
    code, planned, says = look(train.main, "--data", scenes, *TRAIN, "--epochs", "3")
    assert code == 0, says
    assert (planned["images"], planned["validation_images"], planned["classes"]) == (2, 2, 10)
    assert (planned["epochs"], planned["steps"], planned["steps_done"], planned["device"]) == (3, 3, 0, "cpu")
    assert "3 epochs, 3 steps of 2 images" in says
    for options, sentence in (
        (["--weights", "gone.pth"], "gone.pth does not exist."),
        (["--weights", WEIGHTS, "--freeze", "tail"], "--freeze tail: the model has nothing of that name"),
        (["--precision", "fp16"], "--precision fp16 is for CUDA"),
        (["--logger", "wandb"], "this needs wandb"),
        (["--resume"], "there is nothing to resume"),
        (["--val-split", "other"], "no split 'other'"),
    ):
        code, planned, says = look(train.main, "--data", scenes, *TRAIN, *options)
        assert (code, planned) == (1, None) and sentence in says, says


def test_a_training_that_would_go_on(look: Callable[..., tuple[int, Any, str]], scenes: Path) -> None:
    arguments = ["--data", str(scenes), *TRAIN, "--output", "run"]
    assert train.main([*arguments, "--logger"]) == 0
    code, planned, says = look(train.main, *arguments, "--resume")
    assert code == 0 and planned["steps_done"] == planned["steps"] == 1
    assert "goes on there" in says
    code, _, says = look(train.main, *arguments, "--resume", "--seed", "7")
    assert code == 1 and "its seed was 0, and would be 7" in says


def test_compare_and_tune(look: Callable[..., tuple[int, Any, str]], scenes: Path, tmp_path: Path) -> None:
    small = ["--weights", str(WEIGHTS), "--input-size", "64", "64"]
    assert export.main([*small, "--output", "ours", "--name", "small"]) == 0
    labelled = ("--data", scenes, "--split", "val")
    code, planned, says = look(compare.main, "ours/small-onnx-fp32", "--reference", WEIGHTS, *labelled)
    assert code == 0 and planned["artifacts"] == ["ours/small-onnx-fp32"]
    assert "AP on 2 images" in says and "5 launches of each, 4 rounds a launch" in says
    assert look(compare.main, "ours/small-onnx-fp32", "--reference", "gone.pth")[0] == 1
    code, planned, says = look(compare.main, "--export", WEIGHTS, "--target", "onnx", "--precision", "fp32")
    assert code == 0 and planned["names"] == ["onnx fp32"] and "(to be exported)" in says
    code, planned, says = look(tune.main, WEIGHTS, *labelled, "--min-ap", "20", "--sizes", "64", "--target", "onnx")
    assert code == 0 and {tuple(build["size"]) for build in planned["builds"]} == {(64, 64)}
    assert look(tune.main, WEIGHTS, *labelled, "--min-ap", "20", "--sizes", "65")[0] == 1

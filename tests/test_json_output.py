"""`--json`: every command's result, alone on standard output or in a file; what it holds is what the command says."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.diverge import __main__ as diverge
from benchmarks.kit import __main__ as kit
from benchmarks.kit import score
from benchmarks.parity import __main__ as parity
from runtimes.detections import Detections
from runtimes.errors import UserError
from runtimes.json_file import json_text
from yolox_deploy import checkpoint, detect, doctor, evaluate, export, serving
from yolox_deploy.data import __main__ as data
from yolox_deploy.data.scenes import main as draw_scenes
from yolox_deploy.json_output import NotPassed, json_output
from yolox_deploy.results import writing_results
from yolox_deploy.training.history import EpochRecord, history_json, read_history

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "yolox_deploy" / "weights" / "yolox-nano-scenes.safetensors"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "scenes"
    assert draw_scenes([str(folder), "--train", "1", "--val", "2"]) == 0
    return folder


@pytest.fixture(scope="module")
def exported(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The artifact, and what `export --json` says of it."""
    folder = tmp_path_factory.mktemp("artifacts")
    arguments = ["--weights", str(WEIGHTS), "--input-size", "96", "96", "--data", str(scenes), "--split", "val"]
    assert export.main([*arguments, "--output", str(folder), "--json", str(folder / "result.json")]) == 0
    return folder / "yolox-nano-onnx-fp32", json.loads((folder / "result.json").read_text(encoding="utf-8"))


def test_export(exported: tuple[Path, dict[str, Any]]) -> None:
    folder, result = exported
    (one,) = result["artifacts"]
    assert (one["target"], one["precision"], one["passed"], one["error"]) == ("onnx", "fp32", True, None)
    assert (one["folder"], one["model"]) == (str(folder), str(folder / "model.onnx"))
    assert one["bytes"] == (folder / "model.onnx").stat().st_size
    assert one["seconds"] > 0 and one["parity"]["missed"] == 0 and one["replaces"] is False
    assert one["accuracy"] == json.loads((folder / "accuracy.json").read_text())


@pytest.mark.slow
def test_an_export_that_fails_says_so_in_json_as_well(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing loses -1000 points... but less than nothing may be lost: the budget is 0, the input far too small."""
    arguments = [
        "--weights",
        str(WEIGHTS),
        "--input-size",
        "32",
        "32",
        "--precision",
        "int8",
        "--output",
        str(tmp_path),
    ]
    code = export.main([*arguments, "--data", str(scenes), "--split", "val", "--max-ap-drop", "0", "--json", "-"])
    printed = capsys.readouterr()
    (one,) = json.loads(printed.out)["artifacts"]
    assert one["passed"] is (code == 0)
    assert (one["error"] is None) == one["passed"]


def test_evaluate_and_the_others_on_an_artifact(
    exported: tuple[Path, dict[str, Any]], scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = exported[0]

    def result(main: Any, *arguments: object) -> dict[str, Any]:
        assert main([*map(str, arguments), "--json", "-"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
        return found

    figures = result(evaluate.main, folder, "--data", scenes, "--split", "val")
    assert figures["AP"] == pytest.approx(exported[1]["artifacts"][0]["accuracy"]["AP"])
    proven = result(parity.main, folder, "--reference", WEIGHTS, "--input-size", 96, 96)
    assert proven["passed"] is True and proven["artifacts"][0]["artifact"] == str(folder)
    image = next((scenes / "val").iterdir())
    walked = result(diverge.main, WEIGHTS, folder, "--image", image)
    assert walked["sound"] is True and len(walked["rows"]) > 50
    written = result(kit.main, folder, "--output", tmp_path / "kit")
    assert written["kit"] == str(tmp_path / "kit")
    scored = result(score.main, tmp_path / "kit", tmp_path / "kit")
    assert scored["passed"] is True and scored["failed"] == []


def test_what_does_not_pass_is_written_before_it_exits_with_1(
    exported: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "parity.json"
    arguments = [str(tmp_path / "gone.onnx"), str(exported[0]), "--reference", str(WEIGHTS), "--input-size", "96", "96"]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.heic").write_bytes(bytes(9))
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((9, 9, 3), np.uint8))
    assert parity.main([*arguments, "--images", str(tmp_path / "images"), "--json", str(file)]) == 1
    assert "1 of 2 artifacts are not proven" in capsys.readouterr().err
    found = json.loads(file.read_text())
    [warning] = found["warnings"]
    assert "left out: 1 file that is no image (.heic 1)" in warning
    assert found["passed"] is False and [one["passed"] for one in found["artifacts"]] == [False, True]


def test_doctor_checkpoint_and_data(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--json", "-"]) == 0
    here = json.loads(capsys.readouterr().out)
    assert [one["target"] for one in here["backends"]] == [backend.target for backend in doctor.BACKENDS]
    onnx = here["backends"][0]
    assert onnx["can_run"] and "CPUExecutionProvider" in onnx["devices"] and onnx["run"].keys() == {"onnxruntime"}
    assert checkpoint.main([str(WEIGHTS), "--json", "-"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert (held["variant"], held["num_classes"], held["parameters"]) == ("yolox-nano", 10, 898_509)
    assert len(held["class_names"]) == 10 and held["converted"] is None
    assert data.main([str(scenes), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["trainable"] is True


def test_standard_output_holds_the_result_alone_whoever_prints(tmp_path: Path) -> None:
    """Python, other processes and libraries that write to the file descriptor."""
    code = """
import ctypes, os, subprocess
from pathlib import Path
from yolox_deploy.json_output import json_output
with json_output(Path("-")) as write:
    print("python")
    subprocess.run(["echo", "process"], check=True)
    os.write(1, b"library\\n")
    ctypes.CDLL(None).printf(b"held\\n")  # in the buffer of C, as of a library
    write({"infinite": float("inf"), "path": Path("p")})
print("after")
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env=environment
    )
    assert set(done.stderr.split()) == {"python", "process", "library", "held"}
    assert done.stdout == '{\n  "infinite": null,\n  "path": "p"\n}\nafter\n'


def test_a_result_is_written_though_an_error_follows_and_not_without_one(tmp_path: Path) -> None:
    file = tmp_path / "a" / "result.json"
    with pytest.raises(NotPassed), json_output(file) as write:
        write({"passed": False})
        raise NotPassed("no", {})
    assert json.loads(file.read_text()) == {"passed": False}
    with pytest.raises(UserError), json_output(tmp_path / "other.json"):
        raise UserError("broke")
    assert not (tmp_path / "other.json").exists()


def test_where_no_file_can_be_written_nothing_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checkpoint.main([str(WEIGHTS), "--json", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"error: --json {tmp_path} is a folder, not a file.\n")
    assert list(tmp_path.iterdir()) == []


def test_detect(
    exported: tuple[Path, dict[str, Any]], scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, images, output = exported[0], tmp_path / "images", tmp_path / "out"
    shutil.copytree(scenes / "val", images)
    arguments = [str(folder), str(images), "--output", str(output), "--json", "-"]
    capsys.readouterr()
    assert detect.main(arguments) == 0
    count = len(json.loads((output / "detections.json").read_text()))
    result = json.loads(capsys.readouterr().out)
    same = {"detections": count, "images": 2, "left_out": [], "output": str(output)}
    assert result == {**same, "video": None, "warnings": []}
    (images / "text.png").write_text("no image")
    assert detect.main(arguments) == 1
    result = json.loads(capsys.readouterr().out)
    assert (result["detections"], result["images"]) == (count, 3)
    assert result["left_out"] == [f"{images / 'text.png'} is not an image that OpenCV reads."]


def test_serving(exported: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert serving.main([str(exported[0]), "--server", "ovms", "--output", str(tmp_path), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == {"folders": {"ovms": str(tmp_path / "ovms")}, "warnings": []}


# What these write is text and whole numbers, or goes to a process of ours.
PLAIN = {
    "runtimes/json_file.py", "runtimes/onnx.py", "runtimes/trt_engine.py", "exporters/artifact.py",
    "exporters/serving/contract.py", "exporters/serving/ovms.py", "yolox_deploy/model/safetensors_file.py",
    "yolox_deploy/data/scenes.py", "benchmarks/licences.py", "benchmarks/faults/moments.py",
    "benchmarks/faults/__main__.py", "benchmarks/fuzz/parsers.py", "benchmarks/fuzz/worker.py",
    "benchmarks/fuzz/targets.py", "benchmarks/fuzz/__main__.py", "benchmarks/baselines/cold_official.py",
    "benchmarks/cold.py",
}  # fmt: skip


def test_numbers_are_written_by_what_makes_them_finite() -> None:
    floors = ("runtimes", "exporters", "yolox_deploy", "benchmarks")
    files = [file for floor in floors for file in (ROOT / floor).rglob("*.py")]
    writing = {file.relative_to(ROOT).as_posix() for file in files if "json.dumps(" in file.read_text(encoding="utf-8")}
    assert writing == PLAIN


def strict(text: str) -> Any:
    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_detections_and_histories_are_json_whatever_the_numbers_are(tmp_path: Path) -> None:
    boxes = np.array([[0, 0, np.inf, 5], [1, 2, 3, np.nan], [1, 2, 3, 4]], np.float32)
    found = Detections(boxes, np.array([np.nan, np.inf, 0.5], np.float32), np.zeros(3, np.int64))
    with writing_results(tmp_path / "detections.json") as results:
        results.add(found, 1, (7,), ("cat",))
    rows = strict((tmp_path / "detections.json").read_text())
    assert [(row["score"], row["bbox"], row["category_name"]) for row in rows] == [(0.5, [1, 2, 2, 2], "cat")]
    record = EpochRecord(1, 2, 0.1, {"total": math.nan, "iou": 0.5}, None, math.inf, 1.0)
    text = history_json([record])
    assert strict(text)[0]["losses"] == {"total": None, "iou": 0.5}
    (back,) = read_history(text)
    assert math.isnan(back.losses["total"]) and "nan" in back.line(3)
    assert strict(json_text({"a": [math.nan, {"b": -math.inf}], "c": (1.5, True, None)})) == {
        "a": [None, {"b": None}], "c": [1.5, True, None]
    }  # fmt: skip
    with pytest.raises(TypeError):
        json_text({"a": np.float32(1)})

"""benchmarks.peers and benchmarks.cold: the whole commands, small, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cold
from benchmarks.peers import __main__ as peers
from benchmarks.peers import contenders
from benchmarks.peers.report import HEADER, share_found
from exporters.artifact import Artifact
from runtimes import Detections
from yolox_deploy import export
from yolox_deploy.data.scenes import main as write_scenes

WEIGHTS = Path(__file__).parents[1] / "yolox_deploy" / "weights" / "yolox-nano-scenes.safetensors"


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model for ONNX Runtime, and as the official exporter writes it."""
    folder = tmp_path_factory.mktemp("artifacts")
    raw = ["--target", "onnx", "--no-decode", "--no-uint8-input"]
    for name, options in (("ours", ["--target", "onnx"]), ("official", raw)):
        arguments = ["--weights", str(WEIGHTS), *options, "--name", name, "--output", str(folder)]
        assert export.main(arguments) == 0
    return folder


@pytest.fixture(scope="module")
def official(artifacts: Path) -> Path:
    return artifacts / "official-onnx-fp32" / "model.onnx"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "scenes"
    assert write_scenes([str(folder), "--train", "1", "--val", "4"]) == 0
    return folder / "val"


@pytest.mark.slow
def test_the_whole_command(
    artifacts: Path, official: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With one peer that is not installed, and one that does not run."""
    ncnn = ["--weights", str(WEIGHTS), "--target", "ncnn", "--name", "ours", "--output", str(artifacts)]
    assert export.main(ncnn) == 0
    broken = contenders.Peer("broken", "official_demo:Nothing", "numpy", "numpy")
    absent = contenders.Peer("absent", "official_demo:OfficialDemo", "no_such_package", "no-such-package")
    monkeypatch.setattr(contenders, "PEERS", (contenders.PEERS[0], broken, absent))
    arguments = [str(artifacts / "ours-onnx-fp32"), str(artifacts / "ours-ncnn-fp32"), "--official", str(official)]
    arguments += ["--images", str(scenes), "--launches", "1", "--rounds", "1", "--json", str(tmp_path / "all.json")]
    assert peers.main(arguments) == 0
    printed = capsys.readouterr().out.strip().splitlines()
    assert printed[0] == HEADER.splitlines()[0]
    assert all(line.count("|") == printed[0].count("|") for line in printed[1:6])
    last = json.loads(printed[-1])
    assert [row["name"] for row in last["rows"]] == [
        "official demo",
        "plain NCNN",
        "ours, onnx fp32",
        "ours, ncnn fp32",
    ]
    assert last["rows"][0]["speed"] == {"value": 1, "low": 1, "high": 1}
    assert all(row["found"] == 1 and row["milliseconds"] > 0 and row["peak_mib"] > 20 for row in last["rows"])
    assert "pip install no-such-package" in last["absent"][0] and "has no attribute 'Nothing'" in last["absent"][1]
    assert any("give more --launches" in warning for warning in last["warnings"])
    everything = json.loads((tmp_path / "all.json").read_text(), parse_constant=pytest.fail)
    assert everything["detections"] > 3 and everything["images"] == 4 and everything["machine"]["cores"] >= 1


def test_which_peers_there_are(official: Path) -> None:
    found, absent = contenders.peers_of(official, None, {"threads": 1})
    names = [one.name for one in found]
    assert names[:3] == ["official demo", "plain OpenVINO", "OpenCV dnn"]
    assert ("rtmlib" in names) != any("pip install --no-deps rtmlib" in sentence for sentence in absent)
    assert "no NCNN artifact" in absent[-1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--official", "{official}"], "name artifacts to measure"),
        (["{ours}", "--official", "nothing.onnx"], "nothing.onnx is no ONNX file"),
        (["{ours}", "--official", "{ours}/model.onnx"], "boxes not decoded"),
        (["{ours}", "--official", "{decoded}"], "boxes not decoded"),
        (["{ours}", "--official", "{ours}/spec.json"], "spec.json is no ONNX file"),
        (["{other}", "--official", "{official}"], "they have to be of one model"),
        (["{ours}", "{ours}", "--official", "{official}"], "two artifacts are called"),
        (["{ours}", "--official", "{official}", "--rounds", "0"], "--rounds must be at least 1"),
        (["{ours}", "--official", "{official}", "--nms-threshold", "2"], "--nms-threshold must lie between"),
        (["{ours}", "--official", "{official}", "--images", "nowhere"], "nowhere"),
    ],
)
def test_what_is_refused_before_any_work(
    arguments: list[str], says: str, artifacts: Path, official: Path, artifact: Artifact,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    places = {
        "{ours}": artifacts / "ours-onnx-fp32", "{official}": official, "{other}": artifact.folder,
        "{decoded}": artifact.model,
    }  # fmt: skip
    for place, path in places.items():
        arguments = [one.replace(place, str(path)) for one in arguments]
    assert peers.main(arguments) == 1
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def detections(*boxes: tuple[float, ...]) -> Detections:
    """left, top, right, bottom, confidence, class."""
    rows = np.array(boxes, np.float32).reshape(-1, 6)
    return Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64))


def test_what_is_found_is_counted() -> None:
    """Of the confident ones, by class and place."""
    expected = detections((0, 0, 10, 10, 0.9, 1), (20, 20, 40, 40, 0.5, 2), (50, 50, 60, 60, 0.2, 1))
    moved = detections((0, 1, 10, 10, 0.4, 1), (20, 20, 40, 40, 0.5, 3))
    assert share_found([expected], [expected]) == 1
    assert share_found([expected], [moved]) == 0.5
    assert share_found([expected, expected], [expected, detections()]) == 0.5
    unknown = Detections(expected.xyxy, np.full(3, np.nan), expected.class_id)
    assert share_found([expected], [unknown]) == 1


@pytest.mark.slow
def test_one_image_in_a_process_of_its_own(
    artifacts: Path, official: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next(scenes.glob("*"))
    arguments = [str(artifacts / "ours-onnx-fp32"), "--official", str(official), "--image", str(image), "--runs", "2"]
    assert cold.main(arguments) == 0
    printed = capsys.readouterr().out.strip().splitlines()
    assert printed[0] == cold.HEADER.splitlines()[0] and printed[2].count("|") == printed[0].count("|")
    demo, light, ours = json.loads(printed[-1])["rows"]
    assert (demo["name"], light["name"]) == ("official demo, with PyTorch", "official demo, without")
    assert ours["name"] == "ours, onnx fp32"
    assert light["found"] == demo["found"] and light["peak_mib"] < demo["peak_mib"]
    assert demo["speed"] == demo["memory"] == {"value": 1, "low": 1, "high": 1}
    assert demo["found"] >= ours["found"] > 0
    assert ours["milliseconds"] > 100 and ours["peak_mib"] > 20
    # PyTorch alone takes more than all of ours.
    assert ours["speed"]["low"] > 1 and ours["memory"]["low"] > 1.5


def test_a_script_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(cold.UserError, match="broken ended with code 1: ValueError: no"):
        cold.run_once(cold.Script("broken", ["-c", "raise ValueError('no')"]))
    slow = cold.run_once(cold.Script("slow", ["-c", "import time; time.sleep(0.3); print('said'); print('[3, 7.5]')"]))
    assert slow.milliseconds > 300 and (slow.found, slow.peak_mib) == (3, 7.5)


def test_ratios_are_those_of_rounds() -> None:
    ratio = cold.ratio([10, 20, 40], [5, 5, 5])
    assert (ratio.value, ratio.low, ratio.high) == (4, 2, 8)
    assert str(ratio) == "4.00x [2.00, 8.00]"


def test_processes_that_have_ended_are_not_others() -> None:
    before = cold.used()
    cold.run_once(cold.Script("busy", ["-c", "sum(range(20_000_000)); print('[0, 0]')"]))
    assert cold.used().own - before.own > 0.1

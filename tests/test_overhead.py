from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import overhead, streams
from benchmarks.baselines.bare import BareNcnn, BareOnnx, BareOpenVINO
from benchmarks.compare.speed import Contender, Timing
from benchmarks.stages import StageTimes
from exporters.artifact import Artifact
from runtimes import Detections, Detector
from runtimes.preprocess import Image

IMAGE = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def artifacts(single: Callable[[str], Artifact]) -> dict[str, Path]:
    """The folder of one artifact for each target."""
    return {target: single(target).folder for target in ("onnx", "openvino", "ncnn")}


def test_each_backend_runs_alone(artifacts: dict[str, Path]) -> None:
    alone = [
        BareOnnx(artifacts["onnx"] / "model.onnx"),
        BareOpenVINO(artifacts["openvino"] / "model.xml", inference_precision="f32"),
        BareNcnn(artifacts["ncnn"] / "model.param", size=(256, 320)),
    ]
    for program in alone:
        assert len(program(IMAGE)) == 0
        program.close()
        with pytest.raises((AttributeError, TypeError)):  # it is gone
            program(IMAGE)


def test_the_same_file_and_options_alone(artifacts: dict[str, Path]) -> None:
    contender = Contender("ncnn fp32", artifacts["ncnn"], {"threads": 1, "bf16": True})
    alone = overhead.bare(contender)
    assert alone.artifact == artifacts["ncnn"] / "model.param"
    assert alone.options == {"threads": 1, "bf16": True, "size": (256, 320)}
    assert alone.program == "benchmarks.baselines.bare:BareNcnn"


def test_around_is_all_but_the_backend() -> None:
    runs = [StageTimes(1, 0, 8, 0, 1, engine=8, total=8 + cost) for cost in (3, 1, 2)]
    assert overhead.around(Timing(launches=[[runs]])) == 2


def test_overhead_command(artifacts: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(artifacts["onnx"]), str(artifacts["openvino"]), "--launches", "1", "--rounds", "1"]
    assert overhead.main(arguments) == 0
    *_, last = capsys.readouterr().out.splitlines()
    onnx, openvino = json.loads(last)["rows"]
    assert min(onnx[part] for part in ("photo", "full_hd", "engine", "bare")) > 0
    assert onnx["app"] is None and openvino["app"] > 0
    assert overhead.main([]) == 1
    assert "name artifacts" in capsys.readouterr().err


def test_streams_command(artifacts: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    turns = ["--launches", "1", "--rounds", "1", "--seconds", "0.2", "--streams", "2"]
    assert streams.main([str(artifacts["onnx"]), *turns]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    [row] = json.loads(last)["rows"]
    assert row["identical"] and row["alone"] > 0 and row["together"] > 0
    assert streams.main([str(artifacts["onnx"]), "--seconds", "0"]) == 1
    assert "--seconds must be more than 0" in capsys.readouterr().err


def test_another_order_is_not_the_same(
    artifacts: dict[str, Path], images: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    contender = Contender("onnx", artifacts["onnx"], {"threads": 1})
    assert streams.detects_the_same(contender, images, 3)

    def backwards(detector: Detector, chunks: Iterator[list[Image]]) -> Iterator[Detections]:
        return iter([one for chunk in reversed(list(chunks)) for one in detector._detect(chunk)])

    monkeypatch.setattr(Detector, "_side_by_side", backwards)
    assert not streams.detects_the_same(contender, images, 3)

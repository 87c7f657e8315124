from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.compare.roofline import convolution_gflops
from benchmarks.layers import Part, main, parts_of, time_onnx, time_openvino, work_of
from exporters.artifact import Artifact
from runtimes import ModelSpec
from runtimes.preprocess import Image, preprocess
from yolox_deploy.model.yolox import YOLOX


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def model_file(
    request: pytest.FixtureRequest, exported: Callable[[str, ModelSpec], Artifact], small_spec: ModelSpec
) -> Path:
    return exported(request.param, replace(small_spec, batch=1)).model


def test_the_work_is_that_of_the_model(model_file: Path, seeded_nano: YOLOX) -> None:
    work = work_of(model_file)
    assert len(work) == 113
    assert work["backbone.backbone.stem.0"] == ("6x6", pytest.approx(2e-9 * 16 * 108 * 128 * 160))
    assert work["backbone.backbone.dark2.0.dconv.0"] == ("depthwise 3x3", pytest.approx(2e-9 * 16 * 9 * 64 * 80))
    total = sum(gflop for _, gflop in work.values())
    assert total == pytest.approx(convolution_gflops(seeded_nano, 256, 320))


def test_every_convolution_is_timed(model_file: Path, small_spec: ModelSpec, images: list[Image]) -> None:
    inputs = [preprocess([image], small_spec)[0] for image in images[:2]]
    timed = (
        time_onnx(model_file, inputs, 3)
        if model_file.suffix == ".onnx"
        else time_openvino(model_file, inputs, 3, False)
    )
    parts = {part.kind: part for part in parts_of(timed, work_of(model_file))}
    assert (parts["convolution 1x1"].layers, parts["convolution depthwise 3x3"].layers) == (82, 30)
    assert parts["convolution 6x6"].layers == 1
    assert sum(part.gflop for part in parts.values()) == pytest.approx(
        sum(gflop for _, gflop in work_of(model_file).values())
    )
    assert all(part.milliseconds > 0 for part in parts.values())


def test_a_share_of_the_peak() -> None:
    row = Part("convolution 1x1", "int8", 3, gflop=0.2, milliseconds=1.0).row(4.0, {"int8": 400.0})
    assert row == "| convolution 1x1 | int8 | 3 | 1.000 | 25% | 200 | 50% |"


def test_the_command(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(model_file), "--runs", "2"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert {part["precision"] for part in json.loads(last)["parts"]} == {"fp32"}
    assert main([str(model_file.parent / "nothing")]) == 1
    assert "does not exist" in capsys.readouterr().err

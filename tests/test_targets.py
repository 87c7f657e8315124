from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import targets
from exporters.artifact import Artifact, write_artifact
from exporters.options import ExportOptions
from exporters.sensitivity import Layer, SensitivityMap
from runtimes import ModelSpec
from runtimes.preprocess import Image
from yolox_deploy.model.yolox import YOLOX

STEM = "backbone.backbone.stem.0"


def test_the_table(
    artifact: Artifact, seeded_nano: YOLOX, small_spec: ModelSpec, images: list[Image], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(artifact.folder, tmp_path / artifact.folder.name)
    spec = replace(small_spec, precision="int8", decoded=False)
    options = ExportOptions(calibration=images, float_layers=frozenset({STEM}))
    int8 = write_artifact(seeded_nano, spec, "ncnn", tmp_path, images, options)
    in_points = '{"ap": 28.5, "drop": 0.1, "reference_ap": 28.6, "images": 3}'  # as earlier versions wrote it
    (int8.folder / "accuracy.json").write_text(in_points)
    pointwise = "backbone.backbone.dark2.0.pconv.0"
    layers = {STEM: Layer(0.1, 30), pointwise: Layer(0.1, 70)}
    known = SensitivityMap("abc", "def", 1, layers)
    (tmp_path / "yolox-nano.sensitivity.json").write_text(known.to_json())

    assert targets.main([str(tmp_path), "--runs", "3"]) == 0
    *table, last = capsys.readouterr().out.strip().splitlines()
    rows = json.loads(last)["rows"]
    assert [(row["target"], row["precision"]) for row in rows] == [("ncnn", "int8"), ("onnx", "fp32")]
    assert (rows[0]["AP"], rows[0]["AP_drop"], rows[0]["int8_share"]) == pytest.approx((0.285, 0.001, 0.7))
    assert "| 28.50 | +0.10 |" in table[2]
    assert (rows[1]["speed"], rows[1]["AP"]) == (1, None)
    assert table[2].count("|") == table[0].count("|")
    sizes = sum((int8.folder / name).stat().st_size for name in ("model.param", "model.bin"))
    assert rows[0]["megabytes"] == sizes / 1e6
    assert table[0] == targets.HEADER.splitlines()[0]
    assert table[2].startswith("| ncnn | int8 |")


def test_an_engine_has_a_row_without_times(
    artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(artifact.folder, tmp_path / artifact.folder.name)
    engine = tmp_path / "yolox-nano-trt-rtx-fp16"
    shutil.copytree(artifact.folder, engine)
    (engine / "spec.json").write_text((engine / "spec.json").read_text().replace('"fp32"', '"fp16"'))
    (engine / "model.rtx").write_bytes(bytes(1500))
    (engine / "accuracy.json").write_text('{"AP": 0.285, "AP_drop": 0.001, "reference_AP": 0.286, "images": 3}')
    assert targets.main([str(tmp_path), "--runs", "2"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [(row["target"], row["AP"], row["speed"]) for row in rows] == [("onnx", None, 1), ("trt-rtx", 0.285, None)]
    assert rows[1]["megabytes"] == 0.0015


def test_without_the_one_to_compare_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert targets.main([str(tmp_path)]) == 1
    assert "no ONNX artifact in fp32" in capsys.readouterr().err

"""The real Nano on real images: what each target and precision may lose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.export_matrix import UNJUDGED
from benchmarks.int8_share import int8_share
from exporters.artifact import write_artifact
from exporters.options import ExportOptions
from exporters.report import TOLERANCES
from exporters.sensitivity import measure_sensitivity
from exporters.torch_runtime import TorchRuntime
from runtimes import Detector, load
from yolox_deploy.data.open import open_dataset
from yolox_deploy.data.shapes import shapes_images
from yolox_deploy.doctor import cpu
from yolox_deploy.evaluate import evaluate
from yolox_deploy.model.checkpoint import Checkpoint
from yolox_deploy.model.open import describe
from yolox_deploy.model.seeded import seeded_model

BF16: dict[str, Any] = {"inference_precision": "bf16"}
CASES = [
    ("onnx", "fp32", {}, 0.05),
    ("onnx", "fp16", {}, 0.2),
    ("openvino", "fp32", {}, 0.05),
    ("openvino", "fp16", {}, 0.2),
    ("openvino", "fp32", BF16, 0.2),
]


@pytest.mark.slow
@pytest.mark.parametrize(("target", "precision", "options", "most"), CASES)
def test_ap_is_kept(
    target: str, precision: Any, options: dict[str, Any], most: float, shared: Path, nano_checkpoint: Checkpoint,
    tmp_path: Path,
) -> None:  # fmt: skip
    if options and "bf16" not in cpu():
        pytest.skip("this processor computes no bf16")
    data = open_dataset(shared / "data" / "coco-val2017-206")
    trained = describe(nano_checkpoint.build(), nano_checkpoint)
    spec = replace(trained.spec, precision=precision, decoded=True, batch=1)
    artifact = write_artifact(trained.model, spec, target, tmp_path, list(data.read_images()[:10]))
    expected = evaluate(Detector(TorchRuntime(trained.model, trained.spec), 0.001), data, batch=8).AP
    with load(artifact.folder, score_threshold=0.001, threads=1, **options) as detector:
        found = evaluate(detector, data).AP
    assert expected == pytest.approx(0.2860, abs=1e-4)
    assert 100 * abs(expected - found) <= most


@pytest.mark.parametrize(
    ("target", "batch", "size"),
    [
        pytest.param("onnx", 4, (416, 416), marks=pytest.mark.slow),
        pytest.param("openvino", 4, (416, 416), marks=pytest.mark.slow),
        pytest.param("onnx", None, (384, 640), marks=pytest.mark.slow),
        pytest.param("openvino", None, (384, 640), marks=pytest.mark.slow),
    ],
)
def test_batches_detect_the_same(
    target: str, batch: int | None, size: tuple[int, int], shared: Path, nano_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """fp32 at a fixed and a free batch, square and not: none missed, none extra, within the tolerance of fp32."""
    images = list(open_dataset(shared / "data" / "coco-val2017-206").read_images()[:8])
    trained = describe(nano_checkpoint.build(), nano_checkpoint, input_size=size)
    spec = replace(trained.spec, decoded=True, batch=batch)
    report = write_artifact(trained.model, spec, target, tmp_path, images).report
    assert (report.missed, report.extra) == (0, 0)
    assert report.detections > 200


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "openvino", "ncnn"])
def test_nine_tenths_of_s_compute_in_int8(target: str, tmp_path: Path) -> None:
    """With seeded weights, since which layers stay in float is decided by their cost, whatever they detect."""
    trained = describe(seeded_model("yolox-s"))
    images = shapes_images(4, seed=1)
    found = measure_sensitivity(trained.model, trained.spec, images[:2])
    floats = found.in_float(0.02)
    spec = replace(trained.spec, precision="int8", decoded=target != "ncnn", batch=1)
    options = ExportOptions(calibration=images, float_layers=floats)
    lenient = replace(TOLERANCES["int8"], **UNJUDGED)
    artifact = write_artifact(trained.model, spec, target, tmp_path, images[:1], options, lenient)
    assert int8_share(artifact.model, found) >= 0.9

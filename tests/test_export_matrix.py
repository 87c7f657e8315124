"""Every variant x input size x batch exports and passes. The smallest always, all of them in the slow run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks.export_matrix import UNJUDGED, Batch, Job, MatrixConfig, Size, check_layers, export_one, jobs, main
from exporters.artifact import write_artifact
from exporters.options import ExportOptions, TensorRTOptions
from exporters.report import TOLERANCES
from yolox_deploy.data.shapes import shapes_images
from yolox_deploy.export import Target
from yolox_deploy.model.open import TrainedModel, describe
from yolox_deploy.model.seeded import seeded_model
from yolox_deploy.model.variants import VARIANTS, VariantName

SMALL = ("yolox-nano",)
OTHERS = ("openvino", "ncnn", "trt-rtx")


@pytest.fixture(scope="module")
def trained(request: pytest.FixtureRequest) -> Iterator[TrainedModel]:
    variant: VariantName = request.param
    yield describe(seeded_model(variant))


@pytest.mark.parametrize(
    "trained",
    [pytest.param(variant, marks=[] if variant in SMALL else [pytest.mark.slow]) for variant in VARIANTS],
    indirect=True,
    scope="module",
)
@pytest.mark.parametrize(
    "size", [*(pytest.param(size, marks=pytest.mark.slow) for size in MatrixConfig.sizes[:-1]), MatrixConfig.sizes[-1]]
)
@pytest.mark.parametrize("batch", [*(pytest.param(batch, marks=pytest.mark.slow) for batch in ("1", "3", "dynamic"))])
def test_onnx(trained: TrainedModel, size: Size, batch: Batch) -> None:
    row = export_one(trained, Job(trained.model.variant, "onnx", "fp32", size, batch, "plain"), images=4)
    assert row.problem() is None
    assert row.report.detections >= 20


@pytest.mark.slow
@pytest.mark.parametrize("trained", VARIANTS, indirect=True, scope="module")
@pytest.mark.parametrize("target", OTHERS)
def test_the_other_targets(trained: TrainedModel, target: Target) -> None:
    row = export_one(trained, Job(trained.model.variant, target, "fp32", "384x640", "4", "plain"), images=4)
    assert row.problem() is None
    assert row.report.detections >= 20


def _shifted(graph: onnx.GraphProto) -> None:
    """One convolution's input is taken for a twentieth smaller than it was."""
    node = next(
        node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0].endswith("_quantized")
    )
    scale = next(tensor for tensor in graph.initializer if tensor.name == node.input[1])
    wrong = numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(0.95), "wrong_scale")
    graph.initializer.append(wrong)
    node.input[1] = wrong.name


def _rescaled(graph: onnx.GraphProto) -> None:
    """One convolution has weights that are a tenth smaller."""
    scale = next(tensor for tensor in graph.initializer if tensor.name.endswith(".weight_scale"))
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(0.9), scale.name))


def test_int8_of_a_layer_that_is_computed_otherwise(tmp_path: Path) -> None:
    """The output of a seeded model in int8 is far from PyTorch's in any case; its layers are not."""
    trained = describe(seeded_model("yolox-tiny"), input_size=(128, 160))
    job = Job("yolox-tiny", "trt", "int8", "own", "1", "plain")
    images = shapes_images(2)
    options = ExportOptions(calibration=images, tensorrt=TensorRTOptions(build=False))
    tolerance = replace(TOLERANCES["int8"], **UNJUDGED)
    artifact = write_artifact(trained.model, job.spec(trained.spec), "trt", tmp_path, images, options, tolerance)
    assert check_layers(trained, artifact.model, job, images[0]).problem is None
    for fault in (_shifted, _rescaled):
        model = onnx.load(artifact.model)
        fault(model.graph)
        onnx.save(model, tmp_path / "wrong.onnx")
        assert check_layers(trained, tmp_path / "wrong.onnx", job, images[0]).problem, fault


def test_the_table_has_as_many_columns_as_rows(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--variants", "yolox-nano", "--sizes", "384x640", "--batches", "1", "--images", "1"]
    assert main([*arguments, "--heads", "uint8-topk"]) == 0
    header, separator, row, *_ = capsys.readouterr().out.splitlines()
    assert header.count("|") == separator.count("|") == row.count("|")
    assert main([*arguments, "--heads", "uint8-topk", "--targets", "onnx", "ncnn"]) == 1
    assert "which ncnn leaves to the runtime" in capsys.readouterr().err


def test_every_combination_is_a_job() -> None:
    config = MatrixConfig(variants=("yolox-s",), targets=get_args(Target), precisions=("fp32", "int8"), batches=("1",))
    assert len(set(jobs(config))) == len(jobs(config)) == len(get_args(Target)) * 2 * 3

"""Every variant x input size x batch exports and passes. The smallest always, all of them in the slow run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.export_matrix import LIMITS, Batch, Job, MatrixConfig, Size, export_one, jobs
from exporters.parity import compare
from exporters.report import TOLERANCES
from exporters.torch_runtime import TorchRuntime
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
@pytest.mark.parametrize("size", MatrixConfig.sizes)
@pytest.mark.parametrize("batch", MatrixConfig.batches)
def test_onnx(trained: TrainedModel, size: Size, batch: Batch) -> None:
    row = export_one(trained, Job(trained.model.variant, "onnx", "fp32", size, batch, "plain"), images=4)
    assert row.report, row.report.problem()
    assert row.report.detections >= 20


@pytest.mark.slow
@pytest.mark.parametrize("trained", VARIANTS, indirect=True, scope="module")
@pytest.mark.parametrize("target", OTHERS)
def test_the_other_targets(trained: TrainedModel, target: Target) -> None:
    row = export_one(trained, Job(trained.model.variant, target, "fp32", "384x640", "4", "plain"), images=4)
    assert row.report, row.report.problem()
    assert row.report.detections >= 20


class Nonsense:
    """A runtime that gives the reference's scores and no boxes."""

    def __init__(self, trained: TrainedModel) -> None:
        self.reference = TorchRuntime(trained.model, trained.spec)
        self.spec = replace(self.reference.spec, precision="int8", decoded=True)

    def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        output = self.reference.infer(images)
        output[..., :4] = 0
        return output

    def close(self) -> None: ...


def test_int8_that_finds_no_boxes_is_no_parity() -> None:
    trained = describe(seeded_model("yolox-nano"), input_size=(128, 160))
    limits = replace(TOLERANCES["int8"], alone_share=1.0, mean_box=1.0, mean_score=1.0, **LIMITS["int8"])
    runtime = Nonsense(trained)
    report = compare(runtime.reference, runtime, shapes_images(2), limits)
    assert "best anchors" in str(report.problem())


def test_every_combination_is_a_job() -> None:
    config = MatrixConfig(variants=("yolox-s",), targets=get_args(Target), precisions=("fp32", "int8"), batches=("1",))
    assert len(set(jobs(config))) == len(jobs(config)) == 5 * 2 * 3

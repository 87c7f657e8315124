"""Every variant x input size x batch exports and passes. The small variants always, all of them in the slow run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.export_matrix import BATCHES, SIZES, export_one
from yolox_deploy.model.open import TrainedModel, describe
from yolox_deploy.model.seeded import seeded_model
from yolox_deploy.model.variants import VARIANTS, VariantName

SMALL = ("yolox-nano", "yolox-tiny")


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
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: f"batch-{batch or 'dynamic'}")
def test_parity(trained: TrainedModel, size: tuple[int, int], batch: int | None) -> None:
    row = export_one(trained, size, batch, images=4)
    assert row.report, row.report.problem()
    assert row.report.detections >= 20

"""python -m benchmarks.export_matrix: every variant, input size and batch exported, and its parity.

Prints a Markdown table (kept in results/) and ends with one JSON line. Weights are seeded: what is shown is that the
export is sound for every shape, not how well a model detects.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tqdm import tqdm

from exporters.artifact import write_artifact
from exporters.parity import ParityError, ParityReport
from runtimes.errors import UserError
from yolox_deploy.console import run
from yolox_deploy.data.shapes import shapes_images
from yolox_deploy.model.open import TrainedModel, describe
from yolox_deploy.model.seeded import seeded_model
from yolox_deploy.model.variants import VARIANTS, VariantName

SIZES = ((640, 640), (416, 416), (384, 640))
BATCHES = (1, 3, None)  # None: any


@dataclass(frozen=True)
class MatrixConfig:
    """Export every variant at every size and batch, and show the parity of each."""

    variants: tuple[VariantName, ...] = tuple(VARIANTS)
    """Which variants."""
    images: int = 4
    """Generated images to compare on."""


@dataclass(frozen=True)
class Row:
    """One export."""

    variant: VariantName
    input_size: tuple[int, int]
    batch: int | None
    report: ParityReport
    megabytes: float
    seconds: float

    def __str__(self) -> str:
        height, width = self.input_size
        report = self.report
        verdict = "pass" if report else f"FAIL: {report.problem()}"
        return (
            f"| {self.variant} | {height}x{width} | {self.batch or 'dynamic'} | {report.detections} | {report.missed} |"
            f" {report.extra} | {report.box_error:.1e} | {report.score_error:.1e} | {self.megabytes:.1f} |"
            f" {self.seconds:.0f} | {verdict} |"
        )


HEADER = (
    "| variant | input | batch | detections | missed | extra | box error, px | score error | MB | seconds | parity |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


def export_one(trained: TrainedModel, size: tuple[int, int], batch: int | None, images: int) -> Row:
    """Export to ONNX in a temporary folder and compare on generated images."""
    spec = replace(trained.spec, input_size=size, batch=batch, decoded=True)
    start, megabytes = time.monotonic(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        try:
            artifact = write_artifact(trained.model, spec, "onnx", Path(folder), shapes_images(images))
            report, megabytes = artifact.report, artifact.model.stat().st_size / 1e6
        except ParityError as error:
            report = error.report
    return Row(trained.model.variant, size, batch, report, megabytes, time.monotonic() - start)


def matrix(variants: Sequence[VariantName], images: int) -> Iterator[Row]:
    """The rows of the table, as they are done."""
    for variant in variants:
        trained = describe(seeded_model(variant))
        for size in SIZES:
            for batch in BATCHES:
                yield export_one(trained, size, batch, images)


def command(config: MatrixConfig) -> None:
    print(HEADER)
    rows = []
    for row in tqdm(matrix(config.variants, config.images), total=len(config.variants) * len(SIZES) * len(BATCHES)):
        print(row, flush=True)
        rows.append(row)
    failed = [row for row in rows if not row.report]
    print(json.dumps({"exports": len(rows), "failed": len(failed), "rows": [asdict(row) for row in rows]}))
    if failed:
        raise UserError(f"{len(failed)} of {len(rows)} exports have no parity.")


def main(arguments: Sequence[str] | None = None) -> int:
    return run("python -m benchmarks.export_matrix", MatrixConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""python -m benchmarks.export_matrix: every variant, target, precision, size and batch exported, and its parity.

Prints a Markdown table (kept in results/) and ends with one JSON line. Weights are seeded: what is shown is that the
export is sound for every shape, not how well a model detects. So fp16 and int8 are not judged by detections (the
classes of a seeded model have all but equal scores, and the least rounding decides between them), and int8 not by the
output alone (random weights amplify its rounding from layer to layer, as trained ones do not). Every layer is looked at
by itself, with `benchmarks.diverge`: given what it got, and rounded as the graph says, does it give what PyTorch gives?
int8 is calibrated on generated images, without a sensitivity map.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from exporters.artifact import write_artifact
from exporters.options import ExportOptions
from exporters.report import TOLERANCES, ParityError, ParityReport
from runtimes.errors import InvalidInput, UserError
from runtimes.json_file import json_text
from runtimes.preprocess import Image
from runtimes.spec import ModelSpec, Precision
from runtimes.trt_engine import LIBRARIES, EngineInfo
from yolox_deploy.artifact_spec import RAW_TARGETS
from yolox_deploy.console import run
from yolox_deploy.data.shapes import shapes_images
from yolox_deploy.export import Target
from yolox_deploy.model.open import TrainedModel, describe
from yolox_deploy.model.seeded import seeded_model
from yolox_deploy.model.variants import VARIANTS, VariantName
from yolox_deploy.progress import progress_bar

from .diverge.__main__ import diverge

CALIBRATION_IMAGES = 8

# Detections and the mean error of the output are shown; these two are judged by their layers.
UNJUDGED: dict[str, Any] = {"mean": None, "alone_share": 1.0, "mean_box": 1.0, "mean_score": 1.0}
ROUNDED: tuple[Precision, ...] = ("fp16", "int8")

# What a layer may give otherwise than PyTorch does with the same stored weights and the same rounding of its input.
LAYER_LIMITS: dict[Precision, float] = {"fp32": 1e-4, "fp16": 1e-2, "int8": 1e-2}
# In int8, ONNX Runtime and OpenVINO round what a layer gives, too.
OUTPUT_ROUNDED: dict[Target, float] = {"onnx": 0.3, "openvino": 0.3}

Size = Literal["own", "640x640", "416x416", "384x640"]
Batch = Literal["1", "3", "4", "dynamic"]
Head = Literal["plain", "uint8-topk"]

# What each head changes in the spec. The second is what TensorRT is fastest with.
HEADS: dict[str, dict[str, Any]] = {"plain": {}, "uint8-topk": {"uint8_input": True, "topk": 300}}


@dataclass(frozen=True)
class MatrixConfig:
    """Export every combination of what is named, and show the parity of each."""

    variants: tuple[VariantName, ...] = tuple(VARIANTS)
    """Which variants."""
    targets: tuple[Target, ...] = ("onnx",)
    """Which targets."""
    precisions: tuple[Precision, ...] = ("fp32",)
    """Which precisions."""
    sizes: tuple[Size, ...] = ("640x640", "416x416", "384x640")
    """Input heights and widths; own: the variant's."""
    batches: tuple[Batch, ...] = ("1", "3", "dynamic")
    """Which batches."""
    heads: tuple[Head, ...] = ("plain",)
    """Ends of the graph: plain, or bytes in and the 300 best anchors out."""
    images: int = 4
    """Generated images to compare on."""


@dataclass(frozen=True)
class Job:
    """One export to try."""

    variant: VariantName
    target: Target
    precision: Precision
    size: Size
    batch: Batch
    head: Head

    def spec(self, own: ModelSpec) -> ModelSpec:
        height, width = own.input_size if self.size == "own" else map(int, self.size.split("x"))
        batch = None if self.batch == "dynamic" else int(self.batch)
        decoded = self.target not in RAW_TARGETS
        return replace(
            own, input_size=(height, width), batch=batch, precision=self.precision, decoded=decoded, **HEADS[self.head]
        )


@dataclass(frozen=True)
class LayerCheck:
    """error: the largest of any layer, beyond what its rounding explains; None where not looked at."""

    error: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Row:
    """One export and its proof. build_seconds: of an engine. seconds: of everything, proof included."""

    job: Job
    report: ParityReport
    layers: LayerCheck
    megabytes: float
    build_seconds: float | None
    seconds: float

    def problem(self) -> str | None:
        """What is wrong, in words; None where all is well."""
        return self.report.problem() or self.layers.problem

    def __str__(self) -> str:
        job, report = self.job, self.report
        verdict = f"FAIL: {self.problem()}" if self.problem() else "pass"
        return (
            f"| {job.variant} | {job.target} | {job.precision} | {job.size} | {job.batch} | {job.head} |"
            f" {report.detections} | {report.missed} | {report.extra} | {_error(report.box_error)} |"
            f" {_error(report.score_error)} | {_error(report.mean_error)} | {_error(self.layers.error)} |"
            f" {self.megabytes:.1f} |"
            f" {'' if self.build_seconds is None else self.build_seconds} | {self.seconds:.0f} | {verdict} |"
        )


def _error(value: float | None) -> str:
    """Exactly 0 is that of no pair."""
    return f"{value:.1e}" if value else "-"


HEADER = (
    "| variant | target | precision | input | batch | head | detections | missed | extra | box error, px | score error"
    " | mean error | layer error | MB | build, s | all, s | parity |\n" + "|---" * 17 + "|"
)


def export_one(trained: TrainedModel, job: Job, images: int) -> Row:
    """Export in a temporary folder and compare on generated images."""
    start, megabytes, build_seconds, layers = time.monotonic(), 0.0, None, LayerCheck()
    spec, compared = job.spec(trained.spec), shapes_images(images)
    tolerance = replace(TOLERANCES[job.precision], **UNJUDGED if job.precision in ROUNDED else {})
    options = ExportOptions(calibration=shapes_images(CALIBRATION_IMAGES, seed=1))
    with tempfile.TemporaryDirectory() as folder:
        try:
            artifact = write_artifact(trained.model, spec, job.target, Path(folder), compared, options, tolerance)
            report, layers = artifact.report, check_layers(trained, artifact.model, job, compared[0])
            if artifact.model.suffix in LIBRARIES:
                build_seconds = EngineInfo.read(artifact.model).build_seconds
            megabytes = sum(file.stat().st_size for file in model_files(artifact.model)) / 1e6
        except ParityError as error:
            report = error.report
    return Row(job, report, layers, megabytes, build_seconds, time.monotonic() - start)


def check_layers(trained: TrainedModel, model: Path, job: Job, image: Image) -> LayerCheck:
    """Compare layer by layer, of an engine the graph that it was built from."""
    graph = model.with_name("model.onnx") if model.suffix in LIBRARIES else model
    found = diverge(trained, graph, job.spec(trained.spec), image)
    limit = OUTPUT_ROUNDED.get(job.target, 0) if job.precision == "int8" else 0
    limit = max(limit, LAYER_LIMITS[job.precision])
    error, worst = max((row.unexplained, row.name) for row in found.rows if row.unexplained is not None)
    wrong = [finding for finding in found.findings if not finding.is_rounding]
    if wrong:
        return LayerCheck(error, str(wrong[0]))
    return LayerCheck(error, None if error <= limit else f"{worst} is off by {error:.2g} (tolerance {limit})")


def model_files(path: Path) -> list[Path]:
    """The model file and its weights, where those are a file of their own."""
    return [path, *path.parent.glob("*.bin")]


def jobs(config: MatrixConfig) -> list[Job]:
    combinations = product(
        config.variants, config.targets, config.precisions, config.sizes, config.batches, config.heads
    )
    return [Job(*combination) for combination in combinations]


def matrix(config: MatrixConfig) -> Iterator[Row]:
    """The rows of the table, as they are done."""
    trained: TrainedModel | None = None
    for job in jobs(config):
        if trained is None or trained.model.variant != job.variant:
            trained = describe(seeded_model(job.variant))
        yield export_one(trained, job, config.images)


def command(config: MatrixConfig) -> None:
    if RAW_TARGETS & set(config.targets) and "uint8-topk" in config.heads:
        raise InvalidInput("--heads uint8-topk works on decoded boxes, which ncnn leaves to the runtime.")
    print(HEADER)
    rows = []
    for row in progress_bar(matrix(config), total=len(jobs(config)), unit="export"):
        print(row, flush=True)
        rows.append(row)
    failed = [row for row in rows if row.problem()]
    print(json_text({"exports": len(rows), "failed": len(failed), "rows": [asdict(row) for row in rows]}))
    if failed:
        raise UserError(f"{len(failed)} of {len(rows)} exports have no parity.")


def main(arguments: Sequence[str] | None = None) -> int:
    return run("python -m benchmarks.export_matrix", MatrixConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

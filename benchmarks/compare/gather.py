"""Everything that a comparison measures, one artifact after the other; speed all together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from exporters.parity import compare
from exporters.report import TOLERANCES
from runtimes.detections import Detections
from runtimes.detector import Detector
from runtimes.errors import InvalidInput, UserError
from runtimes.load import is_checkpoint, load
from runtimes.preprocess import Image
from runtimes.proof import sha256_file
from runtimes.spec import ModelSpec
from yolox_deploy.accuracy import SCORE_THRESHOLD
from yolox_deploy.categories import match_categories
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.evaluate import detect_all
from yolox_deploy.evaluator import coco_evaluation
from yolox_deploy.options import ModelOptions
from yolox_deploy.progress import progress_bar
from yolox_deploy.verification import choose_images, evenly

from ..machine import describe_machine, warnings
from ..reference import open_reference
from .comparison import Comparison, Row
from .intervals import speed_ratio
from .roofline import convolution_gflops, measured_peaks
from .speed import Contender, Throughput, Timing, batches_of, is_bf16, measure, sweep_throughput
from .task import Task, check_same_classes, is_engine, model_files, size_text
from .worst import WorstImage, worst_images

TIMED_IMAGES = 16

# bf16 keeps 8 bits of a number where fp16 keeps 11.
BF16_TOLERANCE = replace(TOLERANCES["fp16"], mean_box=0.05, mean_score=0.03)


@dataclass(frozen=True, eq=False)
class Accuracy:
    """figures: COCO's twelve, None without labels. found: the detections in every image of the data set."""

    figures: dict[str, float] | None
    found: list[Detections]


def gather(task: Task, start: float) -> tuple[Comparison, list[WorstImage]]:
    """Measure all. start: when the work began, by `time.perf_counter`."""
    machine, doubts = describe_machine(), list[str]()
    size = task.specs[task.baseline].input_size
    standard, gflops = open_standard(task.reference, task.foreign, size, task.real)
    check_same_classes({"--reference": standard.spec, **task.specs}, task.dataset)
    doubts += standard.warnings
    truth = measure_accuracy(standard, task.dataset)
    score = max(TOLERANCES[spec.precision].alone_score for spec in task.specs.values())
    some = choose_images(standard.runtime, task.images, task.parity_images, score)
    accuracies, parities = {}, {}
    for contender in task.contenders:
        with load(contender.artifact, **contender.options) as detector:
            accuracies[contender.name] = measure_accuracy(detector, task.dataset)
            kind = computes(detector.spec, contender)
            parities[contender.name] = measure_parity(standard, detector, kind, some, contender.name, task.source)
    worst: list[WorstImage] = []
    if task.dataset is not None:
        found = {name: accuracy.found for name, accuracy in accuracies.items()}
        worst = worst_images(task.dataset, truth.found, found, standard.spec.class_names)
    standard.close()
    timed = [task.images[index] for index in evenly(len(task.images), TIMED_IMAGES)]
    peaks = measured_peaks(task.threads)
    speed = measure(task.contenders, timed, task.plan)
    loads, sweeps = list(speed.loads), dict[str, list[Throughput]]()
    for contender in progress_bar(task.contenders, unit="artifact", desc="throughput"):
        sweeps[contender.name] = []
        try:
            ways = sweep_throughput(contender, timed, machine.cores, batches_of(task.specs[contender.name]))
        except UserError as error:  # of too many streams, say: all else was measured
            doubts.append(f"Throughput of {contender.name}: {error}")
        else:
            sweeps[contender.name] = ways[0]
            loads += ways[1]
    rows = [
        make_row(
            contender=contender,
            spec=task.specs[contender.name],
            timing=speed.timings[contender.name],
            first=speed.timings[task.baseline],
            throughput=sweeps[contender.name],
            accuracy=accuracies[contender.name],
            truth=truth,
            parity=parities[contender.name],
            peaks=peaks,
            gflops=gflops,
        )
        for contender in task.contenders
    ]
    doubts += warnings(loads, speed.drift(task.baseline)) + speed.doubts(task.plan)
    return (
        Comparison(
            reference=str(task.reference),
            reference_figures=truth.figures,
            baseline=task.baseline,
            images=len(timed),
            data="" if task.dataset is None else f"{task.dataset.source} ({len(task.dataset)} images)",
            rows=rows,
            peaks=peaks,
            gflops=gflops,
            warnings=[*task.warnings, *doubts],
            machine=machine,
            seconds=time.perf_counter() - start,
        ),
        worst,
    )


def open_standard(
    path: Path, foreign: ModelOptions, size: tuple[int, int], images: Sequence[Image] = ()
) -> tuple[Detector, float | None]:
    """The reference at the score threshold of AP, and the billions of operations of its convolutions, if known.

    A checkpoint runs at any size, (height, width); raises `InvalidInput` for an artifact that has another.
    """
    if is_checkpoint(path):
        from yolox_deploy.model.checkpoint import read_checkpoint
        from yolox_deploy.model.open import open_checkpoint

        runtime = open_checkpoint(path, foreign, size, "cpu", None, images)
        detector = Detector(runtime, SCORE_THRESHOLD)
        detector.warnings = runtime.notes
        return detector, convolution_gflops(read_checkpoint(path).build(), *size)
    artifact = open_reference(path, foreign)
    if artifact.spec.input_size != size:
        own = size_text(artifact.spec)
        artifact.close()
        raise InvalidInput(f"--reference {path} has the input size {own}: it has to be that of the artifacts.")
    return Detector(artifact, SCORE_THRESHOLD), None


def computes(spec: ModelSpec, contender: Contender) -> str:
    """What the convolutions compute in: processors widen fp16 files, GPUs do not. In int8, all but a few."""
    if spec.precision != "int8" and is_bf16(contender):
        return "bf16"
    return "fp32" if spec.precision == "fp16" and not is_engine(contender.artifact) else spec.precision


def measure_accuracy(detector: Detector, dataset: Dataset | None) -> Accuracy:
    if dataset is None:
        return Accuracy(None, [])
    categories = match_categories(detector.spec, dataset)
    found = detect_all(Detector(detector.runtime, SCORE_THRESHOLD), dataset)
    return Accuracy(asdict(coco_evaluation(dataset, found, categories).figures), found)


def measure_parity(
    standard: Detector, detector: Detector, precision: str, images: Sequence[Image], name: str, source: str
) -> dict[str, Any]:
    """The fields of a `ParityReport`, whether it passed, and what it says. source: where the images are from."""
    tolerance = BF16_TOLERANCE if precision == "bf16" else TOLERANCES[detector.spec.precision]
    bar = progress_bar(images, unit="image", desc=f"parity {name}")
    report = compare(standard.runtime, detector.runtime, images, tolerance, progress=lambda _: bar)
    report = replace(report, source=source)
    return {"passed": bool(report), "text": str(report), **asdict(report)}


def make_row(
    contender: Contender,
    spec: ModelSpec,
    timing: Timing,
    first: Timing,
    throughput: list[Throughput],
    accuracy: Accuracy,
    truth: Accuracy,
    parity: dict[str, Any],
    peaks: dict[str, float],
    gflops: float | None,
) -> Row:
    """first: the timing of the baseline. truth: the reference's accuracy."""
    figures = accuracy.figures
    drop = None if figures is None or truth.figures is None else truth.figures["AP"] - figures["AP"]
    files, kind, stages = model_files(contender.artifact), computes(spec, contender), timing.stages()
    known = gflops is not None and not is_engine(contender.artifact)  # the peaks are those of the processor
    return Row(
        name=contender.name,
        path=str(contender.artifact),
        sha256={file.name: sha256_file(file) for file in files},
        target=files[0].suffix.lower(),
        precision=spec.precision,
        computes=kind,
        options={name: value for name, value in contender.options.items() if name != "spec"},
        batch=spec.batch or 1,
        megabytes=sum(file.stat().st_size for file in files) / 1e6,
        figures=figures,
        AP_drop=drop,
        parity=parity,
        stages=stages,
        times=timing.of("total"),
        engine=timing.summary("engine"),
        total=timing.summary("total"),
        ratio=speed_ratio(first.of("engine"), timing.of("engine")),
        total_ratio=speed_ratio(first.of("total"), timing.of("total")),
        throughput=throughput,
        load_milliseconds=float(np.median(timing.load_milliseconds)),
        peak_mib=timing.peak_mib,
        warmup_runs=max(warmup.runs for warmup in timing.warmups),
        steady=all(warmup.steady for warmup in timing.warmups),
        roof=(gflops or 0) / stages["compute"] * 1e3 / peaks[kind] if known else None,
    )

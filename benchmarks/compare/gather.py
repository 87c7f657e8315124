"""Everything that a comparison measures, one artifact after the other; speed all together."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from exporters.parity import compare
from exporters.report import TOLERANCES
from runtimes.detections import Detections
from runtimes.detector import Detector
from runtimes.load import load, model_file
from runtimes.preprocess import Image
from runtimes.proof import sha256_file
from runtimes.spec import ModelSpec, Precision
from yolox_deploy.accuracy import SCORE_THRESHOLD
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.evaluate import CHECKPOINT_SUFFIXES, coco_figures, dataset_results, detect_all, match_categories
from yolox_deploy.int8 import evenly
from yolox_deploy.options import ForeignOptions

from ..machine import describe_machine, warnings
from ..reference import open_reference
from .comparison import Comparison, Row
from .intervals import speed_ratio
from .roofline import convolution_gflops, measured_peaks
from .speed import Contender, Speed, SpeedPlan, Throughput, Timing, batches_of, measure, sweep_throughput
from .worst import WorstImage, worst_images

TIMED_IMAGES = 16
FEWEST_ROUNDS = 6


@dataclass(frozen=True, eq=False)
class Accuracy:
    """figures: COCO's twelve, None without labels. found: the detections in every image of the data set."""

    figures: dict[str, float] | None
    found: list[Detections]


def gather(
    contenders: Sequence[Contender],
    baseline: str,
    reference: Path,
    dataset: Dataset | None,
    images: Sequence[Image],
    parity_images: int,
    threads: int,
    plan: SpeedPlan,
    start: float,
) -> tuple[Comparison, list[WorstImage]]:
    """Measure all. start: when the work began, by `time.perf_counter`."""
    machine = describe_machine()
    standard, gflops = open_standard(reference)
    truth = measure_accuracy(standard, dataset)
    some = [images[index] for index in evenly(len(images), parity_images)]
    accuracies, parities, specs = {}, {}, {}
    for contender in contenders:
        with load(contender.artifact, **contender.options) as detector:
            specs[contender.name] = detector.spec
            accuracies[contender.name] = measure_accuracy(detector, dataset)
            kind = computes(detector.spec, contender.options)
            parities[contender.name] = measure_parity(standard, detector, kind, some, contender.name)
    worst: list[WorstImage] = []
    if dataset is not None:
        found = {name: accuracy.found for name, accuracy in accuracies.items()}
        worst = worst_images(dataset, truth.found, found, standard.spec.class_names)
    standard.close()
    timed = [images[index] for index in evenly(len(images), TIMED_IMAGES)]
    peaks = measured_peaks(threads)
    speed = measure(contenders, timed, plan)
    cores = machine.cores
    sweeps = {
        contender.name: sweep_throughput(contender, timed, cores, batches_of(specs[contender.name]))
        for contender in tqdm(contenders, unit="artifact", desc="throughput")
    }
    rows = [
        make_row(
            contender=contender,
            spec=specs[contender.name],
            timing=speed.timings[contender.name],
            first=speed.timings[baseline],
            throughput=sweeps[contender.name],
            accuracy=accuracies[contender.name],
            truth=truth,
            parity=parities[contender.name],
            peaks=peaks,
            gflops=gflops,
        )
        for contender in contenders
    ]
    return (
        Comparison(
            reference=str(reference),
            reference_figures=truth.figures,
            baseline=baseline,
            images=len(timed),
            data="" if dataset is None else f"{dataset.source} ({len(dataset)} images)",
            rows=rows,
            peaks=peaks,
            gflops=gflops,
            warnings=warnings(speed.loads, speed.drift(baseline)) + unsteady(speed) + few_rounds(plan),
            machine=machine,
            seconds=time.perf_counter() - start,
        ),
        worst,
    )


def open_standard(path: Path) -> tuple[Detector, float | None]:
    """The reference at the score threshold of AP, and the billions of operations of its convolutions, if known."""
    runtime = open_reference(path, ForeignOptions())
    gflops = None
    if path.suffix in CHECKPOINT_SUFFIXES:
        from yolox_deploy.model.checkpoint import read_checkpoint

        gflops = convolution_gflops(read_checkpoint(path).build(), *runtime.spec.input_size)
    return Detector(runtime, SCORE_THRESHOLD), gflops


def computes(spec: ModelSpec, options: Mapping[str, Any]) -> str:
    """What the convolutions compute in on a processor: fp16 files are widened."""
    if spec.precision == "int8":
        return "int8"
    return "bf16" if options.get("bf16") or options.get("inference_precision") == "bf16" else "fp32"


def measure_accuracy(detector: Detector, dataset: Dataset | None) -> Accuracy:
    if dataset is None:
        return Accuracy(None, [])
    found = detect_all(Detector(detector.runtime, SCORE_THRESHOLD), dataset)
    results = dataset_results(dataset, found, match_categories(detector.spec, dataset))
    return Accuracy(asdict(coco_figures(dataset, results)), found)


def measure_parity(
    standard: Detector, detector: Detector, precision: str, images: Sequence[Image], name: str
) -> dict[str, Any]:
    """The fields of a `ParityReport`, whether it passed, and what it says. bf16 is held to what fp16 is."""
    kind: Precision = "fp16" if precision == "bf16" else detector.spec.precision
    bar = tqdm(images, unit="image", desc=f"parity {name}")
    report = compare(standard.runtime, detector.runtime, images, TOLERANCES[kind], progress=lambda _: bar)
    return {"passed": bool(report), "text": str(report), **asdict(report)}


def few_rounds(plan: SpeedPlan) -> list[str]:
    count = plan.launches * plan.rounds
    if count >= FEWEST_ROUNDS:
        return []
    return [f"{count} rounds are too few for an interval: doubt every ratio, or give more --rounds."]


def unsteady(speed: Speed) -> list[str]:
    names = [name for name, timing in speed.timings.items() if not all(warmup.steady for warmup in timing.warmups)]
    return [f"{name} was still not steady after its warm-up." for name in names]


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
    file, figures = model_file(contender.artifact), accuracy.figures
    drop = None if figures is None or truth.figures is None else 100 * (truth.figures["AP"] - figures["AP"])
    kind, stages = computes(spec, contender.options), timing.stages()
    return Row(
        name=contender.name,
        path=str(contender.artifact),
        sha256=sha256_file(file),
        target=file.suffix,
        precision=spec.precision,
        computes=kind,
        options=contender.options,
        batch=spec.batch or 1,
        megabytes=sum(part.stat().st_size for part in {file, *file.parent.glob(f"{file.stem}.bin")}) / 1e6,
        figures=figures,
        drop=drop,
        parity=parity,
        stages=stages,
        times=[[round(value, 4) for value in one] for one in timing.of("total")],
        engine=timing.summary("engine"),
        total=timing.summary("total"),
        ratio=speed_ratio(first.of("engine"), timing.of("engine")),
        total_ratio=speed_ratio(first.of("total"), timing.of("total")),
        throughput=throughput,
        load_milliseconds=float(np.median(timing.load_milliseconds)),
        peak_mib=timing.peak_mib,
        warmup_runs=max(warmup.runs for warmup in timing.warmups),
        steady=all(warmup.steady for warmup in timing.warmups),
        roof=None if gflops is None else gflops * (spec.batch or 1) / stages["compute"] * 1e3 / peaks[kind],
    )

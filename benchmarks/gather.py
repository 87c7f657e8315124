"""Everything that a comparison measures, one artifact after the other; speed all together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from exporters.matching import match
from exporters.parity import compare
from exporters.report import TOLERANCES
from runtimes.detections import Detections
from runtimes.detector import Detector
from runtimes.load import load, model_file
from runtimes.preprocess import Image
from runtimes.proof import sha256_file
from runtimes.spec import Precision
from yolox_deploy.accuracy import SCORE_THRESHOLD
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.evaluate import CHECKPOINT_SUFFIXES, coco_figures, dataset_results, detect_all, match_categories
from yolox_deploy.options import ForeignOptions

from .comparison import Comparison, Row
from .intervals import speed_ratio
from .machine import describe_machine, warnings
from .roofline import convolution_gflops, measured_peaks
from .speed import Contender, Speed, SpeedPlan, Throughput, measure, sweep_throughput

SHOWN_SCORE = 0.3
WORST_IMAGES = 6
TIMED_IMAGES = 16


@dataclass(frozen=True, eq=False)
class WorstImage:
    """An image that an artifact and its reference disagree on most. artifact: its name in the table."""

    artifact: str
    image: Image
    expected: Detections
    found: Detections
    class_names: tuple[str, ...]


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
    standard, gflops = open_reference(reference)
    truth = measure_accuracy(standard, dataset)
    some = [images[index] for index in evenly(len(images), parity_images)]
    accuracies, parities = {}, {}
    for contender in contenders:
        with load(contender.artifact, **contender.options) as detector:
            accuracies[contender.name] = measure_accuracy(detector, dataset)
            parities[contender.name] = measure_parity(standard, detector, computes(contender), some, contender.name)
    worst = worst_images(dataset, truth, accuracies, standard.spec.class_names)
    standard.close()
    timed = [images[index] for index in evenly(len(images), TIMED_IMAGES)]
    peaks = measured_peaks(threads)
    speed = measure(contenders, timed, plan)
    cores = machine.cores
    sweeps = {
        contender.name: sweep_throughput(contender, timed, cores)
        for contender in tqdm(contenders, unit="artifact", desc="throughput")
    }
    rows = [
        make_row(contender, baseline, speed, sweeps[contender.name], accuracies, truth, parities, peaks, gflops)
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
            warnings=warnings(speed.loads, speed.drift(baseline)) + unsteady(speed),
            machine=machine,
            seconds=time.perf_counter() - start,
        ),
        worst,
    )


def open_reference(path: Path) -> tuple[Detector, float | None]:
    """The reference at the score threshold of AP, and the billions of operations of its convolutions, if known."""
    if path.suffix not in CHECKPOINT_SUFFIXES:
        return load(path, score_threshold=SCORE_THRESHOLD), None
    from yolox_deploy.model.checkpoint import read_checkpoint
    from yolox_deploy.model.open import open_checkpoint

    runtime = open_checkpoint(path, ForeignOptions(), None, "cpu", None)
    return Detector(runtime, SCORE_THRESHOLD), convolution_gflops(
        read_checkpoint(path).build(), *runtime.spec.input_size
    )


def computes(contender: Contender) -> Precision | str:
    """What the convolutions compute in on a processor: fp16 files are widened."""
    with load(contender.artifact) as detector:
        if detector.spec.precision == "int8":
            return "int8"
    return "bf16" if "bf16" in map(str, contender.options.values()) or contender.options.get("bf16") else "fp32"


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


def evenly(count: int, wanted: int) -> list[int]:
    """At most `wanted` of the numbers 0 to count - 1, evenly spread."""
    return [index * count // wanted for index in range(wanted)] if count > wanted else [*range(count)]


def unsteady(speed: Speed) -> list[str]:
    names = [name for name, timing in speed.timings.items() if not all(warmup.steady for warmup in timing.warmups)]
    return [f"{name} was still not steady after its warm-up." for name in names]


def make_row(
    contender: Contender,
    baseline: str,
    speed: Speed,
    throughput: list[Throughput],
    accuracies: dict[str, Accuracy],
    truth: Accuracy,
    parities: dict[str, dict[str, Any]],
    peaks: dict[str, float],
    gflops: float | None,
) -> Row:
    timing, first = speed.timings[contender.name], speed.timings[baseline]
    file = model_file(contender.artifact)
    with load(contender.artifact) as detector:
        spec = detector.spec
    figures = accuracies[contender.name].figures
    drop = None if figures is None or truth.figures is None else 100 * (truth.figures["AP"] - figures["AP"])
    kind, stages = computes(contender), timing.stages()
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
        parity=parities[contender.name],
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


def worst_images(
    dataset: Dataset | None, truth: Accuracy, accuracies: dict[str, Accuracy], class_names: tuple[str, ...]
) -> list[WorstImage]:
    """The images with the largest disagreement, each artifact's worst first, no image twice."""
    if dataset is None:
        return []
    ranked = sorted(
        (
            (disagreement(expected, found), name, index)
            for name, accuracy in accuracies.items()
            for index, (expected, found) in enumerate(zip(truth.found, accuracy.found, strict=True))
        ),
        reverse=True,
    )
    chosen: list[WorstImage] = []
    used: set[int] = set()
    images = dataset.read_images()
    for score, name, index in ranked:
        if score <= 0 or len(chosen) == WORST_IMAGES:
            break
        if index in used:
            continue
        used.add(index)
        expected, found = confident(truth.found[index]), confident(accuracies[name].found[index])
        chosen.append(WorstImage(name, images[index], expected, found, class_names))
    return chosen


def confident(detections: Detections) -> Detections:
    shown = detections.confidence >= SHOWN_SCORE
    return Detections(detections.xyxy[shown], detections.confidence[shown], detections.class_id[shown])


def disagreement(expected: Detections, found: Detections) -> float:
    """The confidence of what only one side has, and the differences of what both have, of confident detections."""
    left, right = confident(expected), confident(found)
    pairs = match(left, right)
    alone = left.confidence.sum() + right.confidence.sum()
    alone -= left.confidence[pairs[:, 0]].sum() + right.confidence[pairs[:, 1]].sum()
    return float(alone + np.abs(left.confidence[pairs[:, 0]] - right.confidence[pairs[:, 1]]).sum())

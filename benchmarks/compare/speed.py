"""Latency and throughput of several artifacts, each in a process of its own, in alternating rounds.

All take a turn in every round, in an order drawn anew, so that a machine that slows down slows all alike. Each launch
starts fresh processes, since where a process's memory happens to lie is part of its speed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from runtimes.load import model_file
from runtimes.preprocess import Image
from runtimes.spec import ModelSpec
from yolox_deploy.progress import progress_bar

from ..machine import Load, load_between, usage
from ..stages import STAGES, StageTimes
from .intervals import Summary, Times, summarize
from .process import Worker
from .worker import Warmup

# How each backend that can is told to compute in bf16.
BF16: dict[str, dict[str, Any]] = {".xml": {"inference_precision": "bf16"}, ".param": {"bf16": True}}

FREE_BATCHES = (1, 2, 4, 8)

ROUND_SECONDS, LEAST_RUNS, MOST_RUNS = 0.2, 3, 20
FEWEST_LAUNCHES = 2
FEW_LAUNCHES = "The intervals hold for these processes alone, not for others: give more --launches."


@dataclass(frozen=True)
class Contender:
    """name: what it is called in tables. options: those of `runtimes.load`, such as threads, and the spec of a
    third-party file.

    program: "module:Class" of what runs the file in place of `runtimes.load`, called with the path and the options; see
    `benchmarks.stages.Program`.
    """

    name: str
    artifact: Path
    options: dict[str, Any] = field(default_factory=dict)
    program: str = ""


def is_bf16(contender: Contender) -> bool:
    return any(options.items() <= contender.options.items() for options in BF16.values())


@dataclass(frozen=True)
class SpeedPlan:
    """launches: fresh processes of each; rounds: in each launch, in turn. Many launches tell more than many rounds."""

    launches: int = 5
    rounds: int = 4
    seed: int = 0


@dataclass
class Timing:
    """What was measured of one contender. launches: of each its rounds, of each of those the runs, an image's share."""

    launches: list[list[list[StageTimes]]] = field(default_factory=list)
    load_milliseconds: list[float] = field(default_factory=list)
    warmups: list[Warmup] = field(default_factory=list)
    peak_mib: float = 0.0

    def of(self, stage: str) -> Times:
        """The milliseconds of a stage ("engine" and "total" are some), by launch and round."""
        return [[[getattr(times, stage) for times in one] for one in launch] for launch in self.launches]

    def summary(self, stage: str) -> Summary:
        return summarize(self.of(stage))

    def stages(self) -> dict[str, float]:
        """The median milliseconds of each of the five parts."""
        runs = [times for launch in self.launches for one in launch for times in one]
        return {stage: median(getattr(times, stage) for times in runs) for stage in STAGES}


@dataclass(frozen=True)
class Speed:
    """timings by the contenders' names; loads: what else the machine did, launch by launch."""

    timings: dict[str, Timing]
    loads: list[Load]

    def drift(self, name: str, stage: str = "engine") -> float:
        """By how much a contender's slowest round was slower than its fastest; the outermost tenths left out."""
        medians = [median(times) for launch in self.timings[name].of(stage) for times in launch]
        low, high = np.percentile(medians, [10, 90])
        return float(high / low - 1)

    def doubts(self, plan: SpeedPlan) -> list[str]:
        """What its own times and its plan say against it, in sentences."""
        unsteady = [name for name, own in self.timings.items() if not all(warmup.steady for warmup in own.warmups)]
        found = [f"{name} was still not steady after its warm-up." for name in unsteady]
        if plan.launches < FEWEST_LAUNCHES:
            found.append(FEW_LAUNCHES)
        return found


def measure(contenders: Sequence[Contender], images: Sequence[Image], plan: SpeedPlan) -> Speed:
    """Time one full batch of each contender, from images to boxes. Raises `UserError` where one does not run."""
    timings = {contender.name: Timing() for contender in contenders}
    loads, random = [], np.random.default_rng(plan.seed)
    with progress_bar(total=plan.launches * plan.rounds, unit="round", desc="timing") as bar:
        for _ in range(plan.launches):
            with ExitStack() as stack:
                workers, runs = {}, {}
                for contender in contenders:
                    opened = Worker(contender.artifact, images, contender.options, contender.program)
                    worker = stack.enter_context(opened)
                    workers[contender.name] = worker
                    timings[contender.name].load_milliseconds.append(worker.load_milliseconds)
                    timings[contender.name].launches.append([])
                for name, worker in workers.items():
                    timings[name].warmups.append(worker.warm_up())
                    runs[name] = runs_in_round(timings[name].warmups[-1])
                pids = [worker.pid for worker in workers.values()]
                start = usage(pids)
                for _ in range(plan.rounds):
                    for name in random.permutation([*workers]):
                        timings[name].launches[-1].append(workers[name].run_round(runs[name]))
                    bar.update()
                loads.append(load_between(start, usage(pids)))
                for name, worker in workers.items():
                    timings[name].peak_mib = max(timings[name].peak_mib, worker.peak_memory())
    return Speed(timings, loads)


def runs_in_round(warmup: Warmup) -> int:
    """Enough to fill a fifth of a second, 3 to 20."""
    wanted = math.ceil(ROUND_SECONDS * warmup.runs / warmup.seconds)
    return min(max(wanted, LEAST_RUNS), MOST_RUNS)


@dataclass(frozen=True)
class Throughput:
    """images a second from images to boxes, with so many streams, each with so many threads of the backend.

    batch: images that each of them gives at a time.
    """

    streams: int
    threads: int
    batch: int
    images_per_second: float


def sweep_throughput(
    contender: Contender, images: Sequence[Image], cores: int, batches: Sequence[int] = (1,), seconds: float = 2.0
) -> tuple[list[Throughput], list[Load]]:
    """Every way to share out the cores between streams and the threads of each, with each of the batches.

    And what else the machine did meanwhile. Raises `UserError` where one does not run.
    """
    found, loads = [], []
    for streams in (count for count in range(1, cores + 1) if cores % count == 0):
        options = {**contender.options, **stream_options(contender.artifact, streams, cores)}
        with Worker(contender.artifact, images, options) as worker:
            start = usage([worker.pid])
            for batch in batches:
                rate = worker.throughput(batch, seconds)
                found.append(Throughput(streams, cores // streams, batch, rate))
            loads.append(load_between(start, usage([worker.pid])))
    return found, loads


def batches_of(spec: ModelSpec) -> tuple[int, ...]:
    """The batches that throughput is looked for with: the artifact's own, or several where it takes any."""
    return FREE_BATCHES if spec.batch is None else (spec.batch,)


def stream_options(artifact: Path, streams: int, cores: int) -> dict[str, Any]:
    """The options of `runtimes.load` with which so many streams share the cores, or the GPU."""
    engine = model_file(artifact).suffix.lower() in (".engine", ".rtx")
    return {"streams": streams} if engine else {"streams": streams, "threads": cores // streams}

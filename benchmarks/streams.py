"""python -m benchmarks.streams: images a second of several streams against one image at a time.

    python -m benchmarks.streams artifacts/* --images my_images

Each artifact runs in fresh processes, by turns: one image at a time on one thread, on as many threads as there are
streams, and in streams. Checks that the streams detect the
same, in the same order. Prints a table and ends with one JSON line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
import tyro
from tqdm import tqdm

from exporters.matching import identical
from runtimes.cores import usable_cores
from runtimes.errors import InvalidInput
from runtimes.json_file import json_text
from runtimes.load import load, model_file
from runtimes.preprocess import Image
from yolox_deploy.console import require, run
from yolox_deploy.options import Images, check_positive
from yolox_deploy.progress import progress_bar

from .compare.contenders import check_one_at_a_time, contenders_of
from .compare.intervals import Interval, speed_ratio
from .compare.process import Worker
from .compare.speed import FEW_LAUNCHES, FEWEST_LAUNCHES, Contender
from .compare.task import read_specs
from .machine import Load, describe_machine, load_between, usage, warnings
from .photos import some_images

IMAGES = 16


@dataclass(frozen=True)
class StreamsConfig:
    """Images a second of several streams, against one image at a time, on one thread and on as many."""

    artifacts: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Artifacts: folders or model files; NAME=PATH gives one a name of your own."""
    images: Images = None
    """Folder of images; unset, generated ones."""
    streams: int | None = None
    """Streams, of one thread each; unset, one for each core."""
    bf16: bool = False
    """Run what can compute in bf16 in that as well."""
    launches: int = 3
    """Fresh processes of each artifact."""
    rounds: int = 4
    """Turns of both ways in each launch."""
    seconds: float = 1.5
    """How long a turn takes."""


@dataclass(frozen=True)
class Streams:
    """alone, shared, together: images a second, one at a time on one thread, one at a time on as many threads as there
    are streams, and in streams. ratio: of the last to the first.

    identical: whether the detections of all images are the same, in the same order.
    """

    name: str
    streams: int
    alone: float
    shared: float
    together: float
    ratio: Interval
    identical: bool

    def row(self) -> str:
        rates = f"{self.alone:.1f} | {self.shared:.1f} | {self.together:.1f}"
        return f"| {self.name} | {rates} | {self.ratio} | {'yes' if self.identical else 'NO'} |"


def detects_the_same(contender: Contender, images: Sequence[Image], streams: int) -> bool:
    """Whether streams detect what one image at a time does, in order."""
    found = []
    for count in (1, streams):
        options = {**contender.options, "streams": count}
        with load(contender.artifact, score_threshold=0.01, **options) as detector:
            found.append(list(detector.detect_stream([*images] * 4)))
    return len(found[0]) == len(found[1]) and all(map(identical, *found))


def measure(
    contender: Contender, images: Sequence[Image], config: StreamsConfig, streams: int, bar: tqdm[None]
) -> tuple[Streams, list[Load], float]:
    """The rates of all three ways, by turns; what else the machine did; and how its speed changed, less 1."""
    ways = ({"threads": 1, "streams": 1}, {"threads": streams, "streams": 1}, {"threads": 1, "streams": streams})
    # Seconds an image: of each way, by launch and round, one run each.
    times: list[list[list[list[float]]]] = [[] for _ in ways]
    loads = []
    for _ in range(config.launches):
        with ExitStack() as stack:
            workers = [
                stack.enter_context(Worker(contender.artifact, images, {**contender.options, **way})) for way in ways
            ]
            for own in times:
                own.append([])
            start = usage([worker.pid for worker in workers])
            for turn in range(config.rounds):
                pairs = [*zip(times, workers, strict=True)]
                for own, worker in pairs if turn % 2 == 0 else reversed(pairs):
                    own[-1].append([1 / worker.throughput(1, config.seconds)])
                bar.update()
            loads.append(load_between(start, usage([worker.pid for worker in workers])))
    low, high = np.percentile(times[0], [10, 90])
    alone, shared, together = (1 / float(np.median(own)) for own in times)
    ratio, identical = speed_ratio(times[0], times[2]), detects_the_same(contender, images, streams)
    found = Streams(contender.name, streams, alone, shared, together, ratio, identical)
    return found, loads, float(high / low - 1)


def command(config: StreamsConfig) -> None:
    require("psutil")
    check_positive(streams=config.streams, launches=config.launches, rounds=config.rounds)
    if config.seconds <= 0:
        raise InvalidInput(f"--seconds must be more than 0, not {config.seconds}.")
    if not config.artifacts:
        raise InvalidInput("name artifacts to measure.")
    streams = config.streams or usable_cores()
    if streams < 2:
        raise InvalidInput("there is one core here: give --streams a number to see what more of them do.")
    contenders = contenders_of(config.artifacts, 1, config.bf16)
    for contender in contenders:
        if model_file(contender.artifact).suffix in (".engine", ".rtx"):
            raise InvalidInput(f"{contender.artifact} runs on a GPU; this measures the streams of a processor.")
        check_one_at_a_time(read_specs([contender], None))
    images = some_images(config.images, IMAGES)
    rows, loads, drift = [], list[Load](), 0.0
    with progress_bar(total=len(contenders) * config.launches * config.rounds, unit="round") as bar:
        for contender in contenders:
            bar.set_description(contender.name)
            row, own, change = measure(contender, images, config, streams, bar)
            rows.append(row)
            loads, drift = loads + own, max(drift, change)
    print("Images a second, from images to boxes; the ratio is that of the streams to one thread.")
    print(f"| artifact | one thread | {streams} threads | {streams} streams | ratio [95 %] | same detections |")
    print("|---|---|---|---|---|---|")
    print("\n".join(row.row() for row in rows))
    doubts = warnings(loads, drift)
    if config.launches < FEWEST_LAUNCHES:
        doubts.append(FEW_LAUNCHES)
    print("".join(f"warning: {doubt}\n" for doubt in doubts), end="")
    machine = asdict(describe_machine())
    print(json_text({"rows": [asdict(row) for row in rows], "warnings": doubts, "machine": machine}))
    if not all(row.identical for row in rows):
        raise InvalidInput("streams detect something else than one image at a time.")


def main(arguments: Sequence[str] | None = None) -> int:
    return run("python -m benchmarks.streams", StreamsConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

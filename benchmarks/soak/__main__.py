"""python -m benchmarks.soak: long runs under load: the same results, and nothing that grows.

    python -m benchmarks.soak artifacts/*

Each artifact, in fresh processes: one detector that 16 threads share; 4 processes with one each; opening and closing it
many times; a stream with a slow consumer, and one whose source fails; Ctrl-C to `yolox-deploy detect`. Memory is read
on the way, after the allocator has handed back what is free, and the slope of a line through the second half told with
its interval. Prints a table of what is promised and found, and ends with one JSON line. Exit code 1 where a promise is
broken; what stays unclear needs more images.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from typing import Annotated, ParamSpec, TypeVar

import tyro

from runtimes.errors import InvalidInput, UserError
from runtimes.json_file import json_text
from runtimes.load import model_file
from runtimes.trt_engine import LIBRARIES
from yolox_deploy.console import require, run
from yolox_deploy.options import check_positive

from ..compare.contenders import contenders_of
from ..machine import describe_machine
from .gauge import PARTS
from .interrupt import interrupt_at_moments
from .promises import Row, of_cycles, of_interrupt, of_load, of_stream
from .work import Artifact, detect_many, open_and_close, stream

THREADS, PROCESSES = 16, 4

P = ParamSpec("P")
Result = TypeVar("Result")


@dataclass(frozen=True)
class SoakConfig:
    """Long runs under load: the same results, and nothing that grows."""

    artifacts: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Artifacts: folders or model files; NAME=PATH gives one a name of your own."""
    images: int = 50_000
    """Images for each artifact: half by 16 threads that share a detector, half by 4 processes. Memory takes thousands
    to settle: a run of hundreds may call it growing."""
    cycles: int = 200
    """How often each artifact is opened and closed; 16 at least."""
    threads: int = 1
    """Threads of each backend for one image."""


def each_in_a_process(count: int, work: Callable[P, Result], *arguments: P.args, **options: P.kwargs) -> list[Result]:
    """The same work in so many fresh processes at a time. Raises `UserError` where one crashes."""
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        try:
            return [future.result() for future in [pool.submit(work, *arguments, **options) for _ in range(count)]]
        except BrokenProcessPool:
            raise UserError(f"a process ended while it was to {work.__name__}: its backend crashed.") from None


def soak(name: str, artifact: Artifact, config: SoakConfig) -> list[Row]:
    """All promises of one artifact."""
    half = config.images // 2
    shared = each_in_a_process(1, detect_many, artifact, half, THREADS, True)
    apart = each_in_a_process(PROCESSES, detect_many, artifact, half // PROCESSES, 1, False)
    [reopened] = each_in_a_process(1, open_and_close, artifact, config.cycles)
    [streamed] = each_in_a_process(1, stream, artifact)
    return [
        *of_load(name, f"{THREADS} threads", shared, shared[0].expected),
        *of_load(name, f"{PROCESSES} processes", apart, shared[0].expected),
        *of_cycles(name, reopened),
        *of_stream(name, streamed),
        *of_interrupt(name, interrupt_at_moments(artifact.path)),
    ]


def command(config: SoakConfig) -> None:
    require("psutil")
    check_positive(images=config.images, cycles=config.cycles, threads=config.threads)
    if config.cycles < 2 * PARTS:
        raise InvalidInput(f"--cycles {config.cycles} are too few to see what grows: {2 * PARTS} at least.")
    if not config.artifacts:
        raise InvalidInput("name artifacts to run.")
    contenders = contenders_of(config.artifacts, config.threads, bf16=False)
    for contender in contenders:
        if model_file(contender.artifact).suffix in LIBRARIES:
            raise InvalidInput(f"{contender.artifact} runs on a GPU; this loads the processor.")
    rows = []
    for contender in contenders:
        rows += soak(contender.name, Artifact(contender.artifact.absolute(), contender.options), config)
    print("| artifact | promise | found | kept |\n|---|---|---|---|")
    print("\n".join(map(str, rows)))
    print(json_text({"rows": [asdict(row) for row in rows], "machine": asdict(describe_machine())}))
    broken = [row for row in rows if row.kept == "NO"]
    if broken:
        raise UserError(f"{len(broken)} promises are broken; the first: {broken[0].artifact}, {broken[0].promise}.")


def main(arguments: Sequence[str] | None = None) -> int:
    return run("python -m benchmarks.soak", SoakConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""What runs in a process of its own for one artifact: started and asked by `process.Worker`.

It imports the runtimes alone, so that its memory and its load time are those of an app that embeds them. Another
program is imported when it is opened.
"""

from __future__ import annotations

import importlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from multiprocessing.connection import Listener
from statistics import median
from typing import Any

import cv2

from runtimes.detections import Detections
from runtimes.detector import Detector
from runtimes.errors import UserError
from runtimes.load import load
from runtimes.preprocess import Image

from ..memory import peak_memory
from ..stages import Program, StageTimes, call_timed, detect_timed

KEY = "YOLOX_BENCHMARK_KEY"  # environment variable with what proves that the caller is ours

# Warm enough: two windows of runs in a row have the same median within this share, after so many seconds at least.
WINDOW, STEADY, LEAST_SECONDS, MOST_SECONDS = 10, 0.03, 0.2, 15.0
WARM_BATCHES = 5  # of each stream


@dataclass(frozen=True)
class Warmup:
    """How many runs it took until the times were steady; steady: False where they were not within the limit."""

    runs: int
    seconds: float
    steady: bool


class Desk:
    """What can be asked of a worker, one method a question."""

    def __init__(self) -> None:
        self.detector: Detector | Program | None = None
        self.images: Sequence[Image] = ()
        self.turn = 0

    def open(self, artifact: str, images: Sequence[Image], options: dict[str, Any], program: str = "") -> float:
        """Load the artifact, or give it to a program, "module:Class". Returns the milliseconds to first detections."""
        if "threads" in options:
            cv2.setNumThreads(options["threads"])  # of resizing, for all programs alike
        start = time.perf_counter()
        self.images = images
        self.detector = named(program)(artifact, **options) if program else load(artifact, **options)
        self._detect(self._batch(0, self._batch_size()))
        return 1e3 * (time.perf_counter() - start)

    def detect(self) -> list[Detections]:
        """What is found in each of the images."""
        return [self._detect([image])[0] for image in self.images]

    def warm_up(self) -> Warmup:
        """Run until the times are steady."""
        times: list[float] = []
        start = time.perf_counter()
        while True:
            times.append(self._next().total)
            seconds = time.perf_counter() - start
            if is_steady(times) and seconds >= LEAST_SECONDS:
                return Warmup(len(times), seconds, True)
            if seconds > MOST_SECONDS and len(times) >= WINDOW:
                return Warmup(len(times), seconds, False)

    def run_round(self, runs: int) -> list[StageTimes]:
        """Timed runs, each the share of one image. Two before are not counted: others have just used the caches."""
        for _ in range(2):
            self._next()
        return [self._next() for _ in range(runs)]

    def throughput(self, batch: int, seconds: float) -> float:
        """Images a second of one endless sequence, from images to boxes, on as many streams as were opened."""
        detector = self._open_detector()
        if not isinstance(detector, Detector):
            raise UserError("throughput is measured of artifacts alone.")
        found = detector.detect_stream(cycle(self.images), batch)
        size = detector.spec.batch or batch
        for _ in range(WARM_BATCHES * size * detector.streams):
            next(found)
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            for _ in range(size):
                next(found)
            count += size
        return count / (time.perf_counter() - start)

    def peak_memory(self) -> float:
        """MiB that this process has taken at most, but for the images that it was given to detect in."""
        return peak_memory() - sum(image.nbytes for image in self.images) / 2**20

    def close(self) -> None:
        if self.detector is not None:
            self.detector.close()
            self.detector = None

    def _open_detector(self) -> Detector | Program:
        if self.detector is None:
            raise UserError("no artifact is open.")
        return self.detector

    def _next(self) -> StageTimes:
        self.turn += 1
        detector, size = self._open_detector(), self._batch_size()
        batch = self._batch(self.turn, size)
        if isinstance(detector, Detector):
            return detect_timed(detector, batch)[1].share(size)
        return call_timed(detector, batch[0])[1]

    def _detect(self, images: list[Image]) -> list[Detections]:
        detector = self._open_detector()
        return detector(images) if isinstance(detector, Detector) else [detector(image) for image in images]

    def _batch_size(self) -> int:
        detector = self._open_detector()
        return (detector.spec.batch or 1) if isinstance(detector, Detector) else 1

    def _batch(self, turn: int, size: int) -> list[Image]:
        """The images of one batch, others each turn."""
        return [self.images[(turn * size + index) % len(self.images)] for index in range(size)]


def named(program: str) -> Callable[..., Program]:
    """The class that "module:Class" names."""
    module, _, name = program.partition(":")
    found: Callable[..., Program] = getattr(importlib.import_module(module), name)
    return found


def is_steady(times: Sequence[float]) -> bool:
    """Whether the last two windows of times have the same median, within 3 %."""
    if len(times) < 2 * WINDOW:
        return False
    before, now = median(times[-2 * WINDOW : -WINDOW]), median(times[-WINDOW:])
    return abs(now - before) <= STEADY * before


def serve() -> None:
    """Print an address and answer what is asked there, (name, arguments), until the caller hangs up.

    Ctrl-C in the terminal is for the caller, which then ends this process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    desk = Desk()
    with Listener(authkey=bytes.fromhex(os.environ[KEY])) as listener:
        print(listener.address, flush=True)
        os.dup2(2, 1)  # what backends print from here on is no address
        with listener.accept() as caller:
            while True:
                try:
                    name, arguments = caller.recv()
                except EOFError:
                    return
                caller.send(answer(getattr(desk, name), arguments))


def answer(method: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, str | None]:
    """What the method returns, and None; or None, and what went wrong."""
    try:
        return method(*arguments), None
    except UserError as error:
        return None, str(error)
    except Exception as error:  # a backend's own; the caller says which artifact it is
        return None, f"{type(error).__name__}: {error}"

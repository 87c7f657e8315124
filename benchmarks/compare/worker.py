"""What runs in a process of its own for one artifact: started and asked by `process.Worker`.

It imports the runtimes alone, so that its memory and its load time are those of an app that embeds them.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Listener
from pathlib import Path
from statistics import median
from typing import Any

from runtimes.detector import Detector
from runtimes.errors import UserError
from runtimes.load import load
from runtimes.preprocess import Image

from ..stages import StageTimes, detect_timed

KEY = "YOLOX_BENCHMARK_KEY"  # environment variable with what proves that the caller is ours

# Warm enough: two windows of runs in a row have the same median within this share, after so many seconds at least.
WINDOW, STEADY, LEAST_SECONDS, MOST_SECONDS = 10, 0.03, 0.2, 15.0
WARM_CALLS = 5  # of each stream


@dataclass(frozen=True)
class Warmup:
    """How many runs it took until the times were steady; steady: False where they were not within the limit."""

    runs: int
    seconds: float
    steady: bool


class Desk:
    """What can be asked of a worker, one method a question."""

    def __init__(self) -> None:
        self.detector: Detector | None = None
        self.images: Sequence[Image] = ()
        self.turn = 0

    def open(self, artifact: str, images: Sequence[Image], options: dict[str, Any]) -> float:
        """Load the artifact. Returns the milliseconds to the first detections."""
        start = time.perf_counter()
        self.detector, self.images = load(artifact, **options), images
        self._detect(0, self.detector.spec.batch or 1)
        return 1e3 * (time.perf_counter() - start)

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

    def throughput(self, streams: int, batch: int, seconds: float) -> float:
        """Images a second that threads of their own get through one shared detector, from images to boxes."""
        end = [math.inf]

        def warm(index: int) -> None:
            for turn in range(WARM_CALLS):
                self._detect(turn + index, batch)

        def stream(index: int) -> int:
            count = 0
            while time.perf_counter() < end[0]:
                count += self._detect(count // batch + index, batch)
            return count

        with ThreadPoolExecutor(streams) as pool:
            list(pool.map(warm, range(streams)))  # what fails, fails here
            start = time.perf_counter()
            end[0] = start + seconds
            return sum(pool.map(stream, range(streams))) / (time.perf_counter() - start)

    def peak_memory(self) -> float:
        """MiB that this process has taken at most, but for the images that it was given to detect in."""
        return peak_memory() - sum(image.nbytes for image in self.images) / 2**20

    def close(self) -> None:
        if self.detector is not None:
            self.detector.close()
            self.detector = None

    def _open_detector(self) -> Detector:
        if self.detector is None:
            raise UserError("no artifact is open.")
        return self.detector

    def _next(self) -> StageTimes:
        self.turn += 1
        detector = self._open_detector()
        size = detector.spec.batch or 1
        return detect_timed(detector, self._batch(self.turn, size))[1].share(size)

    def _detect(self, turn: int, size: int) -> int:
        """Detect in one batch; returns how many images that were."""
        return len(self._open_detector()(self._batch(turn, size)))

    def _batch(self, turn: int, size: int) -> list[Image]:
        """The images of one batch, others each turn."""
        return [self.images[(turn * size + index) % len(self.images)] for index in range(size)]


def is_steady(times: Sequence[float]) -> bool:
    """Whether the last two windows of times have the same median, within 3 %."""
    if len(times) < 2 * WINDOW:
        return False
    before, now = median(times[-2 * WINDOW : -WINDOW]), median(times[-WINDOW:])
    return abs(now - before) <= STEADY * before


def peak_memory() -> float:
    """MiB that this process has taken at most."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):  # not Linux. There, getrusage would count what the parent had before
        import psutil

        info = psutil.Process().memory_info()
        return float(getattr(info, "peak_wset", info.rss)) / 2**20


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

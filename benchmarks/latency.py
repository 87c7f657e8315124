"""Times of one call, run after run: warmed up, and summed up by percentiles."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

# Before anything is timed: both, so that clocks have risen and libraries have chosen their kernels.
WARM_UP_SECONDS, WARM_UP_RUNS = 0.2, 50

Result = TypeVar("Result")
Clock = Callable[[], float]  # seconds


@dataclass(frozen=True)
class Latency:
    """times: milliseconds of each run, in order; at least one."""

    times: tuple[float, ...]

    @property
    def median(self) -> float:
        return self._percentile(50)

    @property
    def p90(self) -> float:
        return self._percentile(90)

    @property
    def p99(self) -> float:
        return self._percentile(99)

    @property
    def mean(self) -> float:
        return float(np.mean(self.times))

    def _percentile(self, percent: float) -> float:
        return float(np.percentile(self.times, percent))

    def to_dict(self, everything: bool = False) -> dict[str, Any]:
        """Milliseconds, for JSON; with `everything`, those of each run too."""
        found: dict[str, Any] = {name: round(getattr(self, name), 4) for name in ("median", "p90", "p99", "mean")}
        return found | ({"times": [round(value, 4) for value in self.times]} if everything else {})


def fps(milliseconds: float) -> float:
    """Frames a second, one at a time."""
    return 1e3 / milliseconds


def repeat(step: Callable[[int], Result], runs: int, clock: Clock = time.perf_counter) -> list[Result]:
    """Call a step with 0, 1, 2 and so on until it is warm, then `runs` times more; the results of the latter."""
    start, done = clock(), 0
    while done < WARM_UP_RUNS or clock() - start < WARM_UP_SECONDS:
        step(done)
        done += 1
    return [step(run) for run in range(runs)]


def clocked(step: Callable[[int], object], clock: Clock = time.perf_counter) -> Callable[[int], float]:
    """The step, returning the milliseconds that it took."""

    def timed(run: int) -> float:
        start = clock()
        step(run)
        return 1e3 * (clock() - start)

    return timed

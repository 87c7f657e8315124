"""What a process holds while it works, and whether that grows."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runtimes.errors import InvalidInput

from ..compare.intervals import Interval

WARMUP = 0.5  # share of a run that is not counted: pools fill up as ever more threads happen to need most at once
# A line through the means of so many parts of a run, not through its samples: each looks like the one before it, and
# the interval would be far too narrow. STUDENT: t of 95 % for as many parts less 2.
PARTS, STUDENT = 8, 2.447


@dataclass(frozen=True)
class Sample:
    """done: images or cycles so far. resident: MiB of memory, settled. descriptors: open files; handles on Windows."""

    done: int
    resident: float
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Trend:
    """After the warm-up. resident: MiB for each further image or cycle; descriptors, threads: last less first."""

    resident: Interval
    descriptors: int
    threads: int


class Gauge:
    """Reads what this process holds."""

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()

    def sample(self, done: int) -> Sample:
        process = self._process
        descriptors = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
        return Sample(done, self.settled(), descriptors, process.num_threads())

    def resident(self) -> float:
        """MiB of memory that are really there."""
        return float(self._process.memory_info().rss / 2**20)

    def settled(self) -> float:
        """`resident`, once the allocator has handed back what is free, where it can be asked to (glibc).

        It keeps tens of MiB for 16 threads, ever a little more, which are nobody's.
        """
        with contextlib.suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)
        return self.resident()


def trend(samples: Sequence[Sample]) -> Trend:
    """Raises `InvalidInput` where there are too few samples to tell."""
    start = WARMUP * samples[-1].done
    counted = [sample for sample in samples if sample.done > start]
    if len(counted) < PARTS:
        raise InvalidInput(f"{samples[-1].done} are too few to see what grows: give --images and --cycles more.")
    edge = max(len(counted) // 10, 1)

    def change(name: str) -> int:
        values = [getattr(sample, name) for sample in counted]
        return int(np.median(values[-edge:]) - np.median(values[:edge]))

    resident = slope([sample.done for sample in counted], [sample.resident for sample in counted])
    return Trend(resident, change("descriptors"), change("threads"))


def slope(x: npt.ArrayLike, y: npt.ArrayLike) -> Interval:
    """Change of y for 1 of x, with its 95 % interval: least squares through the means of parts, in the order of x."""
    means = [[part.mean() for part in np.array_split(np.asarray(values, np.float64), PARTS)] for values in (x, y)]
    across, up = np.array(means)  # (PARTS,) each
    across -= across.mean()
    value = float((across * up).sum() / (across**2).sum())
    left = up - up.mean() - value * across
    error = STUDENT * float(np.sqrt((left**2).sum() / (PARTS - 2) / (across**2).sum()))
    return Interval(value, value - error, value + error)

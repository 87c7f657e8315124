"""What can be said of times that vary: percentiles, bootstrap intervals, and whether two artifacts really differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES, CONFIDENCE = 2000, 0.95

# Two processes of the very same file differ by about so much, from where their memory lies.
LEAST_DIFFERENCE = 0.02

Rounds = Sequence[Sequence[float]]  # times, one list a round
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        return self.low <= other.high and other.low <= self.high

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class Summary:
    """Of times: the median with its interval, percentiles, and the coefficient of variation (deviation / mean)."""

    p50: Interval
    p90: float
    p99: float
    cv: float


def summarize(rounds: Rounds) -> Summary:
    """The times of all rounds. The interval is that of whole rounds drawn anew: times within a round hang together."""
    times = np.concatenate([np.asarray(times, np.float64) for times in rounds])
    medians = _medians(rounds)
    drawn = np.median(medians[_draws(len(medians))], axis=1)
    low, high = _limits(drawn)
    value = float(np.median(times))
    return Summary(
        p50=Interval(value, min(low, value), max(high, value)),
        p90=float(np.percentile(times, 90)),
        p99=float(np.percentile(times, 99)),
        cv=float(times.std() / times.mean()),
    )


def speed_ratio(baseline: Rounds, candidate: Rounds) -> Interval:
    """How many times faster the candidate is, from the rounds that both ran in turn.

    Paired round by round, so that a machine that slows down slows both: the median of the rounds' ratios, and its
    interval from drawing rounds anew.
    """
    ratios = _medians(baseline) / _medians(candidate)
    low, high = _limits(np.median(ratios[_draws(len(ratios))], axis=1))
    return Interval(float(np.median(ratios)), low, high)


def differs(ratio: Interval) -> bool:
    """Whether an interval of ratios lies beyond what two processes of the same file show."""
    return ratio.low > 1 + LEAST_DIFFERENCE or ratio.high < 1 - LEAST_DIFFERENCE


def _medians(rounds: Rounds) -> Array:
    return np.array([np.median(times) for times in rounds])


def _draws(count: int) -> npt.NDArray[np.int64]:
    """Which rounds each resample takes, (RESAMPLES, count). The same every time: a result can be computed again."""
    return np.random.default_rng(0).integers(count, size=(RESAMPLES, count))


def _limits(values: Array) -> tuple[float, float]:
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)

"""What can be said of times that vary: percentiles, bootstrap intervals, and whether two artifacts really differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES, CONFIDENCE = 2000, 0.95

# Student's t beside the normal distribution's 1.96, by launches: so few say little about how much launches vary.
NORMAL, STUDENT = 1.96, {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}

# Two processes of the very same file differ by about so much, from where their memory lies.
LEAST_DIFFERENCE = 0.02

# Times: of a launch (fresh processes), of a round in it, of a run in that. Launches have the same number of rounds.
Times = Sequence[Sequence[Sequence[float]]]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class Summary:
    """Of times: the median with its interval, percentiles, and the coefficient of variation (deviation / mean)."""

    p50: Interval
    p90: float
    p99: float
    cv: float


def summarize(times: Times) -> Summary:
    """p50 is the median of the rounds' medians, as its interval is made from them; the rest is of all runs."""
    runs = np.array([run for launch in times for one in launch for run in one])
    return Summary(
        p50=_interval(_medians(times)),
        p90=float(np.percentile(runs, 90)),
        p99=float(np.percentile(runs, 99)),
        cv=float(runs.std() / runs.mean()),
    )


def speed_ratio(baseline: Times, candidate: Times) -> Interval:
    """How many times faster the candidate is, from the rounds that both ran in turn.

    Paired round by round, so that a machine that slows down slows both: the median of the rounds' ratios.
    """
    return _interval(_medians(baseline) / _medians(candidate))


def differs(ratio: Interval) -> bool:
    """Whether an interval of ratios lies beyond what two processes of the same file show."""
    return ratio.low > 1 + LEAST_DIFFERENCE or ratio.high < 1 - LEAST_DIFFERENCE


def _medians(times: Times) -> Array:
    """Of each round: (launches, rounds)."""
    return np.array([[np.median(one) for one in launch] for launch in times])


def _interval(values: Array) -> Interval:
    """The median of one value a round, (launches, rounds), and its interval by a bootstrap.

    Rounds of one launch share what its processes are like, so launches are drawn anew, and rounds in each of those. Few
    launches vary too little so, and are trusted too much: the interval is widened by sqrt(n / (n - 1)) and by Student's
    t over the normal distribution's. One launch says nothing of others: its interval is that of its rounds.
    """
    launches, rounds = values.shape
    random = np.random.default_rng(0)  # the same draws every time, so that a result can be computed again
    chosen = random.integers(launches, size=(RESAMPLES, launches, 1))
    drawn = values[chosen, random.integers(rounds, size=(RESAMPLES, launches, rounds))]
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(np.median(drawn.reshape(RESAMPLES, -1), axis=1), [tail, 100 - tail])
    value, wider = float(np.median(values)), 1.0
    if launches > 1:
        wider = STUDENT.get(launches, NORMAL) / NORMAL * (launches / (launches - 1)) ** 0.5
    return Interval(value, value - wider * max(value - float(low), 0), value + wider * max(float(high) - value, 0))

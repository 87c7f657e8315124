"""What can be said of times that vary: percentiles, bootstrap intervals, and whether two artifacts really differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES, CONFIDENCE = 2000, 0.95
PERCENTILES = (50, 90, 99)

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
    """Of the times of all runs: percentiles with their intervals; the coefficient of variation (deviation / mean)."""

    p50: Interval
    p90: Interval
    p99: Interval
    cv: float


def summarize(times: Times) -> Summary:
    launches = [[np.asarray(one, np.float64) for one in launch] for launch in times]
    runs = np.concatenate([one for launch in launches for one in launch])
    chosen, rounds = _draws(len(launches), len(launches[0]))
    drawn = [
        np.percentile(np.concatenate([launches[a][b] for a, own in zip(*one, strict=True) for b in own]), PERCENTILES)
        for one in zip(chosen, rounds, strict=True)
    ]
    values = np.percentile(runs, PERCENTILES)
    p50, p90, p99 = (
        _interval(value, own, len(launches)) for value, own in zip(values, np.transpose(drawn), strict=True)
    )
    return Summary(p50, p90, p99, cv=float(runs.std() / runs.mean()))


def speed_ratio(baseline: Times, candidate: Times) -> Interval:
    """How many times faster the candidate is, from the rounds that both ran in turn.

    Paired round by round, so that a machine that slows down slows both: the median of the rounds' ratios.
    """
    ratios = _medians(baseline) / _medians(candidate)
    chosen, rounds = _draws(*ratios.shape)
    drawn = np.median(ratios[chosen[..., None], rounds].reshape(RESAMPLES, -1), axis=1)
    return _interval(float(np.median(ratios)), drawn, len(ratios))


def differs(ratio: Interval) -> bool:
    """Whether an interval of ratios lies beyond what two processes of the same file show."""
    return ratio.low > 1 + LEAST_DIFFERENCE or ratio.high < 1 - LEAST_DIFFERENCE


def _medians(times: Times) -> Array:
    """Of each round: (launches, rounds)."""
    return np.array([[np.median(one) for one in launch] for launch in times])


def _draws(launches: int, rounds: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """A bootstrap's choice of launches, (RESAMPLES, launches), and of rounds in each, (RESAMPLES, launches, rounds).

    Rounds of one launch share what its processes are like: so launches are drawn, and rounds within them.
    """
    random = np.random.default_rng(0)  # the same every time, so that a result can be computed again
    return random.integers(launches, size=(RESAMPLES, launches)), random.integers(
        rounds, size=(RESAMPLES, launches, rounds)
    )


def _interval(value: float, drawn: Array, launches: int) -> Interval:
    """The interval of a value, from what it was in each resample.

    A few launches vary too little when they are drawn, and would be trusted too much: it is widened by
    sqrt(n / (n - 1)) and by Student's t over the normal distribution's, as a factor, since all of this is positive. One
    launch says nothing of others.
    """
    tail = 50 * (1 - CONFIDENCE)
    low, high = (float(end) for end in np.percentile(drawn, [tail, 100 - tail]))
    wider = 1.0
    if launches > 1:
        wider = STUDENT.get(launches, NORMAL) / NORMAL * (launches / (launches - 1)) ** 0.5
    value = float(value)
    return Interval(value, value * min(low / value, 1) ** wider, value * max(high / value, 1) ** wider)

"""Which way of running a model is the best: what has to be measured, in which order, and what need not be.

What is taken for granted: a lower precision reaches at most `MARGIN` of AP more than fp32 at the same size. So a size
whose AP in fp32 is too low is not even exported, and AP is measured only until it is clear who has won.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ..compare.intervals import Interval

MARGIN = 0.005  # of AP, a fraction as everywhere here: what rounding may gain by chance
CLOSE = 1.15  # a short look at times may be off by so much: what is nearer to a decision is timed with care
TIE = 0.001  # of AP: below that, chance decides, and the faster is better
BROKEN = "could not be made or run"

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Build:
    """One artifact and what it computes in: target "onnx", "openvino" and so on; computes "fp32", "bf16" or "int8"."""

    target: str
    computes: str
    size: Size

    def __str__(self) -> str:
        return f"{self.target} {self.computes} {self.size[0]}x{self.size[1]}"


@dataclass(frozen=True)
class Way:
    """A build, and how it runs: so many streams, each with threads of the backend."""

    build: Build
    streams: int
    threads: int

    def __str__(self) -> str:
        streams = "" if self.streams == 1 else f"{self.streams} streams of "
        return f"{self.build}, {streams}{self.threads} thread{'' if self.threads == 1 else 's'}"


@dataclass(frozen=True)
class Goal:
    """One of the two: budget, milliseconds an image may take, or least_AP, the AP that there has to be, a fraction."""

    budget: float | None = None
    least_AP: float | None = None

    def __str__(self) -> str:
        return _points(self.least_AP) if self.budget is None else f"{self.budget:g} ms an image"


@dataclass(frozen=True)
class Trial:
    """What is known of a way.

    milliseconds: of an image, in the median; spread: half of its interval, where it was timed
    with care; AP: a fraction. None where not measured, and `note` says why.
    """

    way: Way
    milliseconds: float | None = None
    spread: float | None = None
    AP: float | None = None
    note: str = ""


class Lab(Protocol):
    """What measures. A build that cannot be made or run is left out of what `times` returns."""

    def fp32_ap(self, size: Size) -> float:
        """AP of the model at an input size, in fp32. More than 0."""

    def ap(self, build: Build) -> float:
        """AP of a build."""

    def times(self, ways: Sequence[Way], careful: bool) -> dict[Way, Interval]:
        """Milliseconds an image, of ways side by side."""


def search(ways: Sequence[Way], goal: Goal, lab: Lab) -> tuple[Trial | None, list[Trial]]:
    """The best way, None where there is none, and all of them in the order of their time."""
    ceilings = {size: lab.fp32_ap(size) for size in dict.fromkeys(way.build.size for way in ways)}
    known = {way: Trial(way) for way in ways}
    winner = (_most_accurate if goal.least_AP is None else _fastest)(known, ceilings, goal, lab)
    return winner, sorted(known.values(), key=_time)


def _most_accurate(known: dict[Way, Trial], ceilings: dict[Size, float], goal: Goal, lab: Lab) -> Trial | None:
    """The highest AP within the budget, and the fastest of equals. Size by size, while one can still win."""
    assert goal.budget is not None
    inside: list[Trial] = []
    for size in sorted(ceilings, key=lambda size: -ceilings[size]):
        own = [way for way in known if way.build.size == size]
        best = max((trial.AP or 0 for trial in inside), default=0)
        if inside and ceilings[size] + MARGIN < best - TIE:
            _note(known, own, f"AP {100 * best:.2f} is out of reach at this size")
            continue
        trials = _look(known, own, lab)
        near = [trial.way for trial in trials if _time(trial) <= CLOSE * goal.budget]
        _time_with_care(known, near, lab)
        for trial in sorted((known[trial.way] for trial in trials), key=_time):
            if _time(trial) > goal.budget:
                known[trial.way] = replace(trial, note=trial.note or "over the budget")
                continue
            known[trial.way] = replace(trial, AP=lab.ap(trial.way.build))
            inside.append(known[trial.way])
    best = max((trial.AP or 0 for trial in inside), default=0)
    return min((trial for trial in inside if (trial.AP or 0) >= best - TIE), key=_time, default=None)


def _fastest(known: dict[Way, Trial], ceilings: dict[Size, float], goal: Goal, lab: Lab) -> Trial | None:
    """The shortest time with AP enough."""
    assert goal.least_AP is not None
    trials: list[Trial] = []
    for size, ceiling in ceilings.items():
        own = [way for way in known if way.build.size == size]
        if ceiling + MARGIN < goal.least_AP:
            _note(known, own, f"fp32 reaches AP {100 * ceiling:.2f} at this size")
        else:
            trials += _look(known, own, lab)
    enough: list[Trial] = []
    for trial in sorted(trials, key=_time):
        if enough and _time(trial) > CLOSE * _time(enough[0]):
            _note(known, [trial.way], f"slower than {enough[0].way.build}")
            continue
        measured = known[trial.way] = replace(trial, AP=lab.ap(trial.way.build))
        if measured.AP is not None and goal.least_AP <= measured.AP:
            enough.append(measured)
        else:
            _note(known, [trial.way], f"{_points(measured.AP)} is below {_points(goal.least_AP)}")
    _time_with_care(known, [trial.way for trial in enough], lab)
    sound = [known[trial.way] for trial in enough if not known[trial.way].note]
    return min(sound, key=_time, default=None)


def _look(known: dict[Way, Trial], ways: Sequence[Way], lab: Lab) -> list[Trial]:
    """A short look at the times of all: the fastest way of each build goes on."""
    times = lab.times(ways, careful=False)
    found: dict[Build, Trial] = {}
    _note(known, [way for way in ways if way not in times], BROKEN)
    for way in sorted(times, key=lambda way: times[way].value):
        trial = known[way] = replace(known[way], milliseconds=times[way].value)
        if found.setdefault(way.build, trial) is not trial:
            _note(known, [way], "slower than other threads of the same")
    return list(found.values())


def _time_with_care(known: dict[Way, Trial], ways: Sequence[Way], lab: Lab) -> None:
    """Side by side, as long as it takes to tell neighbours apart. What does not run is out."""
    times = lab.times(ways, careful=True) if ways else {}
    for way in ways:
        if way in times:
            time = times[way]
            known[way] = replace(known[way], milliseconds=time.value, spread=(time.high - time.low) / 2)
        else:
            known[way] = replace(known[way], milliseconds=None, note=BROKEN)


def _note(known: dict[Way, Trial], ways: Sequence[Way], note: str) -> None:
    for way in ways:
        known[way] = replace(known[way], note=note)


def _points(fraction: float | None) -> str:
    """AP as people read it, 0 to 100."""
    return "no AP" if fraction is None else f"AP {round(100 * fraction, 2):g}"


def _time(trial: Trial) -> float:
    return math.inf if trial.milliseconds is None else trial.milliseconds

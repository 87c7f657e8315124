"""Which way of running a model is the best: what has to be measured, in which order, and what need not be.

Times are cheap and AP is not. So every way that can still win is timed, and AP is measured only until it is clear who
has won. What is taken for granted: a lower precision reaches at most `MARGIN` points more than fp32 at the same size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

MARGIN = 0.5  # points of AP that rounding may gain by chance
CLOSE = 1.15  # ways at most so much slower than the fastest are timed again, beside it

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
    """A build, and how it runs: so many streams (threads of the app that call it), each with threads of the backend."""

    build: Build
    streams: int
    threads: int

    def __str__(self) -> str:
        streams = "" if self.streams == 1 else f"{self.streams} streams of "
        return f"{self.build}, {streams}{self.threads} thread{'' if self.threads == 1 else 's'}"


@dataclass(frozen=True)
class Goal:
    """One of the two: budget, milliseconds an image may take, or least_ap, points of AP that there have to be."""

    budget: float | None = None
    least_ap: float | None = None

    def __str__(self) -> str:
        return f"AP {self.least_ap:g}" if self.budget is None else f"{self.budget:g} ms an image"


@dataclass(frozen=True)
class Trial:
    """What is known of a way. milliseconds: of an image; ap: points; None where not measured, and `note` says why."""

    way: Way
    milliseconds: float | None = None
    ap: float | None = None
    note: str = ""


class Lab(Protocol):
    """What measures. A build that cannot be made or run is left out of what `times` returns."""

    def fp32_ap(self, size: Size) -> float:
        """Points of AP of the model at an input size, in fp32."""

    def ap(self, build: Build) -> float:
        """Points of AP of a build."""

    def times(self, ways: Sequence[Way], careful: bool) -> dict[Way, float]:
        """Milliseconds an image, of ways side by side."""


def search(ways: Sequence[Way], goal: Goal, lab: Lab) -> tuple[Trial | None, list[Trial]]:
    """The best way, None where there is none, and all of them in the order of their time."""
    sizes = sorted({way.build.size for way in ways}, key=lambda size: -size[0] * size[1])
    ceilings = {size: lab.fp32_ap(size) for size in sizes}
    trials: dict[Way, Trial] = {}
    for size in sizes:
        own = [way for way in ways if way.build.size == size]
        ceiling = ceilings[size]
        if goal.least_ap is not None and ceiling + MARGIN < goal.least_ap:
            note = f"fp32 reaches AP {ceiling:.2f} at this size"
            trials |= {way: Trial(way, note=note) for way in own}
            continue
        times = lab.times(own, careful=False)
        trials |= {
            way: Trial(way, times[way]) if way in times else Trial(way, note="could not be made or run") for way in own
        }
    timed = {way: trial for way, trial in trials.items() if trial.milliseconds is not None}
    fastest = _fastest_of_each_build(timed.values())
    for trial in timed.values():
        if trial not in fastest:
            trials[trial.way] = replace(trial, note="slower than other threads of the same")
    choose = _most_accurate if goal.least_ap is None else _fastest
    winner = choose(fastest, ceilings, goal, lab, trials)
    return winner, sorted(trials.values(), key=_order)


def _order(trial: Trial) -> float:
    return float("inf") if trial.milliseconds is None else trial.milliseconds


def _fastest_of_each_build(trials: Iterable[Trial]) -> list[Trial]:
    """The best trial of each build, the fastest first."""
    found: dict[Build, Trial] = {}
    for trial in sorted(trials, key=_order):
        found.setdefault(trial.way.build, trial)
    return list(found.values())


def _most_accurate(
    trials: Sequence[Trial], ceilings: dict[Size, float], goal: Goal, lab: Lab, known: dict[Way, Trial]
) -> Trial | None:
    """The highest AP within the budget, and the faster one of equals. Writes what it finds into `known`."""
    assert goal.budget is not None
    inside = [trial for trial in trials if trial.milliseconds is not None and trial.milliseconds <= goal.budget]
    times = lab.times([trial.way for trial in inside], careful=True) if inside else {}
    for trial in trials:
        time = times.get(trial.way, _order(trial))
        known[trial.way] = replace(trial, milliseconds=time, note="" if time <= goal.budget else "over the budget")
    left = [known[trial.way] for trial in inside if not known[trial.way].note]
    best: Trial | None = None
    for trial in sorted(left, key=lambda one: (-ceilings[one.way.build.size], _order(one))):
        highest = ceilings[trial.way.build.size] + MARGIN
        if best is not None and best.ap is not None and highest <= best.ap:
            known[trial.way] = replace(trial, note=f"cannot reach AP {best.ap:.2f} at this size")
            continue
        trial = known[trial.way] = replace(trial, ap=lab.ap(trial.way.build))
        if best is None or (trial.ap, -_order(trial)) > (best.ap, -_order(best)):
            best = trial
    return best


def _fastest(
    trials: Sequence[Trial], ceilings: dict[Size, float], goal: Goal, lab: Lab, known: dict[Way, Trial]
) -> Trial | None:
    """The shortest time with AP enough. Writes what it finds into `known`."""
    assert goal.least_ap is not None
    enough: list[Trial] = []
    for trial in sorted(trials, key=_order):
        if enough and _order(trial) > CLOSE * _order(enough[0]):
            known[trial.way] = replace(trial, note=f"slower than {enough[0].way.build}")
            continue
        trial = replace(trial, ap=lab.ap(trial.way.build))
        if trial.ap is not None and trial.ap >= goal.least_ap:
            enough.append(trial)
        else:
            trial = replace(trial, note=f"AP is below {goal.least_ap:g}")
        known[trial.way] = trial
    if not enough:
        return None
    times = lab.times([trial.way for trial in enough], careful=True)
    for trial in enough:
        known[trial.way] = replace(trial, milliseconds=times.get(trial.way, trial.milliseconds))
    return min((known[trial.way] for trial in enough), key=_order)

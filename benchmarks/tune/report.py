"""What tuning looked at, as a table and JSON, and how to use the winner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from runtimes.json_file import json_text

from ..machine import Machine
from .search import BROKEN, Goal, Trial

HEADER = "| | way | ms an image | AP, points | |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Result:
    """What tuning found. artifact: of the winner, and options: those that `runtimes.load` takes for it."""

    model: str
    data: str
    aim: str
    goal: Goal
    winner: Trial | None
    artifact: str | None
    options: dict[str, Any]
    trials: Sequence[Trial]
    doubts: Sequence[str]
    machine: Machine

    def __str__(self) -> str:
        rows = [HEADER, *(_line(trial, trial == self.winner) for trial in self.trials)]
        notes = [f"note: {doubt}" for doubt in dict.fromkeys(self.doubts)]
        return "\n".join([*rows, *notes, *self._advice()])

    def _advice(self) -> list[str]:
        """How to load the winner."""
        won = self.winner
        if won is None:
            return []
        arguments = "".join(f", {name}={value!r}" for name, value in self.options.items())
        streams, shared = won.way.streams, " an image of all cores together" if self.aim == "throughput" else ""
        calls = "" if streams == 1 else "  # and detector.detect_stream(images)"
        return [
            f"\nbest for {self.goal}: {won.way}, {won.milliseconds:.2f} ms{shared}, AP {100 * (won.AP or 0):.2f}",
            "    from runtimes import load",
            f"    detector = load({self.artifact!r}{arguments}){calls}",
        ]

    def to_json(self) -> str:
        return json_text(asdict(self), indent=1) + "\n"

    def last_line(self) -> str:
        """One line of JSON for programs that read the terminal."""
        summary = None if self.winner is None else {"name": str(self.winner.way), **asdict(self.winner)}
        return json_text({"artifact": self.artifact, "options": self.options, "winner": summary})

    def nearest(self) -> str:
        """What comes nearest where nothing won, in words."""
        timed = [(trial.milliseconds, trial.way) for trial in self.trials if trial.milliseconds is not None]
        measured = [(trial.AP, trial.way) for trial in self.trials if trial.AP is not None]
        if self.goal.budget is not None:
            if not timed:
                return "nothing could be run"
            time, way = min(timed, key=lambda one: one[0])
            return f"the fastest is {way} with {time:.2f} ms; smaller --sizes are faster"
        if not measured:
            largest = max(self.trials, key=lambda trial: trial.way.build.size)
            if largest.note == BROKEN:
                return "nothing could be run"
            size = "x".join(map(str, largest.way.build.size))
            return f"{largest.note.replace('this size', size)}; larger --sizes or another model reach more"
        ap, way = max(measured, key=lambda one: one[0])
        return f"the most accurate is {way} with AP {100 * ap:.2f}"


def _line(trial: Trial, won: bool) -> str:
    time = "" if trial.milliseconds is None else f"{trial.milliseconds:.2f}"
    time += f" ±{trial.spread:.2f}" if trial.spread else ""
    ap = "" if trial.AP is None else f"{100 * trial.AP:.2f}"
    return f"| {'*' if won else ' '} | {trial.way} | {time} | {ap} | {trial.note} |"

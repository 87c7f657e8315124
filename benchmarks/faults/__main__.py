"""python -m benchmarks.faults: exports and trainings that are killed, damaged or out of disk, at every moment there is.

    python -m benchmarks.faults

Each is the real command in a process of its own, on a small seeded model: killed (SIGKILL) at random moments, and
before each change that it makes to its folder. Then what stands is loaded and compared, and the next run has to mend it
and to leave nothing behind. Prints a table and ends with one JSON line; exits with 1 where one of that failed. For
Linux; three quarters of an hour on two cores.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from runtimes.errors import UserError
from yolox_deploy.console import require, run
from yolox_deploy.options import check_positive
from yolox_deploy.progress import progress_bar

from .exports import fill_disks, kill_exports
from .moments import Outcome
from .trainings import Trainings, damage_checkpoints, fill_disk, kill_trainings

Part = Literal["export", "training"]


@dataclass(frozen=True)
class FaultsConfig:
    """Kill exports and trainings at any moment, and see what stands."""

    parts: tuple[Part, ...] = ("export", "training")
    """What to try."""
    export_kills: int = 30
    """Exports killed at random moments, besides one before each change."""
    train_kills: int = 20
    """Trainings killed at random moments, besides one before each change and one in each write of a checkpoint."""
    targets: tuple[Literal["onnx", "openvino", "ncnn"], ...] = ("onnx", "openvino", "ncnn")
    """What to export to."""
    workers: int = 2
    """Processes that load images of a training."""
    flips: int = 12
    """Checkpoints with one bit turned."""
    disks: int = 8
    """Disks that are too small for a training."""
    seed: int = 0
    """Of the random moments."""


def export_part(config: FaultsConfig, scratch: Path, notes: list[str]) -> list[Outcome]:
    random = np.random.default_rng(config.seed)
    outcomes = kill_exports(config.targets, config.export_kills, random, scratch, bar("killing exports"))
    try:
        outcomes += fill_disks(config.targets, scratch)
    except UserError as error:
        notes.append(str(error))
    return outcomes


def training_part(config: FaultsConfig, scratch: Path, notes: list[str]) -> list[Outcome]:
    random = np.random.default_rng(config.seed)
    trainings = Trainings(scratch, config.workers)
    outcomes = kill_trainings(trainings, config.train_kills, random, bar("killing trainings"))
    outcomes += damage_checkpoints(trainings, config.flips, random, bar("damaging checkpoints"))
    try:
        outcomes += fill_disk(trainings, config.disks, bar("filling disks"))
    except UserError as error:
        notes.append(str(error))
    return outcomes


def bar(title: str) -> Any:
    def wrapped(items: Sequence[Any]) -> Iterable[Any]:
        shown: Iterable[Any] = progress_bar(items, unit="run", desc=title)
        return shown

    return wrapped


def table(outcomes: Sequence[Outcome]) -> str:
    """One row for each part."""
    rows = ["| tried | runs | what stood | faults |", "|---|---|---|---|"]
    for part in dict.fromkeys(outcome.part for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.part == part]
        stood = ", ".join(f"{found} {count}x" for found, count in sorted(Counter(one.found for one in own).items()))
        rows.append(f"| {part} | {len(own)} | {stood} | {sum(bool(one.fault) for one in own)} |")
    return "\n".join(rows)


def command(config: FaultsConfig) -> None:
    require("torch", "onnx", "onnxruntime", "lightning_fabric", "hotcoco")
    check_positive(export_kills=config.export_kills, train_kills=config.train_kills)
    check_positive(flips=config.flips, disks=config.disks)
    if not sys.platform.startswith("linux"):
        raise UserError("this is for Linux.")
    parts = {"export": export_part, "training": training_part}
    notes: list[str] = []
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as scratch:
        for part in dict.fromkeys(config.parts):
            outcomes += parts[part](config, Path(scratch), notes)
    faults = [outcome for outcome in outcomes if outcome.fault]
    print(table(outcomes) + "\n")
    print(
        *(f"fault: {one.part}, {one.moment}: {one.fault}" for one in faults), *map("note: {}".format, notes), sep="\n"
    )
    print(json.dumps({"runs": len(outcomes), "faults": [asdict(one) for one in faults], "notes": notes}), flush=True)
    if faults:
        raise UserError(f"{len(faults)} of {len(outcomes)} runs did not end well.")


def main(arguments: Sequence[str] | None = None) -> int:
    return run("python -m benchmarks.faults", FaultsConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

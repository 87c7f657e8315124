"""Trainings that are killed, find their newest checkpoint damaged, or run out of disk; and then go on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from runtimes.errors import UserError
from yolox_deploy.data.scenes import ScenesConfig, write_scenes
from yolox_deploy.model.safe_load import safe_load
from yolox_deploy.model.safe_save import is_whole
from yolox_deploy.training.state import LAST, PREVIOUS

from .disk import enlarge, small_disk
from .moments import NEVER, Ended, Moment, Outcome, moments, run_until

Progress = Callable[[Sequence[Moment]], Iterable[Moment]]

OPTIONS = ["--model", "yolox-nano", "--input-size", "64", "64", "--multi-scale", "64", "96", "--batch", "4"]
OPTIONS += ["--epochs", "3", "--warmup-epochs", "1", "--no-augmentation-epochs", "1", "--device", "cpu"]
TIMES = ("images_per_second", "seconds")
LARGE = 200_000_000  # bytes: more than a training takes


class Trainings:
    """Of one data set, each compared with one that nobody disturbed."""

    def __init__(self, scratch: Path, workers: int) -> None:
        self.scratch, self.workers = scratch, workers
        self.data, self.reference = scratch / "data", scratch / "reference"
        write_scenes(ScenesConfig(self.data, train=8, val=4))
        self.whole = self.run(NEVER, self.reference)
        if self.whole.code:
            raise UserError(f"nothing can be trained here: {self.whole.said}")
        self.expected = content(self.reference)

    def run(self, moment: Moment, folder: Path, *options: str) -> Ended:
        fixed = ["--data", str(self.data), "--output", str(folder), "--workers", str(self.workers)]
        return run_until(moment, ["train", *fixed, *OPTIONS, *options, "--logger"], folder)

    def kill(self, moment: Moment) -> Outcome:
        """Kill a training at that moment, and go on."""
        folder = self.scratch / "killed"
        self.run(moment, folder)
        found, fault = self.mend(folder)
        shutil.rmtree(folder, ignore_errors=True)
        return Outcome("training", str(moment), found, fault)

    def mend(self, folder: Path) -> tuple[str, str]:
        """What a training goes on from, and what is wrong with what comes of it; "" if nothing is."""
        saved = any((folder / name).exists() for name in (LAST, PREVIOUS))
        again = self.run(NEVER, folder, *(["--resume"] if saved else []))
        found = "nothing saved yet" if not saved else PREVIOUS if "Going on from" in again.output else LAST
        if again.code:
            return found, f"the next run failed: {again.said}"
        if not identical(content(folder), self.expected):
            return found, "it ends with other weights"
        left = sorted(names(folder) ^ names(self.reference))
        return found, f"not the files of an undisturbed one: {', '.join(left)}" if left else ""

    def damage(self, killed: Path, kind: str, spoil: Callable[[bytearray], bytearray]) -> Outcome:
        """Go on from a training that was killed, once its newest checkpoint was spoilt."""
        folder = self.scratch / "damaged"
        shutil.copytree(killed, folder)
        (folder / LAST).write_bytes(spoil(bytearray((folder / LAST).read_bytes())))
        found, fault = self.mend(folder)
        shutil.rmtree(folder)
        return Outcome("damaged checkpoint", kind, found, fault)

    def fill_disk(self, disk: Path, size: int) -> Outcome:
        """Train on a disk that is too small, and go on once it is large."""
        part, when = "full disk, training", f"{size} bytes"
        ended = self.run(NEVER, disk / "run")
        if ended.code == 0:
            return Outcome(part, when, "", "the training ended well: the disk was not full")
        fault = "" if ended.error.count("error: ") == 1 and "Traceback" not in ended.error else f"it said: {ended.said}"
        broken = [name for name in (LAST, PREVIOUS) if (disk / "run" / name).exists()]
        broken = [name for name in broken if not is_whole(disk / "run" / name)]
        enlarge(disk, LARGE)
        found, later = self.mend(disk / "run")
        return Outcome(part, when, found, fault or (f"{broken[0]} is damaged" if broken else later))


def names(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*")}


def content(folder: Path) -> dict[str, Any]:
    """All that a training ends with, but for how long it took."""
    history = json.loads((folder / "history.json").read_text())
    return {"history": history, **{name: dict(safe_load(folder / name)) for name in (LAST, "best.pth")}}


def identical(one: Any, other: Any) -> bool:
    """Bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            identical(value, other[key]) for key, value in one.items() if key not in TIMES
        )
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(identical, one, other))
    return bool(one == other)


def kill_trainings(trainings: Trainings, kills: int, random: np.random.Generator, progress: Progress) -> list[Outcome]:
    """At random moments, before each change to the folder, and in the middle of each checkpoint."""
    whole = trainings.whole
    planned = moments(whole, kills, random)
    written = [
        (number, name) for number, name in enumerate(whole.changes, 1) if name.startswith("open ") and ".pth" in name
    ]
    for number, name in written:
        size = (trainings.reference / (LAST if "last" in name else "best.pth")).stat().st_size
        planned.append(Moment(change=number, size=int(random.integers(1, size)), name=name))
    return [trainings.kill(moment) for moment in progress(planned)]


def damage_checkpoints(
    trainings: Trainings, flips: int, random: np.random.Generator, progress: Callable[[Any], Any]
) -> list[Outcome]:
    """The newest one: cut short, empty, of zeros, or with one bit turned somewhere."""
    killed = trainings.scratch / "to damage"
    last_write = max(number for number, name in enumerate(trainings.whole.changes, 1) if ".last.part" in name)
    trainings.run(Moment(change=last_write), killed)

    def flip(content: bytearray) -> bytearray:
        place = int(random.integers(len(content)))
        content[place] ^= 1 << int(random.integers(8))
        return content

    kinds: list[tuple[str, Callable[[bytearray], bytearray]]] = [
        ("cut short", lambda content: content[: len(content) // 2]),
        ("empty", lambda content: bytearray()),
        ("zeros", lambda content: bytearray(len(content))),
        *(("one bit turned", flip) for _ in range(flips)),
    ]
    return [trainings.damage(killed, kind, spoil) for kind, spoil in progress(kinds)]


def fill_disk(trainings: Trainings, disks: int, progress: Callable[[Any], Any]) -> list[Outcome]:
    """Disks of several sizes, all too small. Raises `UserError` where none can be mounted."""
    need = sum(file.stat().st_size for file in trainings.reference.rglob("*") if file.is_file())
    outcomes = []
    for number in progress(range(disks)):
        size = round(need * (number + 0.5) / disks)
        with small_disk(trainings.scratch / f"disk-{number}", size) as disk:
            outcomes.append(trainings.fill_disk(disk, size))
    return outcomes

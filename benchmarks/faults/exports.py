"""Exports that are killed, or run out of disk, while an older artifact stands in their place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from runtimes.errors import UserError
from runtimes.load import load
from runtimes.preprocess import Image
from runtimes.proof import RECORD, proven_files
from yolox_deploy.data.shapes import shapes_images

from .disk import small_disk
from .moments import NEVER, Ended, Moment, Outcome, moments, run_until

Progress = Callable[[Sequence[Moment]], Iterable[Moment]]

MODEL = ["export", "--seeded", "--model", "yolox-nano", "--input-size", "64", "64", "--name", "model"]
LITTLE = (0, 20_000, 1_000_000)  # bytes of free disk: nothing fits, some of the artifact does


class Exports:
    """Of one target, into one folder. The artifacts are told apart by their number of classes."""

    def __init__(self, target: str, output: Path) -> None:
        self.target, self.output = target, output
        self.folder = output / f"model-{target}-fp32"
        self.classes = 3
        self.image: Image = shapes_images(1)[0]

    def run(self, moment: Moment, classes: int) -> Ended:
        arguments = [*MODEL, "--num-classes", str(classes), "--target", self.target, "--output", str(self.output)]
        return run_until(moment, [*arguments, "--overwrite"], self.output)

    def start(self) -> Ended:
        """The first artifact, and what replacing it is like when nobody kills it. Raises `UserError` where it fails."""
        for classes in (self.classes + 1, self.classes):
            whole = self.run(NEVER, classes)
            if whole.code:
                raise UserError(f"{self.target} cannot be exported here: {whole.said}")
        return whole

    def standing(self) -> int:
        """The classes of the artifact that `load` finds; it has to be whole. Raises `UserError` or `AssertionError`."""
        with load(self.folder, score_threshold=0.01) as detector:
            detector(self.image)
            classes = detector.spec.num_classes
        place = self.folder if self.folder.exists() else self.folder.with_name(f".{self.folder.name}.old")
        record = json.loads((place / RECORD).read_text())
        assert record["passed"], "its record says that it was not proven"
        assert record["files"] == proven_files(place), "not the files that were proven"
        return classes

    def kill(self, moment: Moment) -> Outcome:
        """Kill an export at that moment, see what stands, and export once more."""
        old, new = self.classes, 7 - self.classes
        self.run(moment, new)
        part, when = f"export {self.target}", str(moment)
        try:
            found = {old: "the old one", new: "the new one"}[self.standing()]
        except Exception as error:  # whatever it is, it is what a user would meet
            return Outcome(part, when, "neither", f"{type(error).__name__}: {error}")
        return Outcome(part, when, found, self.mend(new))

    def mend(self, classes: int) -> str:
        """What is wrong after one more export; "" if nothing is."""
        again = self.run(NEVER, classes)
        self.classes = classes
        if again.code:
            return f"the next run failed: {again.said}"
        if self.standing() != classes:
            return "the next run left the old one"
        left = sorted(file.name for file in self.output.iterdir() if file != self.folder)
        return f"left behind: {', '.join(left)}" if left else ""

    def fill_disk(self, free: int) -> Outcome:
        """Export onto a disk with so many bytes of room beside the old artifact."""
        part, when = f"full disk, export {self.target}", f"{free} bytes free"
        (self.output / "filler").write_bytes(bytes(max(shutil.disk_usage(self.output).free - free, 0)))
        ended = self.run(NEVER, 7 - self.classes)
        (self.output / "filler").unlink()
        if ended.code == 0:
            return Outcome(part, when, "", "the export ended well: the disk was not full")
        try:
            found = {self.classes: "the old one"}[self.standing()]
        except Exception as error:
            return Outcome(part, when, "not the old one", f"{type(error).__name__}: {error}")
        fault = "" if "Traceback" not in ended.error and "error: " in ended.error else f"it said: {ended.said}"
        return Outcome(part, when, found, fault or self.mend(7 - self.classes))


def kill_exports(
    targets: Sequence[str], kills: int, random: np.random.Generator, scratch: Path, progress: Progress
) -> list[Outcome]:
    """`kills` at random moments, shared out among the targets, and one before each change to the folder."""
    outcomes = []
    for number, target in enumerate(targets):
        exports = Exports(target, scratch / f"export-{target}")
        whole = exports.start()
        own = len(range(number, kills, len(targets)))
        outcomes += [exports.kill(moment) for moment in progress(moments(whole, own, random))]
    return outcomes


def fill_disks(targets: Sequence[str], scratch: Path) -> list[Outcome]:
    """Raises `UserError` where no disk can be mounted."""
    outcomes = []
    for target in targets:
        with small_disk(scratch / f"disk-{target}", 64_000_000) as disk:
            exports = Exports(target, disk)
            exports.start()
            outcomes += [exports.fill_disk(free) for free in LITTLE]
    return outcomes

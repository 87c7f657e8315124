"""When a command is killed, and what became of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
LONGEST = 600  # seconds: what takes longer hangs, and is killed too
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}  # the same additions in the same order


@dataclass(frozen=True)
class Moment:
    """After so many seconds; or before a change to the folder, counted from 1; or, with a size, within a write.

    See `fatal.Watch`.
    """

    seconds: float | None = None
    change: int | None = None
    size: int | None = None
    name: str = ""

    def __str__(self) -> str:
        if self.seconds is not None:
            return f"after {self.seconds:.2f} s"
        return f"before {self.name}" if self.size is None else f"at byte {self.size} of {self.name}"


NEVER = Moment()


@dataclass(frozen=True)
class Ended:
    """A process. code: negative for the signal that ended it. changes: to the folder, those announced until then."""

    code: int
    output: str
    error: str
    changes: tuple[str, ...]
    seconds: float

    @property
    def said(self) -> str:
        """The last line of what it said of its failure."""
        lines = self.error.strip().splitlines()
        return lines[-1] if lines else "nothing"


@dataclass(frozen=True)
class Outcome:
    """part: what was tried. moment: when, or how, in words. found: what stood then. fault: "" where all is well."""

    part: str
    moment: str
    found: str
    fault: str = ""


def run_until(moment: Moment, arguments: Sequence[str], folder: Path) -> Ended:
    """Run a command of ours in a process of its own, to its end or to that moment."""
    with tempfile.TemporaryDirectory() as scratch:
        log, output, error = (Path(scratch) / name for name in ("log", "output", "error"))
        plan = {"folder": str(folder.absolute()), "log": str(log), "change": moment.change, "size": moment.size}
        command = [sys.executable, "-m", "benchmarks.faults.fatal", json.dumps(plan), *arguments]
        start = time.perf_counter()
        with output.open("w") as out, error.open("w") as err:  # not pipes, which processes that it leaves would hold
            with subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err, env=ENVIRONMENT) as process:
                try:
                    process.wait(LONGEST if moment.seconds is None else moment.seconds)
                except subprocess.TimeoutExpired:
                    process.kill()
        seconds = time.perf_counter() - start
        changes = tuple(log.read_text().splitlines()) if log.exists() else ()
        return Ended(process.returncode, output.read_text(), error.read_text(), changes, seconds)


def moments(whole: Ended, count: int, random: np.random.Generator) -> list[Moment]:
    """`count` moments anywhere in a run that lasted as long as that whole one, and one before each of its changes."""
    anywhere = [Moment(seconds=float(share) * whole.seconds) for share in np.sort(random.random(count))]
    return anywhere + [Moment(change=number, name=name) for number, name in enumerate(whole.changes, 1)]

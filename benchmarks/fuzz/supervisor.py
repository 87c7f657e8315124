"""Runs workers, and starts another where one crashes or hangs."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
HANG = 10.0  # seconds for one file
START = 120.0  # for the imports of a process
LAST_LINES = 2000  # characters of what a process said before it died
WORKER = (sys.executable, "-m", "benchmarks.fuzz.worker")
FAULTS = ("foreign", "crash", "hang")


@dataclass
class Outcomes:
    """How many files ran, were refused, and so on; and what was wrong, by the number of its case."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("ran", "refused", *FAULTS), 0))
    faults: dict[int, str] = field(default_factory=dict)

    def add(self, number: int, kind: str, text: str) -> None:
        self.counts[kind] += 1
        if kind in FAULTS:
            self.faults[number] = f"{kind}: {text}"

    def merge(self, other: Outcomes) -> None:
        for kind, count in other.counts.items():
            self.counts[kind] += count
        self.faults |= other.faults


def run_cases(
    artifact: Path, folder: Path, seed: int, cases: range, done: Callable[[], object] = lambda: None
) -> Outcomes:
    """Every case, in processes of their own. folder: for the damaged artifact, and kept copies of what is at fault."""
    outcomes, first = Outcomes(), cases.start
    while first < cases.stop:
        first = _run_process(artifact, folder, seed, range(first, cases.stop), outcomes, done)
    return outcomes


def _run_process(
    artifact: Path, folder: Path, seed: int, cases: range, outcomes: Outcomes, done: Callable[[], object]
) -> int:
    """Run cases until all are done or the process is; returns the number to go on from."""
    copy, log = folder / "damaged", folder / "log.txt"
    numbers = [str(number) for number in (seed, cases.start, cases.stop)]
    command = [*WORKER, str(artifact), str(copy), *numbers]
    with log.open("wb") as file, subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=file) as process:
        assert process.stdout is not None
        number, wait = cases.start - 1, START
        while line := _read_line(process, wait):
            number, kind, text = json.loads(line)
            wait = HANG
            if kind != "begun":
                outcomes.add(number, kind, text)
                _keep(copy, folder, number, kind)
                done()
        hangs = process.poll() is None and line is None
        if hangs:
            process.kill()
        code = process.wait()
    if code == 0:
        return cases.stop
    if number < cases.start:  # it never began
        raise RuntimeError(log.read_text(encoding="utf-8", errors="replace")[-LAST_LINES:])
    if hangs:
        outcomes.add(number, "hang", f"more than {HANG:.0f} s")
    else:
        outcomes.add(number, "crash", _signal(code))
    _keep(copy, folder, number, "hang" if hangs else "crash")
    done()
    return number + 1


def _read_line(process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    """The next line; b"" at the end, None where none comes in time."""
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        if not select.select([process.stdout], [], [], seconds)[0]:
            return None
        part = os.read(process.stdout.fileno(), 1)
        if not part:
            return b""
        line += part
    return line


def _signal(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _keep(copy: Path, folder: Path, number: int, kind: str) -> None:
    if kind in FAULTS:
        shutil.copytree(copy, folder / f"{kind}-{number}", dirs_exist_ok=True)
        if (folder / "log.txt").exists():
            shutil.copy(folder / "log.txt", folder / f"{kind}-{number}" / "log.txt")

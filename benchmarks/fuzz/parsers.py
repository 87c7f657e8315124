"""python -m benchmarks.fuzz.parsers: what reads files of strangers in Python, fuzzed with coverage as a guide.

    pip install atheris
    python -m benchmarks.fuzz.parsers --seconds 60

Each reader may end in one sentence, and in nothing else. Prints a table and ends with one JSON line; exits with 1 where
one broke.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import tyro

from runtimes.errors import InvalidInput, UserError
from yolox_deploy.console import require, run
from yolox_deploy.files import check_output_folder
from yolox_deploy.options import check_positive

from .targets import NAMES

ROOT = Path(__file__).parents[2]
HANG = 10  # seconds for one input
MEMORY = 4096  # MiB for one input
STATUS = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+)")  # libFuzzer's line: inputs, edges that were reached


@dataclass(frozen=True)
class ParsersConfig:
    """Fuzz what reads files of strangers in Python, with coverage as a guide."""

    readers: Annotated[tuple[str, ...], tyro.conf.Positional] = NAMES
    """Which; unset, all."""
    seconds: int = 60
    """For each."""
    seed: int = 1
    """Of the fuzzer."""
    keep: Path | None = None
    """Folder for what was found: inputs that broke a reader, and those that reached new code."""


@dataclass(frozen=True)
class Row:
    """What fuzzing one reader came to. edges: of the code, reached. fault: the last line of what broke, or none."""

    reader: str
    inputs: int
    edges: int
    fault: str = ""

    def __str__(self) -> str:
        return f"| {self.reader} | {self.inputs} | {self.edges} | {self.fault or 'none'} |"


def fuzz(reader: str, folder: Path, config: ParsersConfig) -> Row:
    """Fuzz one reader in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    limits = [
        f"-max_total_time={config.seconds}",
        f"-timeout={HANG}",
        f"-rss_limit_mb={MEMORY}",
        f"-seed={config.seed}",
    ]
    command = [sys.executable, "-m", "benchmarks.fuzz.guided", reader, str(folder), *limits]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    found = STATUS.findall(done.stderr)
    inputs, edges = map(int, found[-1]) if found else (0, 0)
    return Row(reader, inputs, edges, "" if done.returncode == 0 else _fault(done.stdout + done.stderr))


def _fault(printed: str) -> str:
    """The exception, or libFuzzer's own line on a crash, a hang or too much memory."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    after = next((index for index, line in enumerate(lines) if "Uncaught Python exception" in line), None)
    if after is not None and after + 1 < len(lines):
        return lines[after + 1]
    said = [line for line in lines if "ERROR:" in line]
    return (said or lines or ["it said nothing"])[-1]


def command(config: ParsersConfig) -> None:
    require("atheris")
    check_positive(seconds=config.seconds)
    unknown = sorted(set(config.readers) - set(NAMES))
    if unknown:
        raise InvalidInput(f"there is no reader {unknown[0]!r}; there are {', '.join(NAMES)}.")
    if config.keep is not None:
        check_output_folder(config.keep, "--keep")
    rows = []
    with TemporaryDirectory() as temporary:
        print("| reader | inputs | edges | fault |\n|---|---|---|---|")
        for reader in config.readers:
            row = fuzz(reader, (config.keep or Path(temporary)).resolve() / reader, config)
            print(row, flush=True)
            rows.append(row)
    print(json.dumps({"seconds": config.seconds, "rows": [asdict(row) for row in rows]}))
    broken = [row.reader for row in rows if row.fault]
    if broken:
        raise UserError(f"{', '.join(broken)} broke; --keep FOLDER keeps the input.")


def main(arguments: Sequence[str] | None = None) -> int:
    return run("python -m benchmarks.fuzz.parsers", ParsersConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

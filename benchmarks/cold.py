"""python -m benchmarks.cold: one image in a process that starts for it: how long it takes, how much memory.

    python -m benchmarks.cold artifacts/* --official yolox_nano_not_decoded.onnx --image street.jpg

Against a script as the official ONNX Runtime demo, which imports PyTorch for its preprocessing; and against the same
without PyTorch. Ours are the lines of the README's "Embed". All take turns. Prints a table and ends with one JSON line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated

import cv2
import numpy as np
import tyro

from runtimes.errors import InvalidInput, UserError
from runtimes.json_file import json_text
from yolox_deploy.console import require, run
from yolox_deploy.data.images import read_image
from yolox_deploy.data.shapes import shapes_images
from yolox_deploy.options import check_positive
from yolox_deploy.progress import progress_bar

from .compare.contenders import contenders_of
from .machine import Usage, load_between, usage, warnings
from .peers.contenders import DEMO, read_official

ROOT = Path(__file__).parents[1]
HEADER = "| script | ms | speed | peak MiB | memory | found |\n" + "|---" * 6 + "|"

OFFICIAL = ["-m", "benchmarks.baselines.cold_official"]
OURS = [
    "-c",
    """
import json, sys
import cv2
from runtimes import load
artifact, image, options = sys.argv[1:]
with load(artifact, **json.loads(options)) as detector:
    found = detector(cv2.imread(image))
from benchmarks.memory import peak_memory
print(json.dumps([len(found), peak_memory()]))
""",
]


@dataclass(frozen=True)
class ColdConfig:
    """One image in a process that starts for it, against a script as the official demo."""

    artifacts: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Artifacts: folders or model files; NAME=PATH gives one a name of your own."""
    official: Path
    """The same model as the official exporter writes it; so does yolox-deploy export --no-decode --no-uint8-input."""
    image: Path | None = None
    """The image; unset, a generated one."""
    threads: int = 1
    """Threads of each backend."""
    runs: int = 10
    """Processes of each, after one that is not counted: it reads the files from the disk."""


@dataclass(frozen=True)
class Script:
    """name: in the table. arguments: those of Python."""

    name: str
    arguments: list[str]


@dataclass(frozen=True)
class Run:
    """One process: wall time from its start to its end, its peak memory, and how much it found."""

    milliseconds: float
    peak_mib: float
    found: int


@dataclass(frozen=True)
class Ratio:
    """The median of the rounds' ratios, and the smallest and largest of them."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f}x [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Row:
    """Medians. speed, memory: how many times less than the official demo's."""

    name: str
    milliseconds: float
    speed: Ratio
    peak_mib: float
    memory: Ratio
    found: int

    def __str__(self) -> str:
        cells = [f"{self.milliseconds:.0f}", str(self.speed), f"{self.peak_mib:.0f}", str(self.memory), str(self.found)]
        return f"| {self.name} | {' | '.join(cells)} |"


def run_once(script: Script) -> Run:
    """Raises `UserError` where the script fails."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *script.arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    milliseconds = 1e3 * (time.perf_counter() - start)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise UserError(f"{script.name} ended with code {done.returncode}: {said[-1] if said else 'it said nothing'}")
    found, peak_mib = json.loads(done.stdout.splitlines()[-1])
    return Run(milliseconds, peak_mib, found)


def scripts_of(config: ColdConfig, image: Path) -> list[Script]:
    """The official demo's script first, as it is, and then as it could be.

    Raises `InvalidInput` for what is no artifact or no official file.
    """
    size = read_official(config.official).input_size
    options = json.dumps({"threads": config.threads, "size": size})
    demo = [*OFFICIAL, str(config.official.absolute()), str(image), options]
    found = [Script(f"{DEMO}, with PyTorch", [*demo, "torch"]), Script(f"{DEMO}, without", demo)]
    for one in contenders_of(config.artifacts, config.threads, bf16=False):
        arguments = [*OURS, str(one.artifact.absolute()), str(image), json.dumps(one.options)]
        found.append(Script(f"ours, {one.name}", arguments))
    return found


def measure(scripts: Sequence[Script], runs: int) -> tuple[list[list[Run]], list[str]]:
    """The runs of each script, in turn; and what makes them doubtful, in sentences."""
    for script in scripts:
        run_once(script)
    found: list[list[Run]] = [[] for _ in scripts]
    start = used()
    for _ in progress_bar(range(runs), unit="round", desc="starting"):
        for script, own in zip(scripts, found, strict=True):
            own.append(run_once(script))
    low, high = np.percentile([run.milliseconds for run in found[0]], [10, 90])
    return found, warnings([load_between(start, used())], float(high / low - 1))


def used() -> Usage:
    """As `usage`, with the processes that have ended."""
    now = usage([])
    return replace(now, own=now.own + sum(os.times()[2:4]))


def rows_of(scripts: Sequence[Script], runs: Sequence[Sequence[Run]]) -> list[Row]:
    """runs: of each script as many, round by round; those of the baseline first."""
    return [
        Row(
            name=script.name,
            milliseconds=median(run.milliseconds for run in own),
            speed=ratio([run.milliseconds for run in runs[0]], [run.milliseconds for run in own]),
            peak_mib=median(run.peak_mib for run in own),
            memory=ratio([run.peak_mib for run in runs[0]], [run.peak_mib for run in own]),
            found=own[0].found,
        )
        for script, own in zip(scripts, runs, strict=True)
    ]


def ratio(baseline: Sequence[float], own: Sequence[float]) -> Ratio:
    ratios = [one / other for one, other in zip(baseline, own, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))


def command(config: ColdConfig) -> None:
    require("onnx", "onnxruntime", "psutil", "torch")
    check_positive(threads=config.threads, runs=config.runs)
    if not config.artifacts:
        raise InvalidInput("name artifacts to measure.")
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.png" if config.image is None else config.image.absolute()
        if config.image is None:
            cv2.imwrite(str(image), shapes_images(1)[0])
        read_image(image)
        scripts = scripts_of(config, image)
        runs, doubts = measure(scripts, config.runs)
    rows = rows_of(scripts, runs)
    print(HEADER, *rows, "", sep="\n")
    print("ms: of the whole process, with its start; speed, memory: against the first, with the smallest and largest")
    print("found: detections in the image, from each one's own threshold on", *doubts, sep="\n")
    summary = {"baseline": DEMO, "runs": config.runs, "warnings": doubts, "rows": [asdict(row) for row in rows]}
    print(json_text(summary))


def main(arguments: Sequence[str] | None = None) -> int:
    return run("python -m benchmarks.cold", ColdConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""python -m benchmarks.fuzz: damaged artifacts, each of which has to run or to be refused in one sentence.

    python -m benchmarks.fuzz artifacts/yolox-nano-onnx-fp32 --files 10000

Each file is an artifact's own, with a few random changes from a seed, and without the hashes that would refuse it at
once. It is opened, and detects in one image, in a process of its own that may crash. Prints a table and ends with one
JSON line; exits with 1 where a file ended in a crash, a hang of 10 s or an error that is no sentence.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import tyro

from runtimes.errors import InvalidInput, UserError
from runtimes.load import model_file
from yolox_deploy.console import run
from yolox_deploy.files import check_output_folder
from yolox_deploy.options import check_positive
from yolox_deploy.progress import progress_bar

from .supervisor import FAULTS, Outcomes, run_cases
from .worker import READ

SHOWN = 10  # faults of each artifact


@dataclass(frozen=True)
class FuzzConfig:
    """Open damaged artifacts: each has to run, or to be refused in one sentence."""

    artifacts: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of artifacts; with a small --input-size, more files a second."""
    files: int = 1000
    """Damaged files of each."""
    processes: int = 2
    """Side by side."""
    seed: int = 0
    """What is damaged, and how, comes from it."""
    keep: Path | None = None
    """Folder for the artifacts that are at fault."""


def command(config: FuzzConfig) -> None:
    check_positive(files=config.files, processes=config.processes)
    if not config.artifacts:
        raise InvalidInput("name artifacts to damage.")
    for artifact in config.artifacts:
        if not artifact.is_dir() or model_file(artifact).suffix not in READ:
            raise InvalidInput(f"{artifact} is not the folder of an ONNX, OpenVINO or NCNN artifact.")
    if config.keep is not None:
        check_output_folder(config.keep, "--keep")
    found = {artifact.name: fuzz(artifact, config) for artifact in config.artifacts}
    print(f"| artifact | files | ran | refused | {' | '.join(FAULTS)} |\n|---|---|---|---|---|---|---|")
    for name, outcomes in found.items():
        print(f"| {name} | {config.files} | {' | '.join(str(count) for count in outcomes.counts.values())} |")
    for name, outcomes in found.items():
        for number, text in [*outcomes.faults.items()][:SHOWN]:
            print(f"{name}, file {number}: {text[:500]}")
    counts = {name: outcomes.counts for name, outcomes in found.items()}
    print(json.dumps({"seed": config.seed, "files": config.files, "counts": counts}))
    faults = sum(len(outcomes.faults) for outcomes in found.values())
    if faults:
        raise UserError(f"{faults} files ended in neither a result nor a sentence; --keep FOLDER keeps them.")


def fuzz(artifact: Path, config: FuzzConfig) -> Outcomes:
    """All damaged files of one artifact."""
    with (
        tempfile.TemporaryDirectory() as temporary,
        progress_bar(total=config.files, unit="file", desc=artifact.name) as bar,
    ):
        root = (config.keep or Path(temporary)) / artifact.name
        folders = [root / str(index) for index in range(config.processes)]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        bounds = [config.files * index // config.processes for index in range(config.processes + 1)]
        shares = [range(first, last) for first, last in pairwise(bounds)]
        with ThreadPoolExecutor(config.processes) as pool:
            parts = pool.map(
                lambda folder, cases: run_cases(artifact.resolve(), folder.resolve(), config.seed, cases, bar.update),
                folders,
                shares,
            )
            total = Outcomes()
            for part in parts:
                total.merge(part)
    return total


def main(arguments: Sequence[str] | None = None) -> int:
    return run("python -m benchmarks.fuzz", FuzzConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

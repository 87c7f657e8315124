"""python -m benchmarks.targets: every target in every precision: size, AP and what it loses, frames a second.

Artifacts come from `yolox-deploy export`, with the AP that it measured (`--data`). FPS is that of the runtime alone,
one image on one thread, all artifacts in turn so that the machine's moods strike them alike: compare the ratios. Prints
a Markdown table, AP in points, and ends with one JSON line, AP as fractions.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import tyro

from exporters.sensitivity import SensitivityMap
from runtimes.detector import Detector
from runtimes.errors import InvalidInput
from runtimes.json_file import json_text
from runtimes.load import load, model_file
from runtimes.preprocess import preprocess
from runtimes.spec import ModelSpec
from runtimes.trt_engine import LIBRARIES
from yolox_deploy.accuracy import AccuracyReport
from yolox_deploy.console import run
from yolox_deploy.data.shapes import shapes_images
from yolox_deploy.progress import progress_bar

from .int8_share import INT8_LAYERS, int8_share


@dataclass(frozen=True)
class TargetsConfig:
    """Compare the artifacts that `export` wrote of one model. Speed is relative to ONNX fp32, which must be there."""

    artifacts: Annotated[Path, tyro.conf.Positional]
    """Folder that export wrote the artifacts into."""
    runs: int = 40
    """Timed runs of each artifact."""


@dataclass(frozen=True)
class Row:
    """One artifact. AP and AP_drop: fractions, None where export did not measure them; int8_share None without a map.

    speed, in times ONNX Runtime's in fp32, and milliseconds are None for an engine, whose GPU may not be here; its AP
    is that of the graph that it was built from, where it could not run.
    """

    target: str
    precision: str
    megabytes: float
    AP: float | None
    AP_drop: float | None
    int8_share: float | None
    speed: float | None
    milliseconds: float | None

    def __str__(self) -> str:
        cells = [
            self.target,
            self.precision,
            f"{self.megabytes:.1f}",
            "" if self.AP is None else f"{100 * self.AP:.2f}",
            "" if self.AP_drop is None else f"{round(100 * self.AP_drop, 2) + 0.0:+.2f}",
            "" if self.int8_share is None else f"{self.int8_share:.0%}",
            "" if self.milliseconds is None else f"{1e3 / self.milliseconds:.1f}",
            "" if self.speed is None else f"{self.speed:.2f}x",
        ]
        return f"| {' | '.join(cells)} |"


HEADER = "| target | precision | MB | AP | drop | in int8 | FPS | speed |\n|---|---|---|---|---|---|---|---|"


def find_artifacts(folder: Path) -> list[Path]:
    """All artifacts. Raises `InvalidInput` where ONNX fp32 is not among them."""
    found = sorted(spec.parent for spec in folder.glob("*/spec.json") if not spec.parent.name.startswith("."))
    if not any(artifact.name.endswith("-onnx-fp32") for artifact in found):
        raise InvalidInput(
            f"{folder} holds no ONNX artifact in fp32: export --target onnx --output {folder} writes one."
        )
    return found


def measure_times(detectors: Sequence[Detector], runs: int) -> list[float]:
    """The median time of one image on each detector's runtime, in milliseconds, measured in turn."""
    images = shapes_images(4)
    inputs = [
        [preprocess([image] * (detector.spec.batch or 1), detector.spec)[0] for image in images]
        for detector in detectors
    ]
    times: list[list[float]] = [[] for _ in detectors]
    for turn in progress_bar(range(runs + 3), desc="timing", unit="turn"):
        for detector, batches, seen in zip(detectors, inputs, times, strict=True):
            start = time.perf_counter()
            detector.runtime.infer(batches[turn % len(batches)])
            seen.append((time.perf_counter() - start) * 1e3 / len(batches[0]))
    return [median(seen[3:]) for seen in times]  # the first ones warm up


def describe(artifact: Path, milliseconds: float | None, reference: float) -> Row:
    """The row of one artifact. reference: the milliseconds of ONNX Runtime in fp32."""
    spec = ModelSpec.read(artifact / "spec.json")
    target = artifact.name.removeprefix(f"{spec.name}-").removesuffix(f"-{spec.precision}")
    path = model_file(artifact)
    files = [path, *artifact.glob("*.bin")]
    measured = artifact / "accuracy.json"
    accuracy = AccuracyReport.read(measured) if measured.exists() else None
    share = None
    sensitivity = artifact.parent / f"{spec.name}.sensitivity.json"
    if spec.precision == "int8" and path.suffix in INT8_LAYERS and sensitivity.exists():
        share = int8_share(path, SensitivityMap.from_json(sensitivity.read_text(encoding="utf-8"), str(sensitivity)))
    return Row(
        target=target,
        precision=spec.precision,
        megabytes=sum(file.stat().st_size for file in files) / 1e6,
        AP=None if accuracy is None else accuracy.AP,
        AP_drop=None if accuracy is None else accuracy.AP_drop,
        int8_share=share,
        speed=None if milliseconds is None else reference / milliseconds,
        milliseconds=milliseconds,
    )


def command(config: TargetsConfig) -> None:
    artifacts = find_artifacts(config.artifacts)
    timed = [artifact for artifact in artifacts if model_file(artifact).suffix not in LIBRARIES]
    detectors = [load(artifact, threads=1) for artifact in timed]
    times = dict(zip(timed, measure_times(detectors, config.runs), strict=True))
    for detector in detectors:
        detector.close()
    reference = next(time for artifact, time in times.items() if artifact.name.endswith("-onnx-fp32"))
    rows = [describe(artifact, times.get(artifact), reference) for artifact in artifacts]
    print(HEADER)
    for row in rows:
        print(row)
    print(json_text({"model": detectors[0].spec.name, "rows": [asdict(row) for row in rows]}))


def main(arguments: Sequence[str] | None = None) -> int:
    return run("python -m benchmarks.targets", TargetsConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

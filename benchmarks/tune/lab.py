"""The measurements that a search asks for: exports into a folder, AP on labelled images, times side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from exporters.torch_runtime import TorchRuntime
from runtimes.detector import Detector
from runtimes.errors import UserError
from runtimes.load import load, model_file
from runtimes.preprocess import Image
from runtimes.spec import Precision
from yolox_deploy import export
from yolox_deploy.accuracy import SCORE_THRESHOLD
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.evaluate import evaluate
from yolox_deploy.model.checkpoint import read_checkpoint
from yolox_deploy.model.open import describe

from ..compare.speed import BF16, Contender, SpeedPlan, measure, stream_options, sweep_throughput
from ..machine import warnings
from .search import Build, Size, Way

Aim = Literal["latency", "throughput"]

# Enough to tell what is out of the question, and to tell neighbours apart.
SCREENING, CAREFUL = SpeedPlan(launches=1, rounds=3), SpeedPlan(launches=3, rounds=6)
SCREENING_SECONDS, CAREFUL_SECONDS = 1.0, 3.0


@dataclass
class MachineLab:
    """See `search.Lab`. folder: for the artifacts; log: the file for what exporting them says.

    calibration: folder of images for int8, None for generated ones. cores: what throughput may use. doubts: what made
    times doubtful, in sentences.
    """

    weights: Path
    dataset: Dataset
    images: Sequence[Image]
    calibration: Path | None
    folder: Path
    log: Path
    aim: Aim
    cores: int
    doubts: list[str] = field(default_factory=list)
    _fp32: dict[Size, float] = field(default_factory=dict)
    _asked: set[Build] = field(default_factory=set)

    def fp32_ap(self, size: Size) -> float:
        """That of PyTorch, which every fp32 artifact is proven to equal."""
        if size not in self._fp32:
            checkpoint = read_checkpoint(self.weights)
            trained = describe(checkpoint.build(), checkpoint, input_size=size)
            runtime = TorchRuntime(trained.model, trained.spec)
            self._fp32[size] = 100 * evaluate(Detector(runtime, SCORE_THRESHOLD), self.dataset).AP
        return self._fp32[size]

    def ap(self, build: Build) -> float:
        if build.computes == "fp32":
            return self.fp32_ap(build.size)
        with load(self.artifact(build), score_threshold=SCORE_THRESHOLD, **self._bf16(build)) as detector:
            return 100 * evaluate(detector, self.dataset).AP

    def times(self, ways: Sequence[Way], careful: bool) -> dict[Way, float]:
        self._export({way.build for way in ways})
        ways = [way for way in ways if self.artifact(way.build).exists()]
        return self._latencies(ways, careful) if self.aim == "latency" else self._throughputs(ways, careful)

    def artifact(self, build: Build) -> Path:
        """Where the artifact of a build is, once it was exported."""
        return self.folder / f"{self._name(build.size)}-{build.target}-{_precision(build)}"

    def options(self, way: Way) -> dict[str, Any]:
        """Those of `runtimes.load`."""
        own = stream_options(self.artifact(way.build), way.streams, way.streams * way.threads)
        return {**own, **self._bf16(way.build)}

    def _bf16(self, build: Build) -> dict[str, Any]:
        return BF16[model_file(self.artifact(build)).suffix] if build.computes == "bf16" else {}

    def _name(self, size: Size) -> str:
        return f"{self.weights.stem}-{size[0]}x{size[1]}"

    def _latencies(self, ways: Sequence[Way], careful: bool) -> dict[Way, float]:
        if not ways:
            return {}
        contenders = [Contender(str(way), self.artifact(way.build), self.options(way)) for way in ways]
        speed = measure(contenders, self.images, CAREFUL if careful else SCREENING)
        if careful:
            self.doubts += warnings(speed.loads, speed.drift(contenders[0].name))
        return {way: speed.timings[str(way)].summary("total").p50.value for way in ways}

    def _throughputs(self, ways: Sequence[Way], careful: bool) -> dict[Way, float]:
        """Milliseconds of all cores an image."""
        found: dict[Way, float] = {}
        builds = list(dict.fromkeys(way.build for way in ways))
        for build in tqdm(builds, unit="build", desc="throughput", leave=False):
            contender = Contender(str(build), self.artifact(build), self._bf16(build))
            seconds = CAREFUL_SECONDS if careful else SCREENING_SECONDS
            for one in sweep_throughput(contender, self.images, self.cores, seconds=seconds):
                way = Way(build, one.streams, one.threads)
                if way in ways:
                    found[way] = 1e3 / one.images_per_second
        return found

    def _export(self, builds: set[Build]) -> None:
        """Export what was not asked for before, all of one target and size in one call."""
        precisions: dict[tuple[str, Size], set[Precision]] = {}
        for build in builds - self._asked:
            precisions.setdefault((build.target, build.size), set()).add(_precision(build))
        self._asked |= builds
        for (target, size), wanted in tqdm(sorted(precisions.items()), unit="export", desc="exporting", leave=False):
            config = export.ExportConfig(
                weights=self.weights,
                target=(target,),
                precision=tuple(sorted(wanted)),
                input_size=size,
                name=self._name(size),
                output=self.folder,
                calibration=self.calibration if "int8" in wanted else None,
            )
            try:
                with self._logged():
                    export.command(config)
            except UserError as error:
                self.doubts.append(f"{target} {size[0]}x{size[1]}: {error} See {self.log}.")

    @contextlib.contextmanager
    def _logged(self) -> Iterator[None]:
        """What is printed goes into export.log."""
        with (
            self.log.open("a", encoding="utf-8") as log,
            contextlib.redirect_stdout(log),
            contextlib.redirect_stderr(log),
        ):
            yield


def _precision(build: Build) -> Precision:
    """Of the file: bf16 is computed from fp32."""
    return "int8" if build.computes == "int8" else "fp32"

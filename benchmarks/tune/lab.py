"""The measurements that a search asks for: exports into a folder, AP on labelled images, times side by side."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from exporters.lock import only_here
from exporters.torch_runtime import TorchRuntime
from runtimes.errors import UserError
from runtimes.foreign import Preprocessing
from runtimes.load import load, model_file
from runtimes.preprocess import Image
from runtimes.spec import Precision
from yolox_deploy import export
from yolox_deploy.accuracy import SCORE_THRESHOLD, AccuracyCheck
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.evaluate import evaluate
from yolox_deploy.model.open import open_trained
from yolox_deploy.model.trained_with import NetworkOptions
from yolox_deploy.progress import progress_bar

from ..compare.intervals import Interval
from ..compare.process import Worker
from ..compare.speed import BF16, Contender, SpeedPlan, measure, stream_options, sweep_throughput
from ..machine import warnings
from .search import Build, Size, Way

Aim = Literal["latency", "throughput"]

# Enough to tell what is out of the question, and to tell neighbours apart.
SCREENING, CAREFUL = SpeedPlan(launches=1, rounds=3), SpeedPlan()
VERIFIED_IMAGES = 16  # of each export; AP is measured on all
SCREENING_SECONDS, CAREFUL_SECONDS = 1.0, 3.0


@contextlib.contextmanager
def workbench(output: Path) -> Iterator[Path]:
    """A folder in `output` for what is tried, gone in the end, and so is one that was left when this was killed.

    Raises `InvalidInput` where another search is writing into `output`.
    """
    busy = f"another search is writing into {output}: wait for it, or choose another --output."
    with only_here(output / ".lock", busy):
        for left in output.glob(".tune-*"):
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(dir=output, prefix=".tune-") as folder:
            yield Path(folder)


def artifact_name(weights: Path, size: Size) -> str:
    """Of the model at a size, in its artifacts."""
    return f"{weights.stem}-{size[0]}x{size[1]}"


@dataclass
class MachineLab:
    """See `search.Lab`. folder: for the artifacts; log: the file for what exporting them says.

    calibration: images for int8, None for generated ones. cores: what throughput may use. labelled: the data set as
    `DATA` or `DATA:SPLIT`, whose images artifacts are verified on, None for generated ones. doubts: what made times
    doubtful, in sentences.
    """

    weights: Path
    dataset: Dataset
    images: Sequence[Image]
    calibration: Path | None
    folder: Path
    log: Path
    aim: Aim
    cores: int
    class_names: str | None = None
    preprocessing: Preprocessing | None = None
    network: NetworkOptions = field(default_factory=NetworkOptions)
    labelled: Path | None = None
    doubts: list[str] = field(default_factory=list)
    _fp32: dict[Size, float] = field(default_factory=dict)
    _asked: set[tuple[Size, str, Precision]] = field(default_factory=set)
    _running: dict[Build, bool] = field(default_factory=dict)

    def fp32_ap(self, size: Size) -> float:
        """That of PyTorch, which every fp32 artifact is proven to equal. Raises `InvalidInput` where there is none."""
        if size not in self._fp32:
            trained_with = self.network.with_input(self.preprocessing)
            trained = open_trained(self.weights, trained_with, input_size=size, class_names=self.class_names)
            runtime = TorchRuntime(trained.model, trained.spec)
            self._fp32[size] = AccuracyCheck(runtime, self.dataset, None).reference_ap
        return self._fp32[size]

    def ap(self, build: Build) -> float:
        if build.computes == "fp32":
            return self.fp32_ap(build.size)
        with load(self.artifact(build), score_threshold=SCORE_THRESHOLD, **self._bf16(build)) as detector:
            return evaluate(detector, self.dataset).AP

    def times(self, ways: Sequence[Way], careful: bool) -> dict[Way, Interval]:
        self._export({way.build for way in ways})
        ways = [way for way in ways if self._runs(way)]
        # A short look takes one build after the other: few processes at a time.
        builds = dict.fromkeys(way.build for way in ways)
        groups = [ways] if careful else [[way for way in ways if way.build == build] for build in builds]
        measure_group = self._latencies if self.aim == "latency" else self._throughputs
        found: dict[Way, Interval] = {}
        for group in progress_bar(groups, unit="build", desc="timing", leave=False):
            try:
                found |= measure_group(group, careful) if group else {}
            except UserError as error:
                self.doubts.append(str(error))
        return found

    def _runs(self, way: Way) -> bool:
        """Whether it detects in an image at all."""
        build = way.build
        if build not in self._running:
            self._running[build] = self.artifact(build).exists()
            try:
                if self._running[build]:
                    Worker(self.artifact(build), self.images[:1], self.options(way)).close()
            except UserError as error:
                self.doubts.append(f"{build}: {error}")
                self._running[build] = False
        return self._running[build]

    def artifact(self, build: Build) -> Path:
        """Where the artifact of a build is, once it was exported."""
        return self.folder / f"{self.name(build.size)}-{build.target}-{_precision(build)}"

    def options(self, way: Way) -> dict[str, Any]:
        """Those of `runtimes.load`."""
        own = stream_options(self.artifact(way.build), way.streams, way.streams * way.threads)
        return {**own, **self._bf16(way.build)}

    def _bf16(self, build: Build) -> dict[str, Any]:
        return BF16[model_file(self.artifact(build)).suffix] if build.computes == "bf16" else {}

    def name(self, size: Size) -> str:
        """Of the model at a size, in its artifacts."""
        return artifact_name(self.weights, size)

    def _latencies(self, ways: Sequence[Way], careful: bool) -> dict[Way, Interval]:
        contenders = [Contender(str(way), self.artifact(way.build), self.options(way)) for way in ways]
        speed = measure(contenders, self.images, CAREFUL if careful else SCREENING)
        if careful:
            self._doubt(warnings(speed.loads, speed.drift(contenders[0].name)))
        return {way: speed.timings[str(way)].summary("total").p50 for way in ways}

    def _throughputs(self, ways: Sequence[Way], careful: bool) -> dict[Way, Interval]:
        """Milliseconds of all cores an image."""
        found: dict[Way, Interval] = {}
        for build in dict.fromkeys(way.build for way in ways):
            contender = Contender(str(build), self.artifact(build), self._bf16(build))
            seconds = CAREFUL_SECONDS if careful else SCREENING_SECONDS
            rates, loads = sweep_throughput(contender, self.images, self.cores, seconds=seconds)
            times = {Way(build, one.streams, one.threads): 1e3 / one.images_per_second for one in rates}
            found |= {way: Interval(times[way], times[way], times[way]) for way in ways if way in times}
            if careful:
                self._doubt(warnings(loads, 0))
        return found

    def _doubt(self, found: Sequence[str]) -> None:
        self.doubts += [f"{warning} Tune again on an idle machine before you rely on times." for warning in found[:1]]

    def _export(self, builds: set[Build]) -> None:
        """Export what was not asked for before."""
        files = {(build.size, build.target, _precision(build)) for build in builds} - self._asked
        self._asked |= files
        for size, target, precision in progress_bar(sorted(files), unit="export", desc="exporting", leave=False):
            config = export.ExportConfig(
                weights=self.weights,
                target=(target,),
                precision=(precision,),
                input_size=size,
                name=self.name(size),
                output=self.folder,
                class_names=self.class_names,
                preprocessing=self.preprocessing,
                network=self.network,
                verify_images=self.labelled,
                verify_count=VERIFIED_IMAGES,
                calibration=self.calibration if precision == "int8" else None,
            )
            try:
                with self._logged():
                    export.command(config)
            except UserError as error:
                self.doubts.append(f"{target} {precision} {size[0]}x{size[1]}: {error} See {self.log}.")

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

"""The artifacts that one call of `export` writes, one after the other."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from torch import nn
from tqdm import tqdm

from exporters.artifact import Artifact, write_artifact
from exporters.options import ExportOptions
from exporters.sensitivity import SensitivityMap
from runtimes.errors import UserError, first_line
from runtimes.preprocess import Image
from runtimes.spec import ModelSpec

from .accuracy import AccuracyCheck
from .int8 import sensitivity_map, write_int8

SHOWN_LAYERS = 8

# Fewer than these prove little.
FEW_DETECTIONS = 10


@dataclass(frozen=True)
class Jobs:
    """What all the artifacts have in common."""

    model: nn.Module
    spec: ModelSpec  # of the checkpoint
    output: Path
    images: Sequence[Image]
    options: ExportOptions
    accuracy: AccuracyCheck | None

    def write_all(self, specs: Sequence[tuple[str, ModelSpec]]) -> None:
        """Write an artifact for each target and spec. Where there are several, one that fails does not stop the others.

        Raises `UserError` in the end where one failed, whatever its toolchain raised.
        """
        failed = 0
        for target, spec in specs:
            height, width = spec.input_size
            batch = spec.batch or "dynamic"
            print(f"{spec.name} -> {target} {spec.precision}, {height}x{width}, batch {batch}", flush=True)
            try:
                show(self.write(target, spec))
            except Exception as error:  # the toolchains have no common base class for what they raise
                known = isinstance(error, UserError)
                if len(specs) == 1 and known:
                    raise
                what = first_line(error) if known else f"{type(error).__name__}: {first_line(error)}"
                print(f"error: {target} {spec.precision}: {what}", file=sys.stderr)
                failed += 1
        if failed:
            raise UserError(f"{failed} of {len(specs)} artifacts were not written.")

    def write(self, target: str, spec: ModelSpec) -> Artifact:
        if spec.precision != "int8":
            return self._write(target, spec, self.options)

        def write(floats: frozenset[str]) -> Artifact:
            return self._write(target, spec, replace(self.options, float_layers=floats))

        return write_int8(write, self.sensitivity)

    def _write(self, target: str, spec: ModelSpec, options: ExportOptions) -> Artifact:
        return write_artifact(
            self.model, spec, target, self.output, self.images, options, progress=comparing, accept=self.accuracy
        )

    @cached_property
    def sensitivity(self) -> SensitivityMap:
        file = self.output / f"{self.spec.name}.sensitivity.json"
        found = sensitivity_map(self.model, self.spec, self.options.calibration, file)
        lines = str(found).splitlines()
        print("\n".join([*lines[: SHOWN_LAYERS + 1], f"... all {len(found.layers)} layers: {file}"]), flush=True)
        return found


def show(artifact: Artifact) -> None:
    print(f"{artifact.report}\n{artifact.model}", flush=True)
    if artifact.report.note:
        print(f"note: {artifact.report.note}")
    if artifact.report.detections < FEW_DETECTIONS:
        print(
            f"note: only {artifact.report.detections} detections were there to compare beside the tensors;"
            " --verify-images DIR with images of your own objects proves more."
        )


def comparing(images: Sequence[Image]) -> Iterable[Image]:
    bar: Iterable[Image] = tqdm(images, unit="image", desc="comparing")
    return bar

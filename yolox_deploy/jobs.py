"""The artifacts that one call of `export` writes, one after the other."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from exporters.artifact import MODEL_FILES, Artifact, artifact_folder, write_artifact
from exporters.options import ExportOptions
from exporters.replacement import present
from exporters.sensitivity import SensitivityMap
from runtimes.errors import UserError, first_line
from runtimes.preprocess import Image
from runtimes.spec import ModelSpec

from .accuracy import AccuracyCheck
from .files import read_text
from .int8 import Calibration, sensitivity_map, write_int8
from .json_output import NotPassed
from .progress import progress_bar
from .verification import GivenImages

SHOWN_LAYERS = 8

# Fewer than these say little.
FEW_DETECTIONS = 10


@dataclass(frozen=True)
class Jobs:
    """What is to be written, and what the artifacts have in common. specs: of each, with its target.

    verification: the images that all are verified on; in a dry run, those among which `verify_count` are chosen.
    calibration: what int8 is calibrated on, None without int8. notes: what the user should know of the checkpoint.
    """

    model: nn.Module
    spec: ModelSpec  # of the checkpoint
    output: Path
    verification: GivenImages
    verify_count: int
    calibration: Calibration | None
    options: ExportOptions
    accuracy: AccuracyCheck | None
    specs: Sequence[tuple[str, ModelSpec]]
    notes: Sequence[str] = ()

    def planned(self) -> list[dict[str, Any]]:
        """Each artifact, as a dict, before it is written. replaces: whether one of the same name is there."""
        folders = [artifact_folder(self.output, spec, target, only_look=True) for target, spec in self.specs]
        return [
            {
                "target": target,
                "precision": spec.precision,
                "input_size": spec.input_size,
                "batch": spec.batch,
                "folder": str(folder),
                "replaces": present(folder) is not None,
            }
            for (target, spec), folder in zip(self.specs, folders, strict=True)
        ]

    def images_used(self) -> dict[str, Any]:
        """What is verified and calibrated on, and what is to be said of it, for `--json`."""
        verified = {"images": min(len(self.verification), self.verify_count), "source": self.verification.source}
        found = self.calibration
        return {
            "verification": verified,
            "calibration": None if found is None else {"images": len(found), "source": found.source},
            "warnings": [*self.notes, *([found.warning] if found is not None and found.warning else [])],
        }

    def __str__(self) -> str:
        """What would be done, a line an artifact."""
        planned = self.planned()
        replacing = {True: " (replaces what is there)", False: ""}
        lines = [f"{one['target']} {one['precision']}: {one['folder']}{replacing[one['replaces']]}" for one in planned]
        used = self.images_used()
        lines.append(f"each verified on {used['verification']['images']} images of {self.verification.source}")
        if self.calibration is not None:
            lines.append(f"int8 calibrated on {len(self.calibration)} images of {self.calibration.source}")
        if self.accuracy is not None:
            data, drop = self.accuracy.dataset, self.accuracy.max_drop
            limit = "" if drop is None else f"; {drop:g} points may be lost"
            lines.append(f"AP on {len(data)} images of {data.source}{limit}")
        return "\n".join(
            [f"dry run, nothing is written. {subject(self.specs[0][1])}:", *(f"  {line}" for line in lines)]
        )

    def write_all(self) -> dict[str, Any]:
        """Write all the artifacts. Where there are several, one that fails does not stop the others.

        Returns what became of each, for `--json`. Raises `NotPassed` in the end where one failed, whatever its
        toolchain raised.
        """
        results, sentences = [], []
        if self.calibration is not None:
            print(f"int8 is calibrated on {len(self.calibration)} images of {self.calibration.source}", flush=True)
        for (target, spec), planned in zip(self.specs, self.planned(), strict=True):
            print(title(target, spec), flush=True)
            start = time.perf_counter()
            try:
                artifact = self.write(target, spec)
                show(artifact)
                outcome = found(artifact)
            except Exception as error:  # the toolchains have no common base class for what they raise
                known = isinstance(error, UserError)
                if len(self.specs) == 1 and not known:
                    raise
                what = first_line(error) if known else f"{type(error).__name__}: {first_line(error)}"
                outcome = {"passed": False, "error": what}
                sentences.append(str(error))
                if len(self.specs) > 1:
                    print(f"error: {target} {spec.precision}: {what}", file=sys.stderr)
            results.append({**planned, "error": None, **outcome, "seconds": time.perf_counter() - start})
        everything = {"artifacts": results, **self.images_used()}
        if sentences:
            several = f"{len(sentences)} of {len(self.specs)} artifacts were not written."
            several = several if len(self.specs) > 1 else sentences[0]
            raise NotPassed(several, everything)
        return everything

    def write(self, target: str, spec: ModelSpec) -> Artifact:
        if spec.precision != "int8":
            return self._write(target, spec, self.options)

        def write(floats: frozenset[str]) -> Artifact:
            return self._write(target, spec, replace(self.options, float_layers=floats))

        return write_int8(write, self.sensitivity)

    def _write(self, target: str, spec: ModelSpec, options: ExportOptions) -> Artifact:
        return write_artifact(
            self.model,
            spec,
            target,
            self.output,
            self.verification.images,
            options,
            progress=comparing,
            accept=self.accuracy,
            source=self.verification.source,
        )

    @cached_property
    def sensitivity(self) -> SensitivityMap:
        file = self.output / f"{self.spec.name}.sensitivity.json"
        found = sensitivity_map(self.model, self.spec, self.options.calibration, file)
        lines = str(found).splitlines()
        print("\n".join([*lines[: SHOWN_LAYERS + 1], f"... all {len(found.layers)} layers: {file}"]), flush=True)
        return found


def title(target: str, spec: ModelSpec) -> str:
    height, width = spec.input_size
    return f"{spec.name} -> {target} {spec.precision}, {height}x{width}, batch {spec.batch or 'dynamic'}"


def subject(spec: ModelSpec) -> str:
    height, width = spec.input_size
    return f"{spec.name}, {height}x{width}, batch {spec.batch or 'dynamic'}"


def found(artifact: Artifact) -> dict[str, Any]:
    """What there is to say of an artifact that was written. parity, accuracy: what its files of that name hold."""
    files = [file for file in artifact.folder.iterdir() if file.name in MODEL_FILES]
    accuracy = artifact.folder / "accuracy.json"
    return {
        "passed": True,
        "model": str(artifact.model),
        "bytes": sum(file.stat().st_size for file in files),
        "parity": {"passed": bool(artifact.report), **asdict(artifact.report)},
        "accuracy": json.loads(read_text(accuracy)) if accuracy.exists() else None,
    }


def show(artifact: Artifact) -> None:
    print(f"{artifact.report}\n{artifact.model}", flush=True)
    if artifact.report.note:
        print(f"note: {artifact.report.note}")
    if artifact.report.too_few:
        print(f"note: {artifact.report.too_few_note()}: --verify-images DIR with images of your own objects.")
    elif artifact.report.detections < FEW_DETECTIONS:
        print(
            f"note: only {artifact.report.detections} detections were there to compare beside the tensors;"
            " --verify-images DIR with images of your own objects says more."
        )


def comparing(images: Sequence[Image]) -> Iterable[Image]:
    bar: Iterable[Image] = progress_bar(images, unit="image", desc="comparing")
    return bar

"""From a model to a proven artifact: written beside, loaded afresh, compared, and only then moved into place."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from runtimes.errors import InvalidInput
from runtimes.load import load
from runtimes.preprocess import Image
from runtimes.spec import ModelSpec

from .options import ExportOptions
from .parity import ParityError, ParityReport, StageCheck, Tolerance, compare
from .targets import EXPORTERS
from .torch_runtime import TorchRuntime

ARTIFACT_FILES = {"model.onnx", "spec.json", "parity.json"}


@dataclass(frozen=True)
class Artifact:
    """A folder with a model file, `spec.json` and `parity.json`, proven against its reference."""

    folder: Path
    model: Path
    report: ParityReport


def artifact_folder(output: Path, spec: ModelSpec, target: str) -> Path:
    """Where an artifact goes: `output/yolox-nano-onnx-fp32`. Raises `InvalidInput` where that holds other files."""
    folder = output / f"{spec.name}-{target}-{spec.precision}"
    if folder.exists():
        others = (
            sorted(file.name for file in folder.iterdir() if file.name not in ARTIFACT_FILES)
            if folder.is_dir()
            else [folder.name]
        )
        if others:
            raise InvalidInput(
                f"{folder} holds {others[0]}, which is not part of an artifact; choose another --output."
            )
    return folder


def write_artifact(
    model: nn.Module,
    spec: ModelSpec,
    target: str,
    output: Path,
    images: Sequence[Image],
    options: ExportOptions | None = None,
    tolerance: Tolerance | None = None,
    progress: Callable[[Sequence[Image]], Iterable[Image]] = iter,
) -> Artifact:
    """Export `model`, prove it on `images` (BGR uint8, at least one) and return the artifact.

    An older artifact of the same name is replaced only once the new one is proven. Raises `ParityError` where it is
    not, `InvalidInput` and `MissingBackend` before any work.
    """
    folder = artifact_folder(output, spec, target)
    exporter = EXPORTERS[target]()
    reference = TorchRuntime(model, spec)
    workshop = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(workshop, ignore_errors=True)
    workshop.mkdir(parents=True)
    try:
        check = StageCheck(reference, spec, images)
        path = exporter(model, spec, workshop, options or ExportOptions(), check)
        with load(path) as candidate:
            report = compare(reference, candidate.runtime, images, tolerance, check.stages, progress)
        if not report:
            raise ParityError(folder.name, report)
        (workshop / "spec.json").write_text(spec.to_json(), encoding="utf-8")
        (workshop / "parity.json").write_text(report.to_json(), encoding="utf-8")
        replace_folder(workshop, folder)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return Artifact(folder, folder / path.name, report)


def replace_folder(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`. A folder cannot be replaced in one step: the old one steps aside first."""
    old = folder.with_name(f".{folder.name}.old")
    if folder.exists():  # else an earlier replacement was interrupted, and `old` is all there is until the last step
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    try:
        new.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)

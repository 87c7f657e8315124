"""From a model to a proven artifact: written beside, loaded afresh, compared, and only then moved into place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from runtimes.detector import Detector
from runtimes.errors import InvalidInput, MissingBackend
from runtimes.load import load
from runtimes.preprocess import Image
from runtimes.proof import RECORD, proven_files
from runtimes.spec import ModelSpec

from .options import ExportOptions
from .parity import StageCheck, compare
from .replacement import files_below, only_writer, present, remove, replace_folder, settle, tidy, workshop
from .report import TOLERANCES, ParityError, ParityReport, Tolerance
from .targets import EXPORTERS
from .torch_runtime import TorchRuntime

MODEL_FILES = {"model.onnx", "model.xml", "model.bin", "model.param", "model.engine", "model.rtx", "engine.json"}
ARTIFACT_FILES = MODEL_FILES | {"spec.json", "parity.json", "accuracy.json", "int8.json"}
# Of the target web, besides.
PAGE_FILES = {"index.html", "style.css", "icon.svg", "isolation.js", "ort", "kit"}
PAGE_FILES |= {"page.mjs", "model.mjs", "yolox.mjs", "kit.mjs"}


@dataclass(frozen=True)
class Artifact:
    """A folder with a model file, `spec.json` and `parity.json`, proven against its reference."""

    folder: Path
    model: Path
    report: ParityReport


def artifact_folder(output: Path, spec: ModelSpec, target: str, only_look: bool = False) -> Path:
    """Where an artifact goes: `output/yolox-nano-onnx-fp32`, put in order if the last export of it was killed.

    only_look: nothing is changed. Raises `InvalidInput` where it holds other files, or is being written.
    """
    folder = output / f"{spec.name}-{target}-{spec.precision}"
    if not only_look:
        tidy(folder)
    here = present(folder)
    if here is not None:
        known = ARTIFACT_FILES | (PAGE_FILES if target == "web" else set())
        others = (
            sorted(file.name for file in here.iterdir() if file.name not in known) if here.is_dir() else [here.name]
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
    accept: Callable[[Detector, Path, str], None] | None = None,
    source: str = "",
) -> Artifact:
    """Export `model`, prove it on `images` (BGR uint8, at least one) and return the artifact.

    The tolerance defaults to that of the spec's precision. `accept` is called last, with the loaded artifact, its
    folder and what could not be proven on this machine, and may raise a `UserError` to refuse it. source: where the
    images are from, for the report. An older artifact of
    the same name is replaced only once the new one is proven; whenever this is killed, the one or the other stands (see
    `exporters.replacement`). Raises `ParityError` where it is not proven; before any work, `MissingBackend` and
    `InvalidInput`, the latter also where another process is writing the artifact.
    """
    options = options or ExportOptions()
    folder = artifact_folder(output, spec, target)
    exporter = EXPORTERS[target]()
    check_options(spec, options)
    exporter.check(spec, options)
    reference = TorchRuntime(model, spec)
    part = workshop(folder)
    with only_writer(folder):
        settle(folder)
        part.mkdir(parents=True)
        try:
            check = StageCheck(reference, spec, images)
            (part / "spec.json").write_text(spec.to_json(), encoding="utf-8")
            path = exporter.export(model, spec, part, options, check)
            candidate, note = open_to_prove(path)
            with candidate:
                limits = tolerance or TOLERANCES[spec.precision]
                report = compare(reference, candidate.runtime, images, limits, check.stages, progress)
                report = replace(report, note=note, source=source)
                if not report:
                    raise ParityError(folder.name, report)
                if accept is not None:
                    accept(candidate, part, note)
            if spec.precision == "int8":
                record = {"float_layers": sorted(options.float_layers), "calibration_images": len(options.calibration)}
                (part / "int8.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            (part / RECORD).write_text(report.to_json(proven_files(part)), encoding="utf-8")
            lost = sorted(files_below(folder) - files_below(part) - ARTIFACT_FILES)
            if lost:
                raise InvalidInput(f"{folder} holds {lost[0]}, which would be lost; choose another --output.")
            replace_folder(part, folder)
        finally:
            remove(part)
    return Artifact(folder, folder / path.name, report)


def check_options(spec: ModelSpec, options: ExportOptions) -> None:
    """Raise `InvalidInput` for what no target can do."""
    if spec.precision == "int8" and not len(options.calibration):
        raise InvalidInput("int8 needs calibration images, some hundred like those that the model will see.")


def open_to_prove(path: Path) -> tuple[Detector, str]:
    """Load a model file, or the ONNX file that it was compiled from where it cannot run on this machine.

    Returns what that leaves unproven, in words, as second.
    """
    try:
        return load(path), ""
    except MissingBackend as error:
        source = path.with_name("model.onnx")
        if path == source or not source.exists():
            raise
        return load(source), f"{path.name} was compiled, but not run; model.onnx in its place: {error}"

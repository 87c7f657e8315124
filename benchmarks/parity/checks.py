"""The questions that `benchmarks.parity` asks of an artifact, each answered on its own."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from exporters.parity import compare
from exporters.report import TOLERANCES, ParityReport
from runtimes.detector import Detector
from runtimes.errors import MissingBackend, UserError
from runtimes.load import load, model_file
from runtimes.preprocess import Image
from runtimes.runtime import Runtime
from runtimes.spec import ModelSpec
from yolox_deploy.options import ForeignOptions, third_party_options

Result = Literal["passed", "failed", "skipped"]

# Fields of a spec that change what comes out, or what it means.
MEANING = ("input_size", "class_names", "category_ids", "strides", "channel_order", "normalization", "pad_value")

# The figures of a `ParityReport` that each check is about: those of the detections, and all other errors.
_DETECTIONS = {
    "detections": ("missed", "extra"),
    "boxes": ("box_error", "mean_box_error"),
    "scores": ("score_error", "mean_score_error"),
}
_ERRORS = {one.name for one in fields(ParityReport) if one.name.endswith("_error")}
FIGURES = {"tensors": tuple(sorted(_ERRORS.difference(*_DETECTIONS.values()))), **_DETECTIONS}

FEW_DETECTIONS = 20


@dataclass(frozen=True)
class Check:
    """A question and its answer. message: why it failed, or was skipped."""

    name: str
    result: Result = "passed"
    message: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Examined:
    """One artifact with its checks, in order. precision is empty, and report None, where it did not come so far."""

    artifact: str
    checks: tuple[Check, ...]
    precision: str = ""
    report: ParityReport | None = None
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return all(check.result != "failed" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. A figure that is infinite becomes None, as JSON knows no such number."""
        return {
            "artifact": self.artifact,
            "precision": self.precision,
            "passed": bool(self),
            "checks": [asdict(check) for check in self.checks],
            "figures": {} if self.report is None else figures(self.report),
            "notes": list(self.notes),
        }


def figures(report: ParityReport) -> dict[str, float | None]:
    """Every number of a report, by name."""
    numbers = {name: value for name, value in vars(report).items() if isinstance(value, int | float)}
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def examine(
    artifact: Path,
    reference: Runtime,
    images: Sequence[Image],
    skip_missing: bool = False,
    foreign: ForeignOptions | None = None,
) -> Examined:
    """Load an artifact and ask everything.

    skip_missing: whether a backend that is not on this machine is no failure. foreign: what a third-party file does not
    say of itself. Nothing that is wrong with the artifact raises.
    """
    start = time.perf_counter()
    try:
        detector = load(artifact, **third_party_options(artifact, foreign or ForeignOptions()))
    except (UserError, OSError) as error:
        result: Result = "skipped" if skip_missing and isinstance(error, MissingBackend) else "failed"
        return Examined(str(artifact), (Check("load", result, str(error), time.perf_counter() - start),))
    loaded = Check("load", seconds=time.perf_counter() - start)
    with detector:
        spec, checks = check_spec(detector.spec, reference.spec, artifact), [loaded]
        numbers, report = check_numbers(detector, reference, images)
    notes = [*spec_notes(detector.spec, reference.spec), *report_notes(report)]
    return Examined(str(artifact), (*checks, spec, *numbers), detector.spec.precision, report, tuple(notes))


def check_spec(spec: ModelSpec, reference: ModelSpec, artifact: Path) -> Check:
    """What no number shows: whether the artifact's spec says of the model what the reference's says."""
    start = time.perf_counter()
    wrong = [difference(name, getattr(spec, name), getattr(reference, name)) for name in MEANING]
    if spec.source_sha256 and reference.source_sha256 and spec.source_sha256 != reference.source_sha256:
        wrong.append(
            f"it was made from another checkpoint ({spec.source_sha256[:12]}, not {reference.source_sha256[:12]})"
        )
    wrong.append(_beside(spec, artifact))
    message = "; ".join(sentence for sentence in wrong if sentence)
    return Check("spec", "failed" if message else "passed", message, time.perf_counter() - start)


def _beside(spec: ModelSpec, artifact: Path) -> str:
    """What is wrong with the copy of the spec in `spec.json`, for apps that read that one; "" if nothing is."""
    beside = model_file(artifact).with_name("spec.json")
    if not beside.exists():
        return ""
    try:
        copy = asdict(ModelSpec.read(beside))
    except UserError as error:
        return str(error)
    wrong = next((name for name, value in asdict(spec).items() if copy[name] != value), None)
    return f"spec.json says another {wrong} than the model file" if wrong else ""


def difference(name: str, found: object, wanted: object) -> str:
    """How a field of a spec differs from the reference's, in words; "" where it does not."""
    if found == wanted:
        return ""
    if name in ("class_names", "category_ids") and isinstance(found, tuple) and isinstance(wanted, tuple):
        if len(found) != len(wanted):
            return f"there are {len(found)} {name}, not {len(wanted)}"
        places = [index for index in range(len(found)) if found[index] != wanted[index]]
        first = places[0]
        return f"{len(places)} of {len(found)} {name} differ: class {first} is {found[first]!r}, not {wanted[first]!r}"
    if name == "input_size" and isinstance(found, tuple):
        height, width = found
        return f"{name} is {found!r}, not {wanted!r}: a checkpoint runs at that size with --input-size {height} {width}"
    return f"{name} is {found!r}, not {wanted!r}"


def check_numbers(
    detector: Detector, reference: Runtime, images: Sequence[Image]
) -> tuple[list[Check], ParityReport | None]:
    """Run both on the images, and ask of each kind of figure whether it is within the precision's tolerance."""
    spec, start = detector.spec, time.perf_counter()
    if (spec.num_anchors, spec.num_classes) != (reference.spec.num_anchors, reference.spec.num_classes):
        reason = "the reference gives an output of another shape: see spec"
        return [Check(name, "skipped", reason) for name in FIGURES], None
    try:
        report = compare(reference, detector.runtime, images, TOLERANCES[spec.precision])
    except (UserError, OSError) as error:
        return [Check("run", "failed", str(error), time.perf_counter() - start)], None
    ran = Check("run", seconds=time.perf_counter() - start)
    return [ran, *(check_figures(name, report) for name in FIGURES)], report


def check_figures(name: str, report: ParityReport) -> Check:
    """The report's verdict on the figures of one check alone: all others count as perfect."""
    figures_of_others = (figure for other, own in FIGURES.items() if other != name for figure in own)
    others: dict[str, Any] = {figure: 0 for figure in figures_of_others if getattr(report, figure) is not None}
    problem = replace(report, **others).problem()
    if problem is not None:
        return Check(name, "failed", problem)
    if name == "tensors" and report.tensor_error is None:
        return Check(name, "skipped", "with NMS in the graph there are no tensors to compare")
    if name != "tensors" and report.detections == 0:
        return Check(name, "skipped", "the reference detects nothing in these images")
    if name != "tensors" and report.too_few:
        return Check(name, "skipped", report.too_few_note())
    return Check(name)


def spec_notes(spec: ModelSpec, reference: ModelSpec) -> list[str]:
    """What the specs leave open."""
    notes = []
    if not spec.source_sha256 or not reference.source_sha256:
        whose = "artifact" if not spec.source_sha256 else "reference"
        notes.append(f"the {whose} does not say which checkpoint it was made from: only the figures prove it.")
    if reference.precision != "fp32":
        notes.append(f"the reference is itself {reference.precision}: an fp32 one proves more.")
    return notes


def report_notes(report: ParityReport | None) -> list[str]:
    """What the figures leave open."""
    if report is not None and report.too_few:
        return [f"{report.too_few_note()}, so all anchors decide: --images DIR with images of your own objects."]
    if report is None or report.detections >= FEW_DETECTIONS:
        return []
    seen = f"{report.images} images, {report.detections} detections of the reference"
    return [f"few to compare ({seen}): --images DIR with images of your own objects says more."]

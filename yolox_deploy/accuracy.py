"""AP of artifacts against their checkpoint's, on labelled data, and a limit to what may be lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from runtimes.detector import Detector
from runtimes.errors import InvalidInput, UserError
from runtimes.json_file import json_text, read_json_object
from runtimes.runtime import Runtime

from .data.dataset import Dataset
from .evaluate import evaluate
from .files import write_text

NOTED_DROP = 0.3  # points of AP: more than that is not what a user expects
SCORE_THRESHOLD = 0.001  # COCO's AP counts all detections


class AccuracyLost(UserError):
    """An artifact's AP is further below its reference's than allowed."""


@dataclass(frozen=True)
class AccuracyReport:
    """AP (IoU 0.50:0.95) as fractions; `accuracy.json` in the artifact. Printed in points, 0 to 100.

    AP_drop: how far AP is below the reference's. note: what was run in its place. warnings: of `class_warnings`.
    """

    AP: float
    reference_AP: float
    AP_drop: float
    images: int
    note: str = ""
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        drop = round(100 * self.AP_drop, 2) + 0.0  # no -0.00
        ap, reference = 100 * self.AP, 100 * self.reference_AP
        return f"AP {ap:.2f}, PyTorch {reference:.2f}, drop {drop:.2f} ({self.images} images)"

    @classmethod
    def read(cls, file: Path) -> AccuracyReport:
        """Read an `accuracy.json`, also one of earlier versions: ap, reference_ap and drop in points."""
        content = read_json_object(file)
        names, unit = ("AP", "reference_AP", "AP_drop"), 1
        if "ap" in content:
            names, unit = ("ap", "reference_ap", "drop"), 100
        try:
            ap, reference, drop = (float(content[name]) / unit for name in names)
            warnings = tuple(content.get("warnings", ()))
            return cls(ap, reference, drop, content["images"], content.get("note", ""), warnings)
        except (KeyError, TypeError, ValueError):
            raise InvalidInput(f"{file} is not what export writes of an artifact's AP.") from None


class AccuracyCheck:
    """Measures artifacts on one data set; `max_drop` in points of AP, None to measure only. warnings: for its files."""

    def __init__(
        self, reference: Runtime, dataset: Dataset, max_drop: float | None, warnings: Sequence[str] = ()
    ) -> None:
        self.reference, self.dataset, self.max_drop = reference, dataset, max_drop
        self.warnings = tuple(warnings)

    @cached_property
    def reference_ap(self) -> float:
        """AP of the reference. Raises `InvalidInput` where it finds nothing itself: then nothing can be lost."""
        found = self._ap(self.reference)
        if not found > 0:
            raise InvalidInput(
                f"the checkpoint itself has no AP on {self.dataset.source}: the labels are missing or not of its"
                " classes, or --preprocessing is wrong."
            )
        return found

    def __call__(self, detector: Detector, folder: Path, note: str = "") -> None:
        """Measure, and note it in the artifact's folder. Raises `AccuracyLost`."""
        ap = self._ap(detector.runtime)
        lost = self.reference_ap - ap
        report = AccuracyReport(ap, self.reference_ap, lost, len(self.dataset), note, self.warnings)
        print(report, flush=True)
        points = round(100 * lost, 6)  # so that 0.3 is not more than 0.3
        if self.max_drop is not None and not points <= self.max_drop:
            raise AccuracyLost(
                f"{folder.name.strip('.').removesuffix('.part')}: {report}; {self.max_drop:g} are allowed."
            )
        if self.max_drop is None and points > NOTED_DROP:
            print(f"note: --max-ap-drop {NOTED_DROP:g} refuses such a loss; int8 then gets more layers in float.")
        write_text(folder / "accuracy.json", json_text(asdict(report), indent=2) + "\n")

    def _ap(self, runtime: Runtime) -> float:
        return evaluate(Detector(runtime, SCORE_THRESHOLD), self.dataset).AP

"""AP of artifacts against their checkpoint's, on labelled data, and a limit to what may be lost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from runtimes.detector import Detector
from runtimes.errors import InvalidInput, UserError
from runtimes.json_file import json_text
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
    """AP (IoU 0.50:0.95) in points, 0 to 100; `accuracy.json` in the artifact. note: what was run in its place."""

    ap: float
    reference_ap: float
    drop: float
    images: int
    note: str = ""

    def __str__(self) -> str:
        drop = round(self.drop, 2) + 0.0  # no -0.00
        return f"AP {self.ap:.2f}, PyTorch {self.reference_ap:.2f}, drop {drop:.2f} ({self.images} images)"


class AccuracyCheck:
    """Measures artifacts on one data set; `max_drop` in points of AP, None to measure only."""

    def __init__(self, reference: Runtime, dataset: Dataset, max_drop: float | None) -> None:
        self.reference, self.dataset, self.max_drop = reference, dataset, max_drop

    @cached_property
    def reference_ap(self) -> float:
        """Raises `InvalidInput` where the checkpoint itself finds nothing: then nothing can be lost."""
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
        report = AccuracyReport(ap, self.reference_ap, self.reference_ap - ap, len(self.dataset), note)
        print(report, flush=True)
        if self.max_drop is not None and not report.drop <= self.max_drop:
            raise AccuracyLost(
                f"{folder.name.strip('.').removesuffix('.part')}: {report}; {self.max_drop:g} are allowed."
            )
        if self.max_drop is None and report.drop > NOTED_DROP:
            print(f"note: --max-ap-drop {NOTED_DROP:g} refuses such a loss; int8 then gets more layers in float.")
        write_text(folder / "accuracy.json", json_text(asdict(report), indent=2) + "\n")

    def _ap(self, runtime: Runtime) -> float:
        return 100 * evaluate(Detector(runtime, SCORE_THRESHOLD), self.dataset).AP

"""ParityReport: what a comparison found, and what is tolerated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from runtimes.errors import UserError
from runtimes.json_file import json_text
from runtimes.spec import Precision


@dataclass(frozen=True)
class Tolerance:
    """How far an artifact may be from its reference. None: measured, but not limited.

    tensor: any output value, relative to `max(1, |reference|)`. mean: the mean of all of them. box: pixels of the
    original image. score: absolute. mean_box, mean_score: the means, over the detections that both sides have, of
    1 - IoU and of the score's difference. min_score: detections from this confidence on are compared. alone_score: from
    this one on, a detection that only one side has counts as missed or extra. alone_share: how many may, as a share of
    all detections of both sides from alone_score on. anchor_box, anchor_score: of all anchors, where there are too few
    detections to judge by (see `ParityReport.too_few`).
    """

    tensor: float | None = 2e-2
    mean: float | None = 1e-4
    box: float | None = 0.05
    score: float | None = 1e-3
    mean_box: float = 0.01
    mean_score: float = 1e-4
    min_score: float = 0.01
    alone_score: float = 0.05
    alone_share: float = 0.0
    anchor_box: float | None = None
    anchor_score: float | None = None

    @property
    def least_confident(self) -> int:
        """How many detections, of both sides together, it takes for their shares and means to decide; 0: any number.

        One object whose two detections do not pair is one missed and one extra: fewer than 2 / alone_share detections
        cannot tell that from more than the share.
        """
        return math.ceil(2 / self.alone_share) if self.alone_share else 0


# What is promised of each precision. fp32 is the same model; the others are close ones, and their AP is what counts.
# anchor_box and anchor_score were measured on YOLOX-Nano: sound files reach 0.07 and 0.36 in int8, calibrated on 8
# images, and 0.002 and 0.015 in fp16. With the weights of one convolution shuffled, 97 of its 113 go beyond those of
# int8 on generated images, and 89 on photos; nearly all others serve the classes or the boxes of one stride alone.
TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(),
    "fp16": Tolerance(
        tensor=None,
        mean=1e-2,
        box=None,
        score=None,
        mean_box=0.02,
        mean_score=0.01,
        min_score=0.1,
        alone_score=0.3,
        alone_share=0.05,
        anchor_box=0.02,
        anchor_score=0.1,
    ),
    "int8": Tolerance(
        tensor=None,
        mean=1e-1,
        box=None,
        score=None,
        mean_box=0.1,
        mean_score=0.08,
        min_score=0.1,
        alone_score=0.3,
        alone_share=0.1,
        anchor_box=0.15,
        anchor_score=0.5,
    ),
}


@dataclass(frozen=True)
class Stage:
    """One step on the way to the file: the largest output difference to the reference that it leaves, and may leave."""

    name: str
    tensor_error: float
    limit: float | None = None


@dataclass(frozen=True)
class ParityReport:
    """What `compare` found. True when everything is within the tolerance.

    missed and extra: detections of one side alone, from the tolerance's alone_score on, of which there are `confident`
    on both sides together. tied: those that the other side computed as well, but did not choose between equals. Errors
    are the largest seen, or the mean; those of the output are None with NMS in the graph, where there is none to
    compare. note: what the comparison could not cover on this machine. source: where the images are from. The anchor
    errors are over all anchors, each weighted by the score that the reference gives it, None with NMS or TopK in the
    graph: the mean of 1 - IoU, and the sum of the scores' differences over the sum of both sides' scores.
    """

    tolerance: Tolerance
    images: int
    detections: int  # of the reference
    confident: int
    missed: int
    extra: int
    tied: int
    box_error: float
    score_error: float
    mean_box_error: float
    mean_score_error: float
    tensor_error: float | None
    mean_error: float | None
    stages: tuple[Stage, ...] = field(default=())
    note: str = ""
    source: str = ""
    anchor_box_error: float | None = None
    anchor_score_error: float | None = None

    def __bool__(self) -> bool:
        return self.problem() is None

    def broken_stage(self) -> Stage | None:
        """The first step of the export that changes more than it may."""
        return next((stage for stage in self.stages if _beyond(stage.tensor_error, stage.limit)), None)

    @property
    def too_few(self) -> bool:
        """Whether there are too few detections for their shares and means to decide: then the anchors do."""
        return self.anchor_box_error is not None and self.confident < self.tolerance.least_confident

    def too_few_note(self) -> str:
        """What that means, in words; "" where there are enough."""
        if not self.too_few:
            return ""
        return (
            f"too few detections ({self.confident} of both sides from score {self.tolerance.alone_score:g} on,"
            f" {self.tolerance.least_confident} are needed) to judge by them"
        )

    def problem(self) -> str | None:
        """The first thing beyond the tolerance, in words; None where all is well."""
        limit, stage = self.tolerance, self.broken_stage()
        if stage is not None:
            return f"{stage.name} changes the output by {stage.tensor_error:.2g} (tolerance {stage.limit})"
        if self.tensor_error is not None and _beyond(self.tensor_error, limit.tensor):
            return f"the loaded file's output differs by {self.tensor_error:.2g} (tolerance {limit.tensor})"
        if self.mean_error is not None and _beyond(self.mean_error, limit.mean):
            return f"the loaded file's output differs by {self.mean_error:.2g} in the mean (tolerance {limit.mean})"
        if self.anchor_box_error is not None and _beyond(
            self.anchor_box_error, limit.anchor_box if self.too_few else None
        ):
            return (
                f"the boxes of all anchors, weighted by score, are off by {self.anchor_box_error:.2g} in the mean of"
                f" 1 - IoU (tolerance {limit.anchor_box})"
            )
        if self.anchor_score_error is not None and _beyond(
            self.anchor_score_error, limit.anchor_score if self.too_few else None
        ):
            return (
                f"the scores of all anchors differ by {self.anchor_score_error:.2g} of their sum"
                f" (tolerance {limit.anchor_score})"
            )
        if not self.too_few and self.missed + self.extra > limit.alone_share * self.confident:
            return (
                f"of {self.confident} detections of both sides, {self.missed} are missed and {self.extra} are extra"
                f" (tolerance {limit.alone_share:.0%})"
            )
        if _beyond(self.box_error, limit.box):
            return f"boxes differ by up to {self.box_error:.2g} px (tolerance {limit.box})"
        if _beyond(self.score_error, limit.score):
            return f"scores differ by up to {self.score_error:.2g} (tolerance {limit.score})"
        if _beyond(self.mean_box_error, None if self.too_few else limit.mean_box):
            return f"boxes are off by {self.mean_box_error:.2g} in the mean of 1 - IoU (tolerance {limit.mean_box})"
        if _beyond(self.mean_score_error, None if self.too_few else limit.mean_score):
            return f"scores are off by {self.mean_score_error:.2g} in the mean (tolerance {limit.mean_score})"
        return None

    def __str__(self) -> str:
        verdict = "parity" if self else f"NO PARITY: {self.problem()}"
        if self.tolerance.box is None:  # then it is the means that count
            errors = f"mean IoU {1 - self.mean_box_error:.3f}, scores off by {self.mean_score_error:.2g} in the mean"
        else:
            errors = f"boxes within {self.box_error:.2g} px, scores within {self.score_error:.2g}"
        found = f"{self.detections} detections, {self.missed} missed, {self.extra} extra"
        source = f" of {self.source}" if self.source else ""
        few = f"; {self.too_few_note()}" if self.too_few else ""
        return f"{verdict}: {self.images} images{source}, {found}, {errors}{few}"

    def to_json(self, files: Mapping[str, str] | None = None) -> str:
        """files: name and sha256 of what was compared (see `runtimes.proof`)."""
        decided_by = "anchors" if self.too_few else "detections"
        verdict = {"passed": bool(self), "problem": self.problem(), "decided_by": decided_by}
        content = {**verdict, "files": dict(files or {}), **asdict(self)}
        return json_text(content, indent=2) + "\n"


def _beyond(error: float, limit: float | None) -> bool:
    """Whether an error is over its limit. NaN is; an output of another shape (infinite) is even without a limit."""
    return not error <= limit if limit is not None else not math.isfinite(error)


class ParityError(UserError):
    """The artifact does not detect what its reference detects. `report` holds the figures."""

    def __init__(self, name: str, report: ParityReport) -> None:
        super().__init__(f"{name} was not written, since it is not the model that was given: {report.problem()}.")
        self.report = report

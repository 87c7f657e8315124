"""Parity: does the artifact detect what the reference detects? Compared on tensors and on detections."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle, islice

import numpy as np
import numpy.typing as npt

from runtimes.detections import Detections
from runtimes.detector import Detector
from runtimes.errors import InvalidInput, UserError
from runtimes.postprocess import Floats, decode_output, postprocess
from runtimes.preprocess import Image, preprocess
from runtimes.runtime import Runtime
from runtimes.spec import ModelSpec

from .matching import is_in_output, match

NMS_THRESHOLD = 0.65


@dataclass(frozen=True)
class Tolerance:
    """How far an artifact may be from its reference.

    tensor: any output value, relative to max(1, |reference|). box: pixels of the original image. score: absolute.
    min_score: detections from this confidence on are compared.
    """

    tensor: float = 5e-3
    box: float = 0.01
    score: float = 1e-4
    min_score: float = 0.01


@dataclass(frozen=True)
class Stage:
    """One step on the way to the file: the largest output difference to the reference that it leaves."""

    name: str
    tensor_error: float


@dataclass(frozen=True)
class ParityReport:
    """What `compare` found. True when everything is within the tolerance.

    missed and extra: detections of one side alone. tied: those that the other side computed as well, but did not choose
    between equals. Errors are the largest seen; tensor_error is None with NMS in the graph, where there is no output to
    compare.
    """

    tolerance: Tolerance
    images: int
    detections: int  # of the reference
    missed: int
    extra: int
    tied: int
    box_error: float
    score_error: float
    tensor_error: float | None
    stages: tuple[Stage, ...] = field(default=())

    def __bool__(self) -> bool:
        return self.problem() is None

    def problem(self) -> str | None:
        """The first thing beyond the tolerance, in words; None where all is well."""
        limit = self.tolerance
        for stage in self.stages:
            if not stage.tensor_error <= limit.tensor:  # written so that NaN fails
                return f"{stage.name} changes the output by {stage.tensor_error:.2g} (tolerance {limit.tensor:g})"
        if self.tensor_error is not None and not self.tensor_error <= limit.tensor:
            return f"the loaded file's output differs by {self.tensor_error:.2g} (tolerance {limit.tensor:g})"
        if self.missed or self.extra:
            return f"{self.missed} of {self.detections} detections are missed and {self.extra} are extra"
        if not self.box_error <= limit.box:
            return f"boxes differ by up to {self.box_error:.2g} px (tolerance {limit.box:g})"
        if not self.score_error <= limit.score:
            return f"scores differ by up to {self.score_error:.2g} (tolerance {limit.score:g})"
        return None

    def __str__(self) -> str:
        verdict = "parity" if self else f"NO PARITY: {self.problem()}"
        return (
            f"{verdict}: {self.images} images, {self.detections} detections, {self.missed} missed, {self.extra} extra, "
            f"boxes within {self.box_error:.2g} px, scores within {self.score_error:.2g}"
        )

    def to_json(self) -> str:
        return json.dumps({"passed": bool(self), "problem": self.problem(), **asdict(self)}, indent=2) + "\n"


class ParityError(UserError):
    """The artifact does not detect what its reference detects. `report` holds the figures."""

    def __init__(self, name: str, report: ParityReport) -> None:
        super().__init__(f"{name} was not written, since it is not the model that was given: {report.problem()}.")
        self.report = report


class StageCheck:
    """Compares the output after each step of an export with the reference, on the first batch of images.

    inputs: that batch as the spec says the artifact takes it. stages: what was recorded so far.
    """

    def __init__(self, reference: Runtime, spec: ModelSpec, images: Sequence[Image]) -> None:
        if not len(images):
            raise InvalidInput("there are no images to compare on.")
        batch = list(islice(cycle(images), spec.batch or 2))
        expected, _ = Detector(reference).infer(batch)
        if not np.isfinite(expected).all():
            raise InvalidInput(f"the model {spec.name} itself gives NaN or infinite values; its weights are damaged.")
        self.spec = spec
        self.inputs, _ = preprocess(batch, spec)
        self.expected = decode_output(expected, reference.spec)
        self.stages: list[Stage] = []

    def record(self, step: str, output: Floats) -> None:
        """Note the output after `step`, before any NMS in the graph."""
        self.stages.append(Stage(step, tensor_error(self.expected, decode_output(output, self.spec))))


def tensor_error(reference: Floats, candidate: Floats) -> float:
    """The largest difference of two outputs, relative to max(1, |reference|); infinite for NaN or other shapes."""
    if reference.shape != candidate.shape or not (np.isfinite(reference).all() and np.isfinite(candidate).all()):
        return float("inf")
    return float(np.max(np.abs(candidate - reference) / np.maximum(1, np.abs(reference)), initial=0))


def compare(
    reference: Runtime,
    candidate: Runtime,
    images: Sequence[Image],
    tolerance: Tolerance | None = None,
    stages: Sequence[Stage] = (),
    progress: Callable[[Sequence[Image]], Iterable[Image]] = iter,
) -> ParityReport:
    """Run both on the same images, each with its own preprocessing and batch, and compare what comes out.

    Images go through the candidate in batches of its own size; 4, then the rest, where it takes any. `progress` may
    wrap the images in a progress bar. Raises `InvalidInput` where there are no images.
    """
    if not len(images):
        raise InvalidInput("there are no images to compare on.")
    tally = _Tally(tolerance or Tolerance(), candidate.spec)
    detectors = Detector(reference), Detector(candidate)
    stream = iter(progress(images))
    while chunk := list(islice(stream, candidate.spec.batch or 4)):
        outputs = []
        for detector in detectors:
            output, ratios = detector.infer(chunk)
            outputs.append(output if detector.spec.nms else decode_output(output, detector.spec))
        tally.add(outputs[0], outputs[1], ratios)
    return tally.report(len(images), tuple(stages))


class _Tally:
    """Adds up the differences of batch after batch."""

    def __init__(self, tolerance: Tolerance, candidate: ModelSpec) -> None:
        self.tolerance, self.candidate = tolerance, candidate
        nms = candidate.nms
        self.min_score = max(tolerance.min_score, nms.score_threshold if nms else 0)
        self.nms_threshold = nms.nms_threshold if nms else NMS_THRESHOLD
        self.detections = self.missed = self.extra = self.tied = 0
        self.box_error = self.score_error = 0.0
        self.tensor_error = None if nms else 0.0

    def add(self, expected: Floats, actual: Floats, ratios: Sequence[float]) -> None:
        """Compare two decoded outputs, or one and the rows of a graph with NMS inside."""
        if self.tensor_error is not None:
            self.tensor_error = max(self.tensor_error, tensor_error(expected, actual))
        decoded = replace(self.candidate, decoded=True)
        left = postprocess(expected, ratios, replace(decoded, nms=None), self.min_score, self.nms_threshold)
        right = postprocess(actual, ratios, decoded, self.min_score, self.nms_threshold)
        for index, ratio in enumerate(ratios):
            # With NMS in the graph nothing is excused: what it should have dropped stands in the reference's output.
            outputs = None if self.candidate.nms else (expected[index], actual[index])
            self.add_image(left[index], right[index], outputs, ratio)

    def add_image(
        self, expected: Detections, actual: Detections, outputs: tuple[Floats, Floats] | None, ratio: float
    ) -> None:
        """Compare the detections of one image."""
        limit = self.tolerance
        pairs = match(expected, actual)
        boxes = np.abs(expected.xyxy[pairs[:, 0]] - actual.xyxy[pairs[:, 1]]).max(axis=1, initial=0)
        scores = np.abs(expected.confidence[pairs[:, 0]] - actual.confidence[pairs[:, 1]])
        near = pairs[(boxes <= limit.box) & (scores <= limit.score)]
        # Choices between equals may differ: what stands in the other's output too is neither missed nor extra.
        tied = np.zeros(len(expected), bool), np.zeros(len(actual), bool)
        if outputs is not None:
            tied = (
                self._tied(expected, near[:, 0], outputs[1], ratio),
                self._tied(actual, near[:, 1], outputs[0], ratio),
            )
        both_tied = tied[0][pairs[:, 0]] & tied[1][pairs[:, 1]]
        self.detections += len(expected)
        self.tied += max(int(tied[0].sum()), int(tied[1].sum()))
        self.missed += self._alone(expected, pairs[:, 0], tied[0])
        self.extra += self._alone(actual, pairs[:, 1], tied[1])
        self.box_error = max(self.box_error, float(boxes[~both_tied].max(initial=0)))
        self.score_error = max(self.score_error, float(scores[~both_tied].max(initial=0)))

    def _tied(
        self, detections: Detections, near: npt.NDArray[np.intp], output: Floats, ratio: float
    ) -> npt.NDArray[np.bool_]:
        """Which detections, of those with no near one on the other side, stand in the other's output all the same."""
        tied = np.zeros(len(detections), bool)
        rest = np.setdiff1d(np.arange(len(detections)), near)
        chosen = Detections(detections.xyxy[rest], detections.confidence[rest], detections.class_id[rest])
        tied[rest] = is_in_output(chosen, output, ratio, self.tolerance.box, self.tolerance.score)
        return tied

    def _alone(self, detections: Detections, paired: npt.NDArray[np.intp], tied: npt.NDArray[np.bool_]) -> int:
        """How many detections have no pair and no excuse. A score on the threshold may fall to either side of it."""
        alone = ~tied & (detections.confidence > self.min_score + self.tolerance.score)
        alone[paired] = False
        return int(alone.sum())

    def report(self, images: int, stages: tuple[Stage, ...]) -> ParityReport:
        return ParityReport(
            tolerance=self.tolerance, images=images, detections=self.detections, missed=self.missed, extra=self.extra,
            tied=self.tied, box_error=self.box_error, score_error=self.score_error, tensor_error=self.tensor_error,
            stages=stages,
        )  # fmt: skip

"""Parity: does the artifact detect what the reference detects? Compared on tensors and on detections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import cycle, islice

import numpy as np
import numpy.typing as npt

from runtimes.detections import Detections
from runtimes.detector import Detector
from runtimes.errors import InvalidInput
from runtimes.postprocess import Floats, best_rows, corners, decode_output, postprocess
from runtimes.preprocess import Image, preprocess
from runtimes.runtime import Runtime
from runtimes.spec import ModelSpec, Precision

from .matching import aligned_iou, iou, is_in_output, is_in_rows, match
from .report import TOLERANCES, ParityReport, Stage, Tolerance

NMS_THRESHOLD = 0.65
TINY = 1e-12  # in place of a sum of scores that is 0


class StageCheck:
    """Compares the output after each step of an export with the reference, on the first batch of images.

    reference: the runtime of what is exported. inputs: that batch as the spec says the artifact takes it. stages: what
    was recorded so far.
    """

    def __init__(self, reference: Runtime, spec: ModelSpec, images: Sequence[Image]) -> None:
        if not len(images):
            raise InvalidInput("there are no images to compare on.")
        batch = list(islice(cycle(images), spec.batch or 2))
        expected, _ = Detector(reference).infer(batch)
        if not np.isfinite(expected).all():
            raise InvalidInput(f"the model {spec.name} itself gives NaN or infinite values; its weights are damaged.")
        self.reference, self.spec = reference, spec
        self.inputs, _ = preprocess(batch, spec)
        self.expected = decode_output(expected, reference.spec)
        self.stages: list[Stage] = []

    def record(self, step: str, output: Floats, precision: Precision = "fp32") -> None:
        """Note the output after `step`, before any NMS in the graph. precision: in which the network computed it."""
        errors = output_errors if self.spec.topk is None else row_errors
        error = float(errors(self.expected, decode_output(output, self.spec)).max())
        self.stages.append(Stage(step, error, TOLERANCES[precision].tensor))


def output_errors(reference: Floats, candidate: Floats) -> Floats:
    """The differences of two outputs, relative to max(1, |reference|); infinite for NaN or other shapes. (n,)."""
    if reference.shape != candidate.shape or not (np.isfinite(reference).all() and np.isfinite(candidate).all()):
        return np.full(1, np.inf, np.float32)
    errors: Floats = np.abs(candidate - reference) / np.maximum(1, np.abs(reference))
    return errors.ravel()


def row_errors(reference: Floats, rows: Floats) -> Floats:
    """`output_errors` for the rows of a graph with TopK (N, K, 6), against a decoded output (N, A, 5 + C).

    Anchors with nearly equal scores may stand in another order, and classes with nearly equal scores be chosen
    otherwise: each row is compared with the anchor that is nearest to it, in its box and in the score of the row's
    class, and the scores with the reference's best.
    """
    if rows.ndim != 3 or len(rows) != len(reference) or rows.shape[2] != 6:
        return np.full(1, np.inf, np.float32)
    if not (np.isfinite(reference).all() and np.isfinite(rows).all()):
        return np.full(1, np.inf, np.float32)
    if not np.isin(rows[..., 5], np.arange(reference.shape[2] - 5)).all():
        return np.full(1, np.inf, np.float32)
    best = best_rows(reference, rows.shape[1])  # (N, K, 6)
    errors = [output_errors(best[..., 4], rows[..., 4])]
    for own, output in zip(rows, reference, strict=True):
        boxes, scores = corners(output[:, :4]), output[:, 4:5] * output[:, 5:]
        scale = np.maximum(1, np.abs(boxes))
        for row in own:
            box = (np.abs(boxes - row[:4]) / scale).max(axis=1)
            errors.append(np.maximum(box, np.abs(scores[:, int(row[5])] - row[4])).min(keepdims=True))
    return np.concatenate(errors)


def anchor_sums(reference: Floats, candidate: Floats) -> npt.NDArray[np.float64]:
    """What the anchor errors of a `ParityReport` are made of, of two decoded outputs (N, A, 5 + C). (4,).

    The sums over the anchors of w (1 - IoU) and of w, the reference's best score; and over the scores of all classes,
    of their differences and of both sides.
    """
    expected, actual = (output[..., 4:5] * output[..., 5:] for output in (reference, candidate))
    weights = expected.max(axis=-1)
    apart = 1 - aligned_iou(corners(reference[..., :4]), corners(candidate[..., :4]))
    sums = (weights * apart, weights, np.abs(expected - actual), expected + actual)
    return np.array([values.sum(dtype=np.float64) for values in sums])


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
    wrap the images in a progress bar. There is no parity where either side gives NaN or infinity, also if the other
    gives the same. Raises `InvalidInput` where there are no images.
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
            outputs.append(decode_output(output, detector.spec))
        tally.add(outputs[0], outputs[1], ratios)
    return tally.report(len(images), tuple(stages))


class _Tally:
    """Adds up the differences of batch after batch."""

    def __init__(self, tolerance: Tolerance, candidate: ModelSpec) -> None:
        self.tolerance, self.candidate = tolerance, candidate
        nms = candidate.nms
        if nms and (nms.score_threshold is None or nms.nms_threshold is None):
            raise InvalidInput(f"{candidate.name} does not show the thresholds of its NMS: it cannot be compared.")
        self.min_score = max(tolerance.min_score, nms.score_threshold or 0 if nms else 0)
        self.nms_threshold = (nms.nms_threshold if nms else None) or NMS_THRESHOLD
        self._alone_score = max(tolerance.alone_score, self.min_score)
        self.detections = self.confident = self.missed = self.extra = self.tied = 0
        self.box_error = self.score_error = self.box_sum = self.score_sum = 0.0
        self.pairs = 0
        self.largest, self.sum, self.values = 0.0, 0.0, 0  # of the output errors; with NMS, there are none
        self.anchors: npt.NDArray[np.float64] | None = None  # the sums of `anchor_sums`

    def add(self, expected: Floats, actual: Floats, ratios: Sequence[float]) -> None:
        """Compare two decoded outputs, or one and the rows of a graph with NMS inside."""
        if not (np.isfinite(expected).all() and np.isfinite(actual).all()):  # which gives no detections to compare
            self.largest, self.sum, self.values = np.inf, np.inf, self.values + 1
            return
        decoded = replace(self.candidate, decoded=True)
        if decoded.nms is None:
            errors = (row_errors if decoded.topk else output_errors)(expected, actual)
            self.largest = max(self.largest, float(errors.max()))
            self.sum += float(errors.sum(dtype=np.float64))
            self.values += errors.size
            if decoded.topk is None and expected.shape == actual.shape:
                self.anchors = anchor_sums(expected, actual) + (0 if self.anchors is None else self.anchors)
        chosen = expected if decoded.topk is None else best_rows(expected, decoded.topk)
        left = postprocess(chosen, ratios, replace(decoded, nms=None), self.min_score, self.nms_threshold)
        right = postprocess(actual, ratios, decoded, self.min_score, self.nms_threshold)
        for index, ratio in enumerate(ratios):
            # With NMS in the graph nothing is excused: what it should have dropped stands in the reference's output.
            outputs = None if decoded.nms else (expected[index], actual[index])
            self.add_image(left[index], right[index], outputs, ratio)

    def add_image(
        self, expected: Detections, actual: Detections, outputs: tuple[Floats, Floats] | None, ratio: float
    ) -> None:
        """Compare the detections of one image."""
        limit = self.tolerance
        pairs = match(expected, actual)
        boxes = np.abs(expected.xyxy[pairs[:, 0]] - actual.xyxy[pairs[:, 1]]).max(axis=1, initial=0)
        scores = np.abs(expected.confidence[pairs[:, 0]] - actual.confidence[pairs[:, 1]])
        near = pairs[(boxes <= (limit.box or np.inf)) & (scores <= (limit.score or np.inf))]
        # Choices between equals may differ: what stands in the other's output too is neither missed nor extra.
        tied = np.zeros(len(expected), bool), np.zeros(len(actual), bool)
        if outputs is not None and limit.box and limit.score:
            stands = is_in_output if self.candidate.topk is None else is_in_rows
            tied = (
                self._tied(stands, expected, near[:, 0], outputs[1], ratio),
                self._tied(is_in_output, actual, near[:, 1], outputs[0], ratio),
            )
        both_tied = tied[0][pairs[:, 0]] & tied[1][pairs[:, 1]]
        self.detections += len(expected)
        self.confident += sum(int((side.confidence > self._alone_score).sum()) for side in (expected, actual))
        self.tied += max(int(tied[0].sum()), int(tied[1].sum()))
        self.missed += self._alone(expected, pairs[:, 0], tied[0])
        self.extra += self._alone(actual, pairs[:, 1], tied[1])
        self.box_error = max(self.box_error, float(boxes[~both_tied].max(initial=0)))
        self.score_error = max(self.score_error, float(scores[~both_tied].max(initial=0)))
        overlaps = iou(expected.xyxy, actual.xyxy)[pairs[:, 0], pairs[:, 1]]
        self.pairs += int((~both_tied).sum())
        self.box_sum += float((1 - overlaps[~both_tied]).sum())
        self.score_sum += float(scores[~both_tied].sum())

    def _tied(
        self,
        stands: Callable[[Detections, Floats, float, float, float], npt.NDArray[np.bool_]],
        detections: Detections,
        near: npt.NDArray[np.intp],
        output: Floats,
        ratio: float,
    ) -> npt.NDArray[np.bool_]:
        """Which detections, of those with no near one on the other side, stand in the other's output all the same."""
        tied = np.zeros(len(detections), bool)
        rest = np.setdiff1d(np.arange(len(detections)), near)
        chosen = Detections(detections.xyxy[rest], detections.confidence[rest], detections.class_id[rest])
        tied[rest] = stands(chosen, output, ratio, self.tolerance.box or 0, self.tolerance.score or 0)
        return tied

    def _alone(self, detections: Detections, paired: npt.NDArray[np.intp], tied: npt.NDArray[np.bool_]) -> int:
        """How many detections have no pair and no excuse. A score on the threshold may fall to either side of it."""
        alone = ~tied & (detections.confidence > self._alone_score + (self.tolerance.score or 0))
        alone[paired] = False
        return int(alone.sum())

    def report(self, images: int, stages: tuple[Stage, ...]) -> ParityReport:
        sums = self.anchors
        return ParityReport(
            tolerance=self.tolerance, images=images, detections=self.detections, confident=self.confident,
            missed=self.missed, extra=self.extra, tied=self.tied, box_error=self.box_error,
            score_error=self.score_error, mean_box_error=self.box_sum / max(self.pairs, 1),
            mean_score_error=self.score_sum / max(self.pairs, 1), tensor_error=self.largest if self.values else None,
            mean_error=self.sum / self.values if self.values else None,
            anchor_box_error=None if sums is None else float(sums[0] / max(sums[1], TINY)),
            anchor_score_error=None if sums is None else float(sums[2] / max(sums[3], TINY)),
            stages=stages,
        )  # fmt: skip

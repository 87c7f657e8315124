"""Compare what a step left with what it should have left."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from exporters.kit.steps import Array
from exporters.matching import iou, match
from exporters.parity import output_errors
from exporters.report import Tolerance
from runtimes.detections import Detections


@dataclass(frozen=True)
class Score:
    """How far one step of one case is off. problem: what is beyond the tolerance, None where nothing is."""

    problem: str | None
    figures: dict[str, float] = field(default_factory=dict)


def compare_pixels(expected: Array, found: Array, limit: float) -> Score:
    """Letterboxes and network inputs."""
    worst = float(np.abs(expected.astype(np.float64) - found.astype(np.float64)).max())
    problem = f"values differ by up to {worst:.3g} (tolerance {limit:g})" if worst > limit else None
    return Score(problem, {"value": worst})


def compare_outputs(expected: Array, found: Array, limit: Tolerance) -> Score:
    """Outputs of a network, decoded or not: (A, 5 + C). Errors are relative to max(1, |expected|)."""
    errors = output_errors(expected, found)
    figures = {"value": float(errors.max()), "mean": float(errors.mean())}
    problem = None
    if limit.mean is not None and figures["mean"] > limit.mean:
        problem = f"values differ by {figures['mean']:.2g} in the mean (tolerance {limit.mean:g})"
    if limit.tensor is not None and figures["value"] > limit.tensor:
        problem = f"values differ by up to {figures['value']:.2g} (tolerance {limit.tensor:g})"
    return Score(problem, figures)


def compare_rows(expected: Array, found: Array, limit: Tolerance, nms_threshold: float | None = None) -> Score:
    """Lists of boxes (n, 6). nms_threshold: where the two come from different networks, which may choose between equals
    differently: a row alone is excused if one with its score stands in the other list, overlapping it by more."""
    left, right = detections(expected, limit.min_score), detections(found, limit.min_score)
    pairs = match(left, right)
    boxes = np.abs(left.xyxy[pairs[:, 0]] - right.xyxy[pairs[:, 1]]).max(axis=1, initial=0)
    scores = np.abs(left.confidence[pairs[:, 0]] - right.confidence[pairs[:, 1]])
    overlaps = iou(left.xyxy, right.xyxy)[pairs[:, 0], pairs[:, 1]]
    figures = {
        "missed": alone(left, right, pairs[:, 0], limit, nms_threshold),
        "extra": alone(right, left, pairs[:, 1], limit, nms_threshold),
        "box": float(boxes.max(initial=0)),
        "score": float(scores.max(initial=0)),
        "mean_box": float(np.mean(1 - overlaps)) if len(pairs) else 0.0,
        "mean_score": float(np.mean(scores)) if len(pairs) else 0.0,
    }
    counted = sum(int((side.confidence > limit.alone_score).sum()) for side in (left, right))
    return Score(row_problem(figures, counted, limit), figures)


def row_problem(figures: dict[str, float], counted: int, limit: Tolerance) -> str | None:
    """The first figure beyond its tolerance, in words."""
    missed, extra = figures["missed"], figures["extra"]
    if missed + extra > limit.alone_share * counted:
        return f"of {counted} rows of both lists, {missed:.0f} are missed and {extra:.0f} are extra"
    for name, what in (
        ("box", "boxes differ by up to {:.2g} px"),
        ("score", "scores differ by up to {:.2g}"),
        ("mean_box", "boxes are off by {:.2g} in the mean of 1 - IoU"),
        ("mean_score", "scores are off by {:.2g} in the mean"),
    ):
        allowed = getattr(limit, name)
        if allowed is not None and figures[name] > allowed:
            return f"{what.format(figures[name])} (tolerance {allowed:g})"
    return None


def detections(rows: Array, min_score: float) -> Detections:
    rows = rows[rows[:, 4] >= min_score]
    return Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64))


def alone(
    own: Detections,
    other: Detections,
    paired: npt.NDArray[np.intp],
    limit: Tolerance,
    nms_threshold: float | None,
) -> float:
    """How many rows of one list have no counterpart in the other. A score on the threshold may fall to either side."""
    found = own.confidence > limit.alone_score + (limit.score or 0)
    found[paired] = False
    if nms_threshold is not None:
        near = np.abs(own.confidence[:, None] - other.confidence[None]) <= (limit.score or 0)
        found &= ~(near & (iou(own.xyxy, other.xyxy) > nms_threshold)).any(axis=1)
    return float(found.sum())

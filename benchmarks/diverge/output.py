"""What was done to the last layers' values otherwise than the spec says: boxes decoded or not, scores or logits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from exporters.parity import output_errors, row_errors
from runtimes.postprocess import Floats, anchor_grid, decode
from runtimes.spec import ModelSpec

from .report import OUTPUT, Cause, Finding

# Of any value of the output, relative to max(1, |value|).
OUTPUT_TOLERANCE = 1e-3


def output_error(raw: Floats, found: Floats, spec: ModelSpec) -> float | None:
    """How far an output is from what the spec makes of raw predictions (1, A, 5 + C); None for NMS in the graph."""
    if spec.nms:
        return None
    boxes = decode(raw[..., :4], *anchor_grid(spec.input_size, spec.strides)) if spec.decoded else raw[..., :4]
    promised = np.concatenate([boxes, _sigmoid(raw[..., 4:])], axis=-1)
    return float(row_errors(promised, found).max()) if spec.topk else _error(promised, found)


def explain_output(raw: Floats, found: Floats, spec: ModelSpec) -> list[Finding]:
    """Why an output is not what the spec makes of `raw`; nothing where it is."""
    error = output_error(raw, found, spec)
    if error is None or error <= OUTPUT_TOLERANCE:
        return []
    if spec.topk:
        return [Finding("unknown", (OUTPUT,), "its rows are not the best anchors of its last layers", error, None)]
    boxes, scores = raw[..., :4], raw[..., 4:]
    cells, strides = anchor_grid(spec.input_size, spec.strides)
    forms: dict[str, Floats] = {
        "raw": boxes,
        "decoded": decode(boxes, cells, strides),
        "decoded with half a cell added": decode(boxes, cells + np.float32(0.5), strides),
    }
    probability = _sigmoid(scores)
    levels = {"scores": probability, "logits": scores, "scores after a second sigmoid": _sigmoid(probability)}
    return [
        *_explain_part("decode flag", "boxes", "decoded" if spec.decoded else "raw", forms, found[..., :4]),
        *_explain_part("sigmoid", "scores", "scores", levels, found[..., 4:]),
    ]


def _explain_part(cause: Cause, part: str, promised: str, forms: Mapping[str, Floats], found: Floats) -> list[Finding]:
    errors = {name: _error(form, found) for name, form in forms.items()}
    if errors[promised] <= OUTPUT_TOLERANCE:
        return []
    best = min(errors, key=lambda name: errors[name])
    if errors[best] > OUTPUT_TOLERANCE:
        known = ", ".join(forms)
        return [Finding("unknown", (OUTPUT,), f"the {part} are none of these: {known}", errors[promised], None)]
    detail = f"the {part} are {best}, where the spec says {promised}"
    return [Finding(cause, (OUTPUT,), detail, errors[promised], errors[best])]


def _error(expected: Floats, found: Floats) -> float:
    return float(output_errors(expected, found).max())


def _sigmoid(values: Floats) -> Floats:
    return torch.from_numpy(values).sigmoid().numpy()

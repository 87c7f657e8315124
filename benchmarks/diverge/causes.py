"""Why layers differ: each cause is put into the reference, where it must make the difference vanish."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from statistics import median
from typing import Literal

import torch
from torch import Tensor, nn

from exporters.graph import rewrite
from runtimes.postprocess import Floats
from yolox_deploy.model.blocks import Focus

from .report import Cause, Finding
from .taps import Stored, Tap
from .walk import ROUNDING_MARGIN, TOLERANCES, Layer, Step, relative_error, walk

# Values of batch norm's eps that other code uses; torch's own is the first.
OTHER_EPS = (1e-5, 1e-6, 1e-4, 1e-3, 1e-2)

CORNERS = {(0, 0): "top-left", (1, 0): "bottom-left", (0, 1): "top-right", (1, 1): "bottom-right"}


@dataclass(frozen=True)
class Judge:
    """Which layers are off. promised: the precision in the artifact's spec. tolerance: of every layer, or None."""

    promised: Stored
    tolerance: float | None

    def off(self, steps: Sequence[Step]) -> list[Step]:
        return [step for step in steps if step.is_off(self.promised, self.tolerance)]


def explain_network(
    model: nn.Module, stem: Layer, taps: Mapping[str, Tap], images: Floats, judge: Judge, off: Sequence[Step]
) -> list[Finding]:
    """Why the layers in `off` are. model: as trained, not rewritten; stem: its first layer, rewritten."""
    if not off:
        return []
    findings = []
    order = explain_stem(stem, taps[stem.path], images) if off[0].path == stem.path else None
    if order is not None:
        findings.append(order)
        off = off[1:]
    eps, off = explain_eps(model, taps, images, off, judge)
    if eps is not None:
        findings.append(eps)
    return findings + explain_layers(off)


def explain_stem(layer: Layer, tap: Tap, images: Floats) -> Finding | None:
    """Whether the first convolution reads its pixels or channels in another order."""
    expected = layer.artifact_output(tap)
    weight = layer.convolution.weight.detach()
    error = relative_error(layer.compute(torch.from_numpy(images), weight, layer.convolution.bias), expected)
    options = []
    for detail, cause, changed in _stem_orders(weight):
        with torch.inference_mode():
            output = layer.compute(torch.from_numpy(images), changed, layer.convolution.bias)
        options.append((relative_error(output, expected), cause, detail))
    left, cause, detail = min(options)
    if left > min(TOLERANCES[tap.stored], error / ROUNDING_MARGIN):
        return None
    return Finding(cause, (layer.path,), detail, error, left)


def _stem_orders(weight: Tensor) -> list[tuple[str, Cause, Tensor]]:
    """The stem's weight (O, 3, kh, kw) for other orders of channels, and of the pixels in each 2x2 block."""
    flipped = weight.flip(1)
    channels = "its graph takes the channels in the other order"
    found: list[tuple[str, Cause, Tensor]] = [(channels, "channel order", flipped)]
    if weight.shape[2:] != (6, 6):  # no Focus
        return found
    for order in permutations(Focus.PIXELS):
        if order != Focus.PIXELS:
            said = f"its 2x2 blocks are read {', '.join(CORNERS[pixel] for pixel in order)}"
            found.append((said, "Focus order", _reordered(weight, order)))
            found.append((f"{said}; {channels} too", "Focus order", _reordered(flipped, order)))
    return found


def _reordered(weight: Tensor, order: Sequence[tuple[int, int]]) -> Tensor:
    """The weight (O, 3, 6, 6) of Focus and convolution in one, had Focus filled its groups in this order."""
    changed = torch.empty_like(weight)
    for (row, column), (other_row, other_column) in zip(Focus.PIXELS, order, strict=True):
        changed[:, :, other_row::2, other_column::2] = weight[:, :, row::2, column::2]
    return changed


def explain_eps(
    model: nn.Module, taps: Mapping[str, Tap], images: Floats, off: Sequence[Step], judge: Judge
) -> tuple[Finding | None, list[Step]]:
    """Whether the artifact was made with another eps in its batch norms; and the layers that are off in any case."""
    used = next((module.eps for module in model.modules() if isinstance(module, nn.BatchNorm2d)), None)
    tried = []
    for eps in OTHER_EPS if used is not None and len(off) > 1 else ():
        if eps != used:
            steps, _ = walk(rewrite(_with_eps(model, eps)), taps, images)
            own = {step.path: step.own for step in steps}
            still = {step.path for step in judge.off(steps)} & {step.path for step in off}
            tried.append((len(still), own[off[0].path], eps, still, own))
    if not tried or min(tried, key=lambda one: one[:2])[0] > len(off) / 2:
        return None, list(off)
    _, _, eps, still, own = min(tried, key=lambda one: one[:2])
    cleared = [step for step in off if step.path not in still]
    paths = tuple(step.path for step in cleared)
    detail = f"the artifact's batch norms have eps {eps:g}, the reference's {used:g}"
    finding = Finding("batch-norm eps", paths, detail, cleared[0].own, own[paths[0]])
    return finding, [step for step in off if step.path in still]


def _with_eps(model: nn.Module, eps: float) -> nn.Module:
    changed = copy.deepcopy(model)
    for module in changed.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps
    return changed


def explain_layers(off: Sequence[Step]) -> list[Finding]:
    """What is left: rounding, other weights, or what stands before a convolution. One finding for each cause."""
    groups: dict[Cause | Literal["bad int8"], list[Step]] = {}
    for step in off:
        groups.setdefault(_kind(step), []).append(step)
    findings = []
    for kind, steps in groups.items():
        first, paths = steps[0], tuple(step.path for step in steps)
        if kind in ("quantisation", "reduced precision"):
            ratio = median(step.own / step.rounding for step in steps)
            detail = (
                f"rounding the reference's weights and inputs to {first.stored} adds {first.rounding:.2g} there; the"
                f" layers have {ratio:.1f} times what it adds, in the median"
            )
            findings.append(Finding(kind, paths, detail, first.own, None))
        elif kind == "bad int8":
            detail = (
                f"its int8 weights are off by {first.weight_change:.1%}, rounding costs {first.weight_rounding:.1%}"
            )
            findings.append(Finding("quantisation", paths, detail, first.own, first.unexplained))
        elif kind == "changed weights":
            change = first.weight_change
            what = f"its weights differ by {change:.2%}" if change > 1e-6 else "its bias differs"
            findings.append(Finding(kind, paths, what, first.own, first.unexplained))
        else:
            detail = "neither weights nor rounding explain it: look at what stands between this layer and those before"
            findings.append(Finding("unknown", paths, detail, first.own, None))
    return findings


def _kind(step: Step) -> Cause | Literal["bad int8"]:
    if step.stored != "fp32" and not step.weights_are_off and step.own <= ROUNDING_MARGIN * step.rounding:
        return "quantisation" if step.stored == "int8" else "reduced precision"
    by_weights = step.unexplained <= min(TOLERANCES[step.stored], step.own / 2)
    if step.stored == "int8" and (step.weights_are_off or by_weights):
        return "bad int8"
    return "changed weights" if by_weights or step.weights_are_off else "unknown"

"""The reference beside an artifact, convolution by convolution.

Two figures for each. Its error: how far the artifact is from the reference that runs by itself, which grows on the way.
And its own error: the reference runs once more, each convolution's output replaced by the artifact's, so that every
layer gets what it got in the artifact, and what differs is what this layer adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from runtimes.errors import InvalidInput
from runtimes.postprocess import Floats
from yolox_deploy.model.blocks import Focus

from .taps import Stored, Tap

# How much a layer may add to the difference, where the artifact's spec promises the precision. Sound models: fp32 up to
# 2e-6, fp16 3e-3, int8 0.2.
TOLERANCES: dict[Stored, float] = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 3e-2, "int8": 0.3}

# Rounding is repeated with other ranges than the artifact's calibration chose: it is the same up to this factor.
ROUNDING_MARGIN = 4


@dataclass(frozen=True)
class Layer:
    """A convolution of the reference, with the activation behind it; `module` is both. path: of the convolution."""

    path: str
    module: nn.Module
    convolution: nn.Conv2d
    activation: Callable[[Tensor], Tensor]

    def artifact_output(self, tap: Tap) -> Tensor:
        """What the artifact gives behind the activation: (1, O, H, W)."""
        output = torch.from_numpy(tap.output)[None]
        return output if tap.activated else self.activation(output.clone())  # it may work in place

    def compute(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer with other weights."""
        conv: Any = self.convolution
        return self.activation(
            functional.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
        )


@dataclass(frozen=True)
class Step:
    """A layer beside the artifact's. Errors are relative (see `relative_error`).

    own: what the layer adds. rounding: what it would add if its weights and what goes through it were rounded to what
    the artifact stores; 0 for fp32. unexplained: what it would add if the reference had the artifact's weights, and
    rounded the input of an int8 layer to the same levels. weight_change: from the reference's weights to these;
    weight_rounding: the part that rounding has in it.
    """

    path: str
    stored: Stored
    own: float
    rounding: float
    unexplained: float
    weight_change: float
    weight_rounding: float

    @property
    def weights_are_off(self) -> bool:
        """Whether stored weights are not the reference's, rounded. Of fp32 weights only the effect is judged."""
        return self.stored != "fp32" and self.weight_change > ROUNDING_MARGIN * self.weight_rounding

    def is_off(self, promised: Stored, tolerance: float | None) -> bool:
        """Whether the layer is beyond the tolerance: the given one, or that of the precision, if it was promised."""
        if tolerance is not None or self.stored != promised:
            return self.own > (TOLERANCES["fp32"] if tolerance is None else tolerance)
        return self.own > TOLERANCES[self.stored] or self.weights_are_off


def find_layers(network: nn.Module, images: Floats) -> tuple[list[Layer], dict[str, Tensor], Tensor]:
    """The layers of a rewritten network in the order in which they run, the output of each, and the network's.

    images: (1, 3, H, W) as the network takes them.
    """
    layers = {layer.path: layer for layer in _layers(network)}
    outputs: dict[str, Tensor] = {}

    def record(layer: Layer, inputs: tuple[Tensor], output: Tensor) -> None:
        outputs[layer.path] = output.clone()

    raw = _run(network, layers.values(), record, images)
    return [layers[path] for path in outputs], outputs, raw


def _layers(network: nn.Module) -> list[Layer]:
    modules = dict(network.named_modules())
    found = []
    for path, module in modules.items():
        if isinstance(module, nn.Conv2d):
            around = modules[path.rpartition(".")[0]]
            if isinstance(around, nn.Sequential) and len(around) == 2 and not isinstance(around[1], nn.Conv2d):
                found.append(Layer(path, around, module, around[1]))
            else:
                found.append(Layer(path, module, module, lambda output: output))
    return found


def _run(network: nn.Module, layers: Any, hook: Callable[..., Any], images: Floats) -> Tensor:
    def bound(layer: Layer) -> Callable[..., Any]:
        return lambda module, inputs, output: hook(layer, inputs, output)

    handles = [layer.module.register_forward_hook(bound(layer)) for layer in layers]
    try:
        with torch.inference_mode():
            raw: Tensor = network(torch.from_numpy(images))
    finally:
        for handle in handles:
            handle.remove()
    return raw


def walk(network: nn.Module, taps: Mapping[str, Tap], images: Floats) -> tuple[list[Step], Tensor]:
    """What each layer adds to the difference, and the raw predictions (1, A, 5 + C) of the artifact's last layers."""
    steps = []

    def compare(layer: Layer, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        tap = taps[layer.path]
        found = layer.artifact_output(tap)
        steps.append(_step(layer, tap, inputs[0], output, found))
        return found

    raw = _run(network, _layers(network), compare, images)
    return steps, raw


def _step(layer: Layer, tap: Tap, x: Tensor, expected: Tensor, found: Tensor) -> Step:
    conv, stored = layer.convolution, tap.stored
    weight = torch.from_numpy(tap.weight.copy())
    bias = None if tap.bias is None else torch.from_numpy(tap.bias.copy())
    fits = weight.shape == conv.weight.shape
    rounded = _rounded(conv.weight, stored, (1, 2, 3))
    levels = tap.levels
    same = x if levels is None else (x / levels.step).round().clamp(levels.low, levels.high) * levels.step
    rough = layer.compute(_rounded(x, stored) if levels is None else same, rounded, conv.bias)
    return Step(
        path=layer.path,
        stored=stored,
        own=relative_error(expected, found),
        rounding=0.0 if stored == "fp32" else relative_error(expected, _rounded(rough, stored)),
        unexplained=relative_error(layer.compute(same, weight, bias), found) if fits else float("inf"),
        weight_change=relative_error(conv.weight, weight),
        weight_rounding=relative_error(conv.weight, rounded),
    )


def _rounded(values: Tensor, stored: Stored, channels: tuple[int, ...] = ()) -> Tensor:
    """Values in a lower precision, and back. int8: one scale for all, or for each first index where `channels`."""
    if stored == "fp32":
        return values
    if stored != "int8":
        return values.to(torch.float16 if stored == "fp16" else torch.bfloat16).float()
    if channels:
        step = values.abs().amax(dim=channels, keepdim=True).clamp_min(1e-12) / 127
    else:
        step = (values.max().clamp_min(0) - values.min().clamp_max(0)).clamp_min(1e-12) / 255
    return (values / step).round() * step


def relative_error(reference: Tensor | Floats, found: Tensor | Floats) -> float:
    """The root of the mean squared difference, relative to that of the reference; infinite for NaN."""
    expected, actual = (torch.as_tensor(values).double() for values in (reference, found))
    if expected.shape != actual.shape:
        return float("inf")
    error = float((actual - expected).norm() / expected.norm().clamp_min(1e-12))
    return error if np.isfinite(error) else float("inf")


def align(layers: Sequence[Layer], taps: Sequence[Tap]) -> tuple[dict[str, Tap], str]:
    """The artifact's convolution for each layer by its path, and how they were found, in words.

    By name, as in our own files; else by the weights that are the most alike among those of a shape. Raises
    `InvalidInput` where there are others than in the reference.
    """
    shapes = {layer.path: _shape(layer) for layer in layers}
    if {tap.name: tap.weight.shape for tap in taps} == shapes and len(taps) == len(layers):
        return {tap.name: tap for tap in taps}, "by name"
    taps = [_unfocused(tap) for tap in taps]
    if sorted(shapes.values()) != sorted(tap.weight.shape for tap in taps):
        raise InvalidInput(
            f"the artifact has {len(taps)} convolutions, the reference {len(layers)}, or their shapes differ: it is of"
            " another variant, or has other classes."
        )
    return _by_weights(layers, taps), "by their weights"


def _shape(layer: Layer) -> tuple[int, ...]:
    return tuple(layer.convolution.weight.shape)


def _by_weights(layers: Sequence[Layer], taps: Sequence[Tap]) -> dict[str, Tap]:
    """Pairs of one shape, the most alike first."""
    directions = [_direction(layer.convolution.weight.detach().numpy()) for layer in layers]
    others = [_direction(tap.weight) for tap in taps]
    likeness = [
        (float(one @ other), row, column)
        for row, one in enumerate(directions)
        for column, other in enumerate(others)
        if _shape(layers[row]) == taps[column].weight.shape
    ]
    found: dict[str, Tap] = {}
    used: set[int] = set()
    for _, row, column in sorted(likeness, reverse=True):
        if layers[row].path not in found and column not in used:
            found[layers[row].path] = taps[column]
            used.add(column)
    return found


def _direction(weight: Floats) -> Floats:
    flat = weight.ravel()
    unit: Floats = flat / max(float(np.linalg.norm(flat)), 1e-12)
    return unit


def _unfocused(tap: Tap) -> Tap:
    """A stem that takes the slices of Focus, in the official order, as the 6x6 convolution that it is."""
    if tap.weight.shape[1:] != (12, 3, 3):
        return tap
    wide = np.zeros((len(tap.weight), 3, 6, 6), np.float32)
    for group, (row, column) in enumerate(Focus.PIXELS):
        wide[:, :, row::2, column::2] = tap.weight[:, 3 * group : 3 * group + 3]
    return replace(tap, weight=wide)

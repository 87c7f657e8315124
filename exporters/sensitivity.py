"""Sensitivity: how much a model's detections change when one convolution alone computes in int8.

int8 costs accuracy in a few layers, which differ from model to model. They are found by measuring: each convolution in
turn gets its weights (per output channel) and its input (per tensor) rounded to int8, the rest stays in float, and the
best boxes and scores of each image are compared with those of the float model. One map serves every backend.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from runtimes.errors import InvalidInput
from runtimes.json_file import json_text
from runtimes.preprocess import Image, preprocess
from runtimes.spec import ModelSpec

from .graph import InferenceGraph

# Anchors of an image that are compared: those that the float model scores best.
COMPARED_ANCHORS = 100


@dataclass(frozen=True)
class Layer:
    """A convolution. error: mean of |score difference| + 1 - IoU of the best anchors. macs: multiply-adds an image."""

    error: float
    macs: int


@dataclass(frozen=True)
class SensitivityMap:
    """What int8 costs in each convolution of a model, by its path in the rewritten module."""

    source_sha256: str  # of the checkpoint
    inputs_sha256: str  # of the preprocessed images
    images: int
    layers: Mapping[str, Layer]

    @property
    def ranked(self) -> list[str]:
        """All layers, the most sensitive first."""
        return sorted(self.layers, key=lambda name: -self.layers[name].error)

    def in_float(self, share: float) -> frozenset[str]:
        """The layers that win the most by staying in float: most error for their work, up to this share of all work.

        One that is more than the share alone is passed over.
        """
        chosen: list[str] = []
        for name in sorted(self.layers, key=lambda name: -self.layers[name].error / self.layers[name].macs):
            if self.share([name]) > share:
                continue
            if self.share([*chosen, name]) > share:
                break
            chosen.append(name)
        return frozenset(chosen)

    def share(self, names: Iterable[str]) -> float:
        """Which share of the multiply-adds these layers are."""
        total = sum(layer.macs for layer in self.layers.values())
        return sum(self.layers[name].macs for name in names) / total

    def __str__(self) -> str:
        worst = max(layer.error for layer in self.layers.values())
        lines = [f"{'error in int8':>13}  {'share of work':>13}  layer"]
        for name in self.ranked:
            layer = self.layers[name]
            bar = "#" * round(30 * layer.error / max(worst, 1e-12))
            lines.append(f"{layer.error:13.4f}  {self.share([name]):13.2%}  {name} {bar}")
        return "\n".join(lines)

    def to_json(self) -> str:
        return json_text(
            {**asdict(self), "layers": {name: asdict(self.layers[name]) for name in self.ranked}}, indent=2
        )

    @classmethod
    def from_json(cls, text: str, source: str) -> SensitivityMap:
        """Read what `to_json` wrote. Raises `InvalidInput` for anything else."""
        try:
            content = json.loads(text)
            layers = {name: Layer(**layer) for name, layer in content["layers"].items()}
            if not layers or not all(layer.macs > 0 and layer.error >= 0 for layer in layers.values()):
                raise ValueError("its layers make no sense")
            return cls(content["source_sha256"], content["inputs_sha256"], content["images"], layers)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidInput(f"{source} is not a sensitivity map: {error}.") from None


def measure_sensitivity(
    model: nn.Module,
    spec: ModelSpec,
    images: Sequence[Image],
    progress: Callable[[Sequence[str]], Iterable[str]] = iter,
) -> SensitivityMap:
    """Measure every convolution of `model` on calibration images: as many forward passes as there are convolutions.

    `progress` may wrap the layers' names in a progress bar. Raises `InvalidInput` without images.
    """
    if not len(images):
        raise InvalidInput("there are no images to measure the sensitivity on.")
    inputs = network_inputs(images, spec)
    spec = replace(spec, batch=None, precision="fp32", decoded=True, nms=None, topk=None, uint8_input=False)
    graph = InferenceGraph(model, spec).eval()
    batch = torch.from_numpy(inputs)
    convolutions = {name: module for name, module in graph.model.named_modules() if isinstance(module, nn.Conv2d)}
    with torch.inference_mode():
        ranges, macs, expected = _observe(graph, convolutions, batch)
        layers = {}
        for name in progress([*convolutions]):
            with _int8(convolutions[name], *ranges[name]):
                layers[name] = Layer(_error(expected, graph(batch)), macs[name])
    return SensitivityMap(spec.source_sha256, digest(inputs), len(images), layers)


def network_inputs(images: Sequence[Image], spec: ModelSpec) -> npt.NDArray[np.float32]:
    """What the map of a model is measured on: the images as its network takes them in float."""
    inputs: npt.NDArray[np.float32] = preprocess(images, replace(spec, uint8_input=False))[0]
    return inputs


def digest(inputs: npt.NDArray[np.float32]) -> str:
    return hashlib.sha256(inputs.tobytes()).hexdigest()


def _observe(
    graph: InferenceGraph, convolutions: Mapping[str, nn.Conv2d], batch: Tensor
) -> tuple[dict[str, tuple[float, float]], dict[str, int], Tensor]:
    """One forward pass: the range of each convolution's input, its multiply-adds an image, and the graph's output."""
    ranges: dict[str, tuple[float, float]] = {}
    macs: dict[str, int] = {}

    def observer(name: str) -> Callable[..., None]:
        def observe(conv: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
            ranges[name] = min(float(inputs[0].min()), 0.0), float(inputs[0].max())
            macs[name] = output[0].numel() * conv.weight[0].numel()

        return observe

    hooks = [conv.register_forward_hook(observer(name)) for name, conv in convolutions.items()]
    output = graph(batch)
    for hook in hooks:
        hook.remove()
    return ranges, macs, output


@contextlib.contextmanager
def _int8(conv: nn.Conv2d, low: float, high: float) -> Iterator[None]:
    """Let a convolution compute as in int8: symmetric weights, one scale a channel; one scale for the whole input."""
    scale = max(high - low, 1e-6) / 255
    zero = round(-low / scale)

    def round_input(module: nn.Module, inputs: tuple[Any, ...]) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(inputs[0], scale, zero, 0, 255)

    weight = conv.weight.data
    steps = weight.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12) / 127
    hook = conv.register_forward_pre_hook(round_input)
    conv.weight.data = (weight / steps).round() * steps
    try:
        yield
    finally:
        conv.weight.data = weight
        hook.remove()


def _error(expected: Tensor, actual: Tensor) -> float:
    """`Layer.error` of decoded outputs (N, A, 5 + C)."""
    scores = expected[..., 4:5] * expected[..., 5:]  # (N, A, C)
    class_ids = scores.argmax(dim=-1, keepdim=True)
    best = scores.gather(2, class_ids)  # (N, A, 1)
    anchors = best.topk(min(COMPARED_ANCHORS, best.shape[1]), dim=1).indices  # (N, 100, 1)
    rounded = (actual[..., 4:5] * actual[..., 5:]).gather(2, class_ids)
    score_error = (best - rounded).abs().gather(1, anchors).mean()
    boxes = [output[..., :4].gather(1, anchors.expand(-1, -1, 4)) for output in (expected, actual)]
    return float(score_error + 1 - _iou(*boxes).mean())


def _iou(first: Tensor, second: Tensor) -> Tensor:
    """The IoU of boxes (..., 4) as (cx, cy, w, h), one by one: (...)."""
    low = torch.maximum(first[..., :2] - first[..., 2:] / 2, second[..., :2] - second[..., 2:] / 2)
    high = torch.minimum(first[..., :2] + first[..., 2:] / 2, second[..., :2] + second[..., 2:] / 2)
    shared = (high - low).clamp_min(0).prod(dim=-1)
    return shared / (first[..., 2:].prod(dim=-1) + second[..., 2:].prod(dim=-1) - shared).clamp_min(1e-12)

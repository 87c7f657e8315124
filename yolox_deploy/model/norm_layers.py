"""What comes into each batch norm of a network, against its running mean and variance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LayerDistance:
    """One batch norm. shift: of the mean, in its standard deviations; scale: of the standard deviation, a factor, both
    the median over channels. distance: see `check_norms`."""

    name: str
    shift: float
    scale: float
    distance: float


def measure_layers(model: nn.Module, inputs: npt.NDArray[Any]) -> list[LayerDistance]:
    """Compare what comes into each batch norm with its statistics; in the order of computation.

    inputs: (N, 3, H, W) float32, run one by one.
    """
    norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    sums: dict[str, list[Tensor]] = {}  # in the order of computation

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def hook(_: nn.Module, arguments: tuple[Tensor]) -> None:
            values = arguments[0].double()
            sums.setdefault(name, []).append(torch.stack([values.mean((0, 2, 3)), values.square().mean((0, 2, 3))]))

        return hook

    hooks = [norm.register_forward_pre_hook(note(name)) for name, norm in norms.items()]
    device = next(model.parameters()).device
    with torch.inference_mode():
        for image in inputs:
            model(torch.from_numpy(image[None]).to(device))
    for hook in hooks:
        hook.remove()
    return [_layer(name, norms[name], torch.stack(found).mean(dim=0)) for name, found in sums.items()]


def _layer(name: str, norm: nn.BatchNorm2d, moments: Tensor) -> LayerDistance:
    """moments: (2, channels), the means of what came in and of its square."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    tiny = torch.finfo(torch.float32).tiny
    mean, variance = norm.running_mean.double(), norm.running_var.double().clamp_min(tiny)
    found = (moments[1] - moments[0].square()).clamp_min(tiny)
    ratio, shift = found / variance, (moments[0] - mean) / variance.sqrt()
    distance = (ratio + shift.square() - 1 - ratio.log()) / 2
    return LayerDistance(
        name, shift.abs().median().item(), ratio.sqrt().median().item(), _finite(distance.median().item())
    )


def _finite(distance: float) -> float:
    """Activations that overflow are as far away as can be."""
    return distance if distance == distance else float("inf")

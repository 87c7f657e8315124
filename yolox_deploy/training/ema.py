"""Averaged weights: those that are evaluated and exported. Source: yolox/utils/ema.py."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

WARMUP_UPDATES = 2000  # the average follows fast at first


class ModelEMA:
    """An exponential moving average of a model's floating point state, batch-norm statistics included."""

    def __init__(self, model: nn.Module, decay: float, updates: int = 0) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.full_decay = decay
        self.updates = updates

    @property
    def decay(self) -> float:
        """That of the latest update."""
        return self.full_decay * (1 - math.exp(-self.updates / WARMUP_UPDATES))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the model, by less and less."""
        self.updates += 1
        averages, values = self.model.state_dict(), model.state_dict()
        floating = [name for name, value in averages.items() if value.is_floating_point()]
        mine = [averages[name] for name in floating]
        torch._foreach_mul_(mine, self.decay)
        torch._foreach_add_(mine, [values[name].to(averages[name]) for name in floating], alpha=1 - self.decay)

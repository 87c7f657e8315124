"""The optimizer and what it may change."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from runtimes.errors import InvalidInput

from .recipe import Recipe


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer. Only weights that are no batch norm's decay; the order of the groups is the official one.

    Source: yolox/exp/yolox_base.py:get_optimizer.
    """
    norms, weights, biases = [], [], []
    for module in model.modules():
        if isinstance(getattr(module, "bias", None), nn.Parameter):
            biases.append(module.bias)
        if isinstance(module, _BatchNorm):  # those over all devices too
            norms.append(module.weight)
        elif isinstance(getattr(module, "weight", None), nn.Parameter):
            weights.append(module.weight)
    groups = [
        {"params": norms, "weight_decay": 0.0},
        {"params": weights, "weight_decay": recipe.weight_decay},
        {"params": biases, "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def freeze(model: nn.Module, prefixes: Sequence[str]) -> None:
    """Keep the parameters under these names as they are, such as "backbone" or "backbone.backbone.dark2".

    Raises `InvalidInput` for a name under which the model has none.
    """
    for prefix in prefixes:
        found = [value for name, value in model.named_parameters() if f"{name}.".startswith(f"{prefix}.")]
        if not found:
            tops = ", ".join(name for name, _ in model.named_children())
            raise InvalidInput(
                f"--freeze {prefix}: the model has nothing of that name. It has {tops} and parts of them."
            )
        for value in found:
            value.requires_grad_(False)


def set_training_mode(model: nn.Module, frozen: Sequence[str], freeze_norms: bool) -> None:
    """Training mode, in which batch norms that are frozen, or all of them, keep their statistics."""
    model.train()
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            inside = any(f"{name}.".startswith(f"{prefix}.") for prefix in frozen)
            if freeze_norms or inside:
                module.eval()

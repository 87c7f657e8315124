"""Parameters and GFLOPs as the official table counts them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def count_gflops(model: nn.Module, height: int, width: int) -> float:
    """Billions of operations for one image: 2 x (multiply-adds of the convolutions + 2 x outputs of the batch norms).

    Outputs of leaky ReLUs are added, those of SiLUs are not: so does thop, which the official figures come from. The
    model has to be on the "meta" device, where nothing is computed: instant for every variant.
    """
    operations = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal operations
        if isinstance(module, nn.Conv2d):
            operations += 2 * output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.BatchNorm2d):
            operations += 4 * output.numel()
        elif isinstance(module, nn.LeakyReLU):
            operations += 2 * output.numel()

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    with torch.inference_mode():
        model.eval()(torch.zeros(1, 3, height, width, device="meta"))
    for hook in hooks:
        hook.remove()
    return operations / 1e9

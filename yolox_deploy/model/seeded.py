"""Untrained weights that behave like trained ones: for demonstrations and tests of the tool chain."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from runtimes.preprocess import letterbox
from yolox_deploy.data.shapes import shapes_images

from .variants import VariantName
from .yolox import YOLOX


def seeded_model(variant: VariantName, num_classes: int = 80, seed: int = 0) -> YOLOX:
    """A model with weights drawn from `seed`, in eval mode. It detects nonsense, but with contrast.

    Freshly initialised weights would not do: every image gives nearly the same scores of 0.0001, so a broken export
    could not be told from a sound one. Larger ones neither: scores that saturate at 1 are ties, which any rounding
    breaks in its own way.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = YOLOX(variant, num_classes).eval()
        for layers, spread, bias in (
            (model.head.reg_preds, 0.1, 0.0),
            (model.head.obj_preds, 0.6, -4.0),
            (model.head.cls_preds, 0.3, -1.0),
        ):
            for layer in layers:
                assert isinstance(layer, nn.Conv2d)
                assert layer.bias is not None
                nn.init.normal_(layer.weight, std=spread / layer.in_channels**0.5)
                nn.init.constant_(layer.bias, bias)
    _settle_batch_norms(model)
    return model


def _settle_batch_norms(model: nn.Module) -> None:
    """Give every batch norm the statistics of real activations, so that signals neither vanish nor explode.

    One variance serves all channels of a layer: a channel that hardly varies would be blown up, and rounding errors
    with it, which is what training prevents.
    """

    def settle(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        norm.running_mean = inputs[0].mean(dim=(0, 2, 3))
        norm.running_var = inputs[0].var(dim=(0, 2, 3)).mean().expand(norm.num_features).clone()

    canvases = np.stack([letterbox(image, (256, 256))[0] for image in shapes_images(8)])
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(settle) for norm in norms]
    with torch.no_grad():
        model(torch.from_numpy(canvases).permute(0, 3, 1, 2).float())
    for hook in hooks:
        hook.remove()

"""YOLOX: backbone and neck, then the head."""

from __future__ import annotations

from torch import Tensor, nn

from runtimes.spec import Activation

from .darknet53 import YOLOFPN
from .head import YOLOXHead
from .pafpn import YOLOPAFPN
from .trained_with import BATCH_NORM_EPS
from .variants import VARIANTS, VariantName


class YOLOX(nn.Module):
    """The network alone: it knows no labels, no thresholds and has no mode but torch's own train and eval.

    activation: of every block; None for that of the official weights, SiLU, or leaky ReLU for Darknet-53.
    batch_norm_eps: of every batch norm. Weights trained with other values fit in, and give other results: neither shows
    in a state dict.
    """

    def __init__(
        self,
        variant: VariantName,
        num_classes: int = 80,
        activation: Activation | None = None,
        batch_norm_eps: float = BATCH_NORM_EPS,
    ) -> None:
        super().__init__()
        shape = VARIANTS[variant]
        act = activation or shape.activation
        self.variant = variant
        self.num_classes = num_classes
        self.activation: Activation = act
        self.batch_norm_eps = batch_norm_eps
        self.backbone: nn.Module
        if shape.darknet53:
            self.backbone = YOLOFPN(act)
            channels = (128, 256, 512)
        else:
            self.backbone = YOLOPAFPN(shape.depth, shape.width, shape.depthwise, act)
            channels = (int(256 * shape.width), int(512 * shape.width), int(1024 * shape.width))
        self.head = YOLOXHead(num_classes, channels, shape.width, shape.depthwise, act)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = batch_norm_eps

    def forward(self, images: Tensor) -> Tensor:
        """images (N, 3, H, W), BGR 0..255, H and W in multiples of 32, to raw predictions (N, A, 5 + C).

        Box values are in units of the anchor's stride and relative to its cell, objectness and classes are logits:
        `exporters.graph` and `runtimes.postprocess.decode` say how they become boxes and scores.
        """
        out: Tensor = self.head(self.backbone(images))
        return out

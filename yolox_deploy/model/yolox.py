"""YOLOX: backbone and neck, then the head."""

from __future__ import annotations

from torch import Tensor, nn

from .darknet53 import YOLOFPN
from .head import YOLOXHead
from .pafpn import YOLOPAFPN
from .variants import VARIANTS, VariantName


class YOLOX(nn.Module):
    """The network alone: it knows no labels, no thresholds and has no mode but torch's own train and eval."""

    def __init__(self, variant: VariantName, num_classes: int = 80) -> None:
        super().__init__()
        shape = VARIANTS[variant]
        self.variant = variant
        self.num_classes = num_classes
        self.backbone: nn.Module
        if shape.darknet53:
            self.backbone = YOLOFPN()
            channels, act = (128, 256, 512), "lrelu"
        else:
            self.backbone = YOLOPAFPN(shape.depth, shape.width, shape.depthwise)
            channels, act = (int(256 * shape.width), int(512 * shape.width), int(1024 * shape.width)), "silu"
        self.head = YOLOXHead(num_classes, channels, shape.width, shape.depthwise, act)

    def forward(self, images: Tensor) -> Tensor:
        """images (N, 3, H, W), BGR 0..255, H and W in multiples of 32, to raw predictions (N, A, 5 + C).

        Box values are in units of the anchor's stride and relative to its cell, objectness and classes are logits:
        `exporters.graph` and `runtimes.postprocess.decode` say how they become boxes and scores.
        """
        out: Tensor = self.head(self.backbone(images))
        return out

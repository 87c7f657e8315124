"""Darknet-53 and its feature pyramid, the paper's YOLOv3 baseline. Source: yolox/models/darknet.py, yolo_fpn.py."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import BaseConv, ResLayer, SPPBottleneck


def stage(inputs: int, blocks: int, act: str) -> list[nn.Module]:
    """Halve the size, double the channels, then residual blocks."""
    return [BaseConv(inputs, 2 * inputs, 3, 2, act=act), *(ResLayer(2 * inputs, act) for _ in range(blocks))]


class Darknet53(nn.Module):
    """(N, 3, H, W) to three feature maps of strides 8, 16 and 32 with 256, 512 and 512 channels."""

    def __init__(self, act: str = "lrelu") -> None:
        super().__init__()
        self.stem = nn.Sequential(BaseConv(3, 32, 3, act=act), *stage(32, 1, act))
        self.dark2 = nn.Sequential(*stage(64, 2, act))
        self.dark3 = nn.Sequential(*stage(128, 8, act))
        self.dark4 = nn.Sequential(*stage(256, 8, act))
        self.dark5 = nn.Sequential(
            *stage(512, 4, act),
            BaseConv(1024, 512, 1, act=act),
            BaseConv(512, 1024, 3, act=act),
            SPPBottleneck(1024, 512, act=act),
            BaseConv(512, 1024, 3, act=act),
            BaseConv(1024, 512, 1, act=act),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stride8 = self.dark3(self.dark2(self.stem(images)))
        stride16 = self.dark4(stride8)
        return stride8, stride16, self.dark5(stride16)


def embedding(inputs: int, narrow: int, wide: int, act: str) -> nn.Sequential:
    """Five convolutions, 1x1 and 3x3 in turn."""
    return nn.Sequential(
        BaseConv(inputs, narrow, 1, act=act),
        BaseConv(narrow, wide, 3, act=act),
        BaseConv(wide, narrow, 1, act=act),
        BaseConv(narrow, wide, 3, act=act),
        BaseConv(wide, narrow, 1, act=act),
    )


class YOLOFPN(nn.Module):
    """Darknet-53 and its top-down pyramid: strides 8, 16 and 32 with 128, 256 and 512 channels."""

    def __init__(self, act: str = "lrelu") -> None:
        super().__init__()
        self.backbone = Darknet53(act)
        self.out1_cbl = BaseConv(512, 256, 1, act=act)
        self.out1 = embedding(512 + 256, 256, 512, act)
        self.out2_cbl = BaseConv(256, 128, 1, act=act)
        self.out2 = embedding(256 + 128, 128, 256, act)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stride8, stride16, stride32 = self.backbone(images)
        stride16 = self.out1(torch.cat([self.upsample(self.out1_cbl(stride32)), stride16], dim=1))
        stride8 = self.out2(torch.cat([self.upsample(self.out2_cbl(stride16)), stride8], dim=1))
        return stride8, stride16, stride32

"""Darknet-53 and its feature pyramid, the paper's YOLOv3 baseline. Source: yolox/models/darknet.py, yolo_fpn.py."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import BaseConv, ResLayer, SPPBottleneck


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> BaseConv:
    return BaseConv(inputs, outputs, kernel, stride, act="lrelu")


def stage(inputs: int, blocks: int) -> list[nn.Module]:
    """Halve the size, double the channels, then residual blocks."""
    return [conv(inputs, 2 * inputs, 3, 2), *(ResLayer(2 * inputs) for _ in range(blocks))]


class Darknet53(nn.Module):
    """(N, 3, H, W) to three feature maps of strides 8, 16 and 32 with 256, 512 and 512 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 32, 3), *stage(32, 1))
        self.dark2 = nn.Sequential(*stage(64, 2))
        self.dark3 = nn.Sequential(*stage(128, 8))
        self.dark4 = nn.Sequential(*stage(256, 8))
        self.dark5 = nn.Sequential(
            *stage(512, 4),
            conv(1024, 512, 1),
            conv(512, 1024, 3),
            SPPBottleneck(1024, 512, act="lrelu"),
            conv(512, 1024, 3),
            conv(1024, 512, 1),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stride8 = self.dark3(self.dark2(self.stem(images)))
        stride16 = self.dark4(stride8)
        return stride8, stride16, self.dark5(stride16)


def embedding(inputs: int, narrow: int, wide: int) -> nn.Sequential:
    """Five convolutions, 1x1 and 3x3 in turn."""
    return nn.Sequential(
        conv(inputs, narrow, 1),
        conv(narrow, wide, 3),
        conv(wide, narrow, 1),
        conv(narrow, wide, 3),
        conv(wide, narrow, 1),
    )


class YOLOFPN(nn.Module):
    """Darknet-53 and its top-down pyramid: strides 8, 16 and 32 with 128, 256 and 512 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Darknet53()
        self.out1_cbl = conv(512, 256, 1)
        self.out1 = embedding(512 + 256, 256, 512)
        self.out2_cbl = conv(256, 128, 1)
        self.out2 = embedding(256 + 128, 128, 256)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stride8, stride16, stride32 = self.backbone(images)
        stride16 = self.out1(torch.cat([self.upsample(self.out1_cbl(stride32)), stride16], dim=1))
        stride8 = self.out2(torch.cat([self.upsample(self.out2_cbl(stride16)), stride8], dim=1))
        return stride8, stride16, stride32

"""PAFPN: the neck of YOLOX nano to x, with its backbone inside (as in the official checkpoints).

Source: yolox/models/yolo_pafpn.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import BaseConv, CSPLayer, spatial_conv
from .csp_darknet import CSPDarknet


class YOLOPAFPN(nn.Module):
    """(N, 3, H, W) to three feature maps of strides 8, 16, 32 with `int(256 | 512 | 1024 * width)` channels."""

    def __init__(self, depth: float, width: float, depthwise: bool, act: str = "silu") -> None:
        super().__init__()
        conv = spatial_conv(depthwise)
        small, middle, large = (int(channels * width) for channels in (256, 512, 1024))

        def csp(inputs: int, outputs: int) -> CSPLayer:
            return CSPLayer(inputs, outputs, round(3 * depth), shortcut=False, depthwise=depthwise, act=act)

        self.backbone = CSPDarknet(depth, width, depthwise, act)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.lateral_conv0 = BaseConv(large, middle, 1, act=act)
        self.C3_p4 = csp(2 * middle, middle)
        self.reduce_conv1 = BaseConv(middle, small, 1, act=act)
        self.C3_p3 = csp(2 * small, small)
        self.bu_conv2 = conv(small, small, 3, 2, act=act)
        self.C3_n3 = csp(2 * small, middle)
        self.bu_conv1 = conv(middle, middle, 3, 2, act=act)
        self.C3_n4 = csp(2 * middle, large)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stride8, stride16, stride32 = self.backbone(images)
        # Top down: what the deep levels know comes to the fine ones.
        lateral32 = self.lateral_conv0(stride32)
        stride16 = self.C3_p4(torch.cat([self.upsample(lateral32), stride16], dim=1))
        lateral16 = self.reduce_conv1(stride16)
        stride8 = self.C3_p3(torch.cat([self.upsample(lateral16), stride8], dim=1))
        # Bottom up: and back, with the fine levels' positions.
        stride16 = self.C3_n3(torch.cat([self.bu_conv2(stride8), lateral16], dim=1))
        stride32 = self.C3_n4(torch.cat([self.bu_conv1(stride16), lateral32], dim=1))
        return stride8, stride16, stride32

"""CSPDarknet, the backbone of YOLOX nano to x. Source: yolox/models/darknet.py."""

from __future__ import annotations

from torch import Tensor, nn

from .blocks import CSPLayer, Focus, SPPBottleneck, spatial_conv


class CSPDarknet(nn.Module):
    """(N, 3, H, W) to three feature maps of strides 8, 16 and 32 with 4, 8 and 16 times `int(64 * width)` channels."""

    def __init__(self, depth: float, width: float, depthwise: bool, act: str = "silu") -> None:
        super().__init__()
        conv = spatial_conv(depthwise)
        base, blocks = int(64 * width), max(round(3 * depth), 1)
        self.stem = Focus(3, base, act)
        self.dark2 = nn.Sequential(
            conv(base, 2 * base, 3, 2, act=act),
            CSPLayer(2 * base, 2 * base, blocks, depthwise=depthwise, act=act),
        )
        self.dark3 = nn.Sequential(
            conv(2 * base, 4 * base, 3, 2, act=act),
            CSPLayer(4 * base, 4 * base, 3 * blocks, depthwise=depthwise, act=act),
        )
        self.dark4 = nn.Sequential(
            conv(4 * base, 8 * base, 3, 2, act=act),
            CSPLayer(8 * base, 8 * base, 3 * blocks, depthwise=depthwise, act=act),
        )
        self.dark5 = nn.Sequential(
            conv(8 * base, 16 * base, 3, 2, act=act),
            SPPBottleneck(16 * base, 16 * base, act),
            CSPLayer(16 * base, 16 * base, blocks, shortcut=False, depthwise=depthwise, act=act),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stride8 = self.dark3(self.dark2(self.stem(images)))
        stride16 = self.dark4(stride8)
        return stride8, stride16, self.dark5(stride16)

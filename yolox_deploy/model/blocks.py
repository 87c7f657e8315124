"""The building blocks of YOLOX. Attribute names are the official ones: they are the keys of its checkpoints.

A block that has an exact, cheaper equivalent at inference offers it as `inference_form()`; exporters swap it in.
Source: yolox/models/network_blocks.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .trained_with import BATCH_NORM_EPS

# Every official YOLOX variant trains and runs with this and with BATCH_NORM_EPS. What another eps costs depends on the
# weights: torch's own, 1e-5, about 1 AP for the official ones; for some that were trained with 1e-5, the official one
# costs most of their AP.
BATCH_NORM_MOMENTUM = 0.03


def make_activation(name: str) -> nn.Module:
    """Make an activation by its official name: "silu", "relu", or "lrelu" for leaky ReLU with slope 0.1."""
    if name == "relu":
        return nn.ReLU(inplace=True)
    return nn.SiLU(inplace=True) if name == "silu" else nn.LeakyReLU(0.1, inplace=True)


class BaseConv(nn.Module):
    """Convolution, batch norm, activation. Padding keeps the size at stride 1."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: str = "silu"
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=(kernel - 1) // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM)
        self.act = make_activation(act)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out

    def inference_form(self) -> nn.Module:
        """The batch norm folded into the convolution."""
        return nn.Sequential(fuse_conv_bn_eval(self.conv, self.bn), self.act)


class DWConv(nn.Module):
    """Depthwise convolution, then pointwise convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, act: str = "silu") -> None:
        super().__init__()
        self.dconv = BaseConv(inputs, inputs, kernel, stride, groups=inputs, act=act)
        self.pconv = BaseConv(inputs, outputs, 1, act=act)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pconv(self.dconv(x))
        return out


def spatial_conv(depthwise: bool) -> type[BaseConv] | type[DWConv]:
    """The class that a variant uses for convolutions larger than 1x1."""
    return DWConv if depthwise else BaseConv


class Bottleneck(nn.Module):
    """1x1, then 3x3 convolution, added to the input where `shortcut`."""

    def __init__(self, channels: int, shortcut: bool, depthwise: bool, act: str = "silu") -> None:
        super().__init__()
        self.conv1 = BaseConv(channels, channels, 1, act=act)
        self.conv2 = spatial_conv(depthwise)(channels, channels, 3, act=act)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(x))
        return x + out if self.shortcut else out


class ResLayer(nn.Module):
    """Darknet-53's residual block: 1x1 to half the channels, 3x3 back, added to the input."""

    def __init__(self, channels: int, act: str = "lrelu") -> None:
        super().__init__()
        self.layer1 = BaseConv(channels, channels // 2, 1, act=act)
        self.layer2 = BaseConv(channels // 2, channels, 3, act=act)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layer2(self.layer1(x))
        return out


class CSPLayer(nn.Module):
    """Cross-stage partial layer: one half of the channels passes through the bottlenecks, the other around them."""

    def __init__(
        self, inputs: int, outputs: int, depth: int, shortcut: bool = True, depthwise: bool = False, act: str = "silu"
    ) -> None:
        super().__init__()
        hidden = outputs // 2
        self.conv1 = BaseConv(inputs, hidden, 1, act=act)
        self.conv2 = BaseConv(inputs, hidden, 1, act=act)
        self.conv3 = BaseConv(2 * hidden, outputs, 1, act=act)
        self.m = nn.Sequential(*(Bottleneck(hidden, shortcut, depthwise, act) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv3(torch.cat([self.m(self.conv1(x)), self.conv2(x)], dim=1))
        return out


class SPPBottleneck(nn.Module):
    """Spatial pyramid pooling: max-pools of 5, 9 and 13 beside each other."""

    def __init__(self, inputs: int, outputs: int, act: str = "silu") -> None:
        super().__init__()
        hidden = inputs // 2
        self.conv1 = BaseConv(inputs, hidden, 1, act=act)
        self.m = nn.ModuleList(nn.MaxPool2d(kernel, stride=1, padding=kernel // 2) for kernel in (5, 9, 13))
        self.conv2 = BaseConv(4 * hidden, outputs, 1, act=act)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        out: Tensor = self.conv2(torch.cat([x, *(pool(x) for pool in self.m)], dim=1))
        return out

    def inference_form(self) -> nn.Module:
        """Three 5x5 pools in a row: each sees what the 5, 9 and 13 ones see. Bit-exact and cheaper."""
        return CascadedSPP(self.conv1, self.conv2)


class CascadedSPP(nn.Module):
    """SPPBottleneck with its pools in a row."""

    def __init__(self, conv1: nn.Module, conv2: nn.Module) -> None:
        super().__init__()
        self.conv1 = conv1
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.conv2 = conv2

    def forward(self, x: Tensor) -> Tensor:
        levels = [self.conv1(x)]
        for _ in range(3):
            levels.append(self.pool(levels[-1]))
        out: Tensor = self.conv2(torch.cat(levels, dim=1))
        return out


class Focus(nn.Module):
    """Every 2x2 block of pixels into channels, then a 3x3 convolution: (N, 3, H, W) to (N, C, H / 2, W / 2)."""

    # (row, column) of the pixel of each 2x2 block that fills the channel group 0, 1, 2, 3.
    PIXELS = ((0, 0), (1, 0), (0, 1), (1, 1))

    def __init__(self, inputs: int, outputs: int, act: str = "silu") -> None:
        super().__init__()
        self.conv = BaseConv(4 * inputs, outputs, 3, act=act)

    def forward(self, x: Tensor) -> Tensor:
        groups = [x[..., row::2, column::2] for row, column in self.PIXELS]
        out: Tensor = self.conv(torch.cat(groups, dim=1))
        return out

    def inference_form(self) -> nn.Module:
        """One 6x6 convolution of stride 2: no slices in the graph, which several backends cannot run well or at all."""
        weight = self.conv.conv.weight.detach()  # (outputs, 4 * inputs, 3, 3)
        outputs, inputs = weight.shape[0], weight.shape[1] // 4
        wide = weight.new_zeros(outputs, inputs, 6, 6)
        for group, (row, column) in enumerate(self.PIXELS):
            wide[:, :, row::2, column::2] = weight[:, group * inputs : (group + 1) * inputs]
        conv = nn.Conv2d(inputs, outputs, kernel_size=6, stride=2, padding=2, bias=False).to(weight)
        conv.weight.data.copy_(wide)
        return nn.Sequential(fuse_conv_bn_eval(conv.eval(), self.conv.bn), self.conv.act)

"""The decoupled, anchor-free head. Source: yolox/models/yolo_head.py; paper section 2.1."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .blocks import BaseConv, spatial_conv

# Objectness and class scores start at this probability, so that the first steps are not swamped by background.
PRIOR_PROBABILITY = 0.01


class YOLOXHead(nn.Module):
    """Three feature maps to raw predictions.

    channels: of each feature map; width: of the head's own convolutions, times 256.
    """

    def __init__(self, num_classes: int, channels: Sequence[int], width: float, depthwise: bool, act: str) -> None:
        super().__init__()
        conv, hidden = spatial_conv(depthwise), int(256 * width)
        self.channels_last = False

        def branch() -> nn.Sequential:
            return nn.Sequential(conv(hidden, hidden, 3, act=act), conv(hidden, hidden, 3, act=act))

        def prediction(outputs: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(hidden, outputs, 1) for _ in channels)

        self.cls_convs = nn.ModuleList(branch() for _ in channels)
        self.reg_convs = nn.ModuleList(branch() for _ in channels)
        self.cls_preds = prediction(num_classes)
        self.reg_preds = prediction(4)
        self.obj_preds = prediction(1)
        self.stems = nn.ModuleList(BaseConv(inputs, hidden, 1, act=act) for inputs in channels)
        for layer in (*self.cls_preds, *self.obj_preds):
            assert isinstance(layer, nn.Conv2d) and layer.bias is not None
            nn.init.constant_(layer.bias, -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Feature maps (N, c, h, w) to (N, A, 5 + C): box, objectness, classes; levels in order, each row-major."""
        levels = []
        for level, feature in enumerate(features):
            stem = self.stems[level](feature)
            boxes = self.reg_convs[level](stem)
            classes = self.cls_convs[level](stem)
            parts = [self.reg_preds[level](boxes), self.obj_preds[level](boxes), self.cls_preds[level](classes)]
            if self.channels_last:
                rows = [part.permute(0, 2, 3, 1).flatten(1, 2) for part in parts]  # (N, h * w, c)
                levels.append(torch.cat(rows, dim=2))
            else:
                levels.append(torch.cat(parts, dim=1).flatten(2))  # (N, 5 + C, h * w)
        return torch.cat(levels, dim=1) if self.channels_last else torch.cat(levels, dim=2).transpose(1, 2)

    def channels_last_form(self) -> YOLOXHead:
        """The same with the channels turned last before the levels are joined: a few percent of Nano in OpenVINO."""
        turned = copy.copy(self)
        turned.channels_last = True
        return turned

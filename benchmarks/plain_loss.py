"""A training step's parts as the official code writes them, to measure ours against: boxes decoded level by level, a
tensor of objects x anchors x classes for each image, a loop over its objects, and one over the averaged weights.

Source: yolox/models/yolo_head.py:get_output_and_grid, get_losses, get_assignments; yolox/utils/ema.py.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, one_hot

from yolox_deploy.training.assigner import CENTRE_RADIUS, IOU_COST, MAX_ANCHORS, OUTSIDE_COST, pairwise_iou
from yolox_deploy.training.loss import BOX_WEIGHT, bce, paired_iou


class PlainEMA:
    """`ModelEMA`, tensor by tensor."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.full_decay, self.updates = copy.deepcopy(model).eval(), decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates += 1
        decay = self.full_decay * (1 - math.exp(-self.updates / 2000))
        values = model.state_dict()
        for name, average in self.model.state_dict().items():
            if average.is_floating_point():
                average *= decay
                average += (1 - decay) * values[name].detach()


class PlainLoss(nn.Module):
    """As `YOLOXLoss`, without L1; returns the total."""

    def forward(self, predictions: Tensor, targets: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        predictions, cells, strides = plain_decode(predictions, size)
        boxes = predictions[..., :4]
        classes, labels, masks = [], [], []
        for image, rows in zip(range(len(boxes)), targets, strict=True):
            mask, objects, ious = plain_assign(boxes[image], predictions[image, :, 4:], cells, strides, rows)
            masks.append(mask)
            labels.append(rows[objects, 1:])
            classes.append(one_hot(rows[objects, 0].long(), predictions.shape[2] - 5) * ious[:, None])
        foreground = torch.cat(masks)
        count = max(int(foreground.sum()), 1)
        iou = paired_iou(boxes.reshape(-1, 4)[foreground], torch.cat(labels))
        box = (1 - iou**2).sum()
        objectness = bce(predictions[..., 4].reshape(-1), foreground.float())
        classification = bce(predictions[..., 5:].reshape(len(foreground), -1)[foreground], torch.cat(classes))
        return (BOX_WEIGHT * box + objectness + classification) / count


def plain_decode(predictions: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes in input pixels, level by level, joined again; the cells (A, 2) and strides (A, 1)."""
    outputs, grids, steps, start = [], [], [], 0
    for stride in (8, 16, 32):
        rows, columns = size[0] // stride, size[1] // stride
        output = predictions[:, start : start + rows * columns]
        start += rows * columns
        ys, xs = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        grid = torch.stack((xs, ys), 2).view(1, -1, 2).to(predictions)
        decoded = torch.cat([(output[..., :2] + grid) * stride, torch.exp(output[..., 2:4]) * stride], dim=-1)
        outputs.append(torch.cat([decoded, output[..., 4:]], dim=-1))
        grids.append(grid[0])
        steps.append(torch.full_like(grid[0, :, :1], stride))
    return torch.cat(outputs, 1), torch.cat(grids), torch.cat(steps)


@torch.no_grad()
def plain_assign(
    predicted: Tensor, logits: Tensor, cells: Tensor, strides: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of one image: which anchors are positive (A,), the object of each positive and its IoU."""
    centres, reach = (cells + 0.5) * strides, strides * CENTRE_RADIUS
    low = centres[None] - (rows[:, None, 1:3] - reach[None])
    high = (rows[:, None, 1:3] + reach[None]) - centres[None]
    inside = torch.stack([low[..., 0], low[..., 1], high[..., 0], high[..., 1]], 2).min(dim=-1).values > 0  # (G, A)
    mask = inside.sum(dim=0) > 0
    inside = inside[:, mask]
    ious = pairwise_iou(rows[:, 1:], predicted[mask])
    truth = one_hot(rows[:, 0].long(), logits.shape[1] - 1).float()[:, None].repeat(1, ious.shape[1], 1)
    scores = (logits[mask, 1:].sigmoid() * logits[mask, :1].sigmoid()).sqrt()[None].repeat(len(rows), 1, 1)
    entropy = binary_cross_entropy(scores, truth, reduction="none").sum(-1)
    cost = entropy - IOU_COST * torch.log(ious + 1e-8) + OUTSIDE_COST * (~inside)
    matching = torch.zeros_like(cost)
    wanted = ious.topk(min(MAX_ANCHORS, ious.shape[1]), dim=1)[0].sum(1).int().clamp(min=1)
    for index in range(len(rows)):
        _, chosen = torch.topk(cost[index], k=int(wanted[index]), largest=False)
        matching[index][chosen] = 1
    twice = matching.sum(0) > 1
    if twice.any():
        owner = cost[:, twice].argmin(0)
        matching[:, twice] = 0
        matching[owner, twice] = 1
    taken = matching.sum(0) > 0
    mask[mask.clone()] = taken
    objects = matching[:, taken].argmax(0)
    return mask, objects, (matching * ious).sum(0)[taken]

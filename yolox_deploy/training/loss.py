"""The criterion: raw predictions and labels to the loss and its parts. Source: yolox/models/yolo_head.py:get_losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from runtimes.postprocess import anchor_grid

from .assigner import assign

BOX_WEIGHT = 5.0


@dataclass(frozen=True)
class Losses:
    """Scalars, divided by the number of positives. `total` is what is minimised; `box` is weighted already.

    positives: what they were divided by, the number of anchors that learn an object, or 1. objects: in the labels.
    """

    total: Tensor
    box: Tensor
    objectness: Tensor
    classes: Tensor
    l1: Tensor
    positives: Tensor
    objects: int

    def items(self) -> dict[str, float]:
        """The parts by name, as numbers."""
        names = ("total", "box", "objectness", "classes", "l1")
        return dict(zip(names, torch.stack([getattr(self, name).detach() for name in names]).tolist(), strict=True))


class YOLOXLoss(nn.Module):
    """`criterion(model(images), targets, size)`.

    strides: of the model's levels. reduce_positives: what makes of this process's positives the number to divide by,
    such as their mean over all processes.
    """

    def __init__(
        self, strides: Sequence[int] = (8, 16, 32), reduce_positives: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.reduce_positives = reduce_positives
        self._grids: dict[tuple[tuple[int, int], torch.device], tuple[Tensor, Tensor]] = {}

    def forward(
        self, predictions: Tensor, targets: Sequence[Tensor], size: tuple[int, int], use_l1: bool = False
    ) -> Losses:
        """predictions: (N, A, 5 + C) raw. targets: for each image (G, 5) float32, class index, centre x, y, width,
        height in pixels of the input. size: (height, width) of the input. use_l1: add the L1 loss on raw boxes, as in
        the last epochs.

        Computed in float32 whatever the predictions are: half precision would round box coordinates to half pixels.
        """
        with torch.autocast(predictions.device.type, enabled=False):
            return self._losses(predictions.float(), [labels.float() for labels in targets], size, use_l1)

    def _losses(self, predictions: Tensor, targets: Sequence[Tensor], size: tuple[int, int], use_l1: bool) -> Losses:
        cells, strides = self._grid(size, predictions.device)
        raw = predictions.detach()
        found = assign(decode(raw[..., :4], cells, strides), raw[..., 4:], targets, size, self.strides)
        labels = torch.cat([labels[found.objects[found.images == index]] for index, labels in enumerate(targets)])

        count = self._divisor(predictions, len(found.anchors))
        chosen = predictions[found.images, found.anchors]  # (P, 5 + C)
        cells, strides = cells[found.anchors], strides[found.anchors]
        iou = paired_iou(decode(chosen[:, :4], cells, strides), labels[:, 1:])
        box = BOX_WEIGHT * (1 - iou**2).sum() / count
        is_object = torch.zeros_like(predictions[..., 4])
        is_object[found.images, found.anchors] = 1
        objectness = bce(predictions[..., 4], is_object) / count
        learned = one_hot(labels[:, 0].long(), predictions.shape[2] - 5) * found.ious[:, None]
        classes = bce(chosen[:, 5:], learned) / count
        l1 = box.new_zeros(())
        if use_l1:
            l1 = (chosen[:, :4] - encode(labels[:, 1:], cells, strides)).abs().sum() / count
        total = box + objectness + classes + l1
        return Losses(total, box, objectness, classes, l1, count, sum(map(len, targets)))

    def _divisor(self, predictions: Tensor, positives: int) -> Tensor:
        count = predictions.new_tensor(float(positives))
        return (self.reduce_positives(count) if self.reduce_positives else count).clamp(min=1)

    def _grid(self, size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Cells (A, 2) and strides (A, 1) of an input size, kept for the next batch of that size."""
        if (size, device) not in self._grids:
            cells, strides = anchor_grid(size, self.strides)
            self._grids[size, device] = torch.from_numpy(cells).to(device), torch.from_numpy(strides).to(device)
        return self._grids[size, device]


def decode(raw: Tensor, cells: Tensor, strides: Tensor) -> Tensor:
    """Raw boxes (..., A, 4) to centre form in input pixels; the inverse of `encode`."""
    return torch.cat([(raw[..., :2] + cells) * strides, raw[..., 2:].exp() * strides], dim=-1)


def encode(boxes: Tensor, cells: Tensor, strides: Tensor) -> Tensor:
    """What raw boxes (P, 4) ought to be; boxes in centre form, input pixels."""
    return torch.cat([boxes[:, :2] / strides - cells, torch.log(boxes[:, 2:] / strides + 1e-8)], dim=1)


def paired_iou(left: Tensor, right: Tensor) -> Tensor:
    """(P, 4) and (P, 4), centre form, to (P,)."""
    top_left = torch.maximum(left[:, :2] - left[:, 2:] / 2, right[:, :2] - right[:, 2:] / 2)
    bottom_right = torch.minimum(left[:, :2] + left[:, 2:] / 2, right[:, :2] + right[:, 2:] / 2)
    shared = (bottom_right - top_left).clamp(min=0).prod(dim=1)
    return shared / (left[:, 2:].prod(dim=1) + right[:, 2:].prod(dim=1) - shared + 1e-16)


def bce(logits: Tensor, targets: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits, targets, reduction="sum")

"""SimOTA: which anchors learn which objects. Source: paper section 2.1; yolox/models/yolo_head.py:get_assignments.

The class cost of the official code is a tensor of objects x anchors x classes. It is a sum over classes that depends on
the anchor alone, plus one term for the object's own class: memory for anchors x classes + objects x anchors, and the
same numbers. All images of a batch are assigned at once, their objects and candidates padded to the same count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

CENTRE_RADIUS = 1.5  # in strides: how far an anchor's centre may be from the object's
IOU_COST = 3.0
OUTSIDE_COST = 1e6  # of anchors outside the radius: taken only where an object has too few inside
MAX_ANCHORS = 10  # an object has at most as many as its best IoUs, of this many, add up to
LOG_FLOOR = -100.0  # as torch's binary cross entropy clamps logarithms
NOWHERE = -1e9  # the centre of a padded object: near no anchor


@dataclass(frozen=True)
class Assignment:
    """The P anchors of a batch that learn an object, image by image, anchors ascending.

    images, anchors, objects: (P,) int64, indices of the image, of the anchor and of the object among the image's.
    ious: (P,) float32, of the predicted box with the object's.
    """

    images: Tensor
    anchors: Tensor
    objects: Tensor
    ious: Tensor


@torch.no_grad()
def assign(
    predicted: Tensor, logits: Tensor, targets: Sequence[Tensor], size: tuple[int, int], strides: Sequence[int]
) -> Assignment:
    """Assign anchors to objects.

    predicted: (N, A, 4) decoded boxes, centre x, y, width, height in input pixels. logits: (N, A, 1 + C), objectness
    and classes. targets: N of (G, 5), class index and box as `predicted`. size: (height, width) of the input. All
    float32, on one device.
    """
    objects = pad_sequence(list(targets), batch_first=True, padding_value=NOWHERE)  # (N, G, 5)
    inside = near_centre(objects[..., 1:3], size, strides)  # (N, G, A)
    images, anchors = inside.any(dim=1).nonzero(as_tuple=True)  # of all candidates
    if len(images) == 0:
        return Assignment(images, anchors, anchors, predicted.new_zeros(0))
    candidates, real = _by_image(images, anchors, len(predicted))  # (N, K)
    ious = pairwise_iou(objects[..., 1:], _pick(predicted, candidates)) * real[:, None]  # (N, G, K)
    class_ids = objects[..., 0].clamp(min=0).long()
    cost = _class_cost(_pick(logits, candidates), class_ids) - IOU_COST * torch.log(ious + 1e-8)
    cost += OUTSIDE_COST * ~inside.gather(2, candidates[:, None].expand(-1, objects.shape[1], -1))
    cost.masked_fill_(~real[:, None] | (objects[..., :1] < 0), torch.inf)
    chosen = _choose(cost, ious)  # (N, G, K)
    images, places = chosen.any(dim=1).nonzero(as_tuple=True)
    learned = chosen.byte().argmax(dim=1)[images, places]
    return Assignment(images, candidates[images, places], learned, ious[images, learned, places])


def near_centre(centres: Tensor, size: tuple[int, int], strides: Sequence[int]) -> Tensor:
    """(N, G, 2) x, y to (N, G, A): whether an anchor's centre lies in the square around the object's centre.

    Near in x and near in y, level by level: so nothing but the result has G * A entries.
    """
    levels = []
    for stride in strides:
        near = []
        for axis, length in ((1, size[0]), (0, size[1])):
            places = (torch.arange(length // stride, device=centres.device) + 0.5) * stride
            near.append((places - centres[..., axis, None]).abs_() < CENTRE_RADIUS * stride)
        levels.append((near[0][..., :, None] & near[1][..., None, :]).flatten(2))
    return torch.cat(levels, dim=2)


def _by_image(images: Tensor, anchors: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Candidates listed one after another to (N, K) anchors, padded, and which of them are none of the padding."""
    lengths = images.bincount(minlength=count)
    real = torch.arange(int(lengths.max()), device=images.device) < lengths[:, None]
    candidates = torch.zeros_like(real, dtype=torch.int64)
    candidates[real] = anchors
    return candidates, real


def _pick(values: Tensor, candidates: Tensor) -> Tensor:
    """(N, A, D) at (N, K) to (N, K, D)."""
    return values[torch.arange(len(values), device=values.device)[:, None], candidates]


def pairwise_iou(left: Tensor, right: Tensor) -> Tensor:
    """(..., L, 4) and (..., R, 4), centre form, to (..., L, R)."""
    shared: Tensor | float = 1.0
    for axis in (0, 1):
        low = [boxes[..., axis] - boxes[..., axis + 2] / 2 for boxes in (left, right)]
        high = [boxes[..., axis] + boxes[..., axis + 2] / 2 for boxes in (left, right)]
        side = torch.minimum(high[0][..., None], high[1][..., None, :])
        side -= torch.maximum(low[0][..., None], low[1][..., None, :])
        shared = side.clamp_(min=0) * shared
    area_left, area_right = left[..., 2] * left[..., 3], right[..., 2] * right[..., 3]
    return shared / (area_left[..., None] + area_right[..., None, :] - shared)


def _class_cost(logits: Tensor, class_ids: Tensor) -> Tensor:
    """(N, K, 1 + C) and (N, G) to (N, G, K): cross entropy of sqrt(class * objectness) with the object's class."""
    scores = logits.sigmoid()
    scores = (scores[..., 1:] * scores[..., :1]).sqrt_()  # (N, K, C)
    absent = torch.log1p(-scores).clamp_(min=LOG_FLOOR)  # minus the cost of a class that is not the object's
    index = class_ids[:, None].expand(-1, logits.shape[1], -1)  # (N, K, G)
    own = absent.gather(2, index) - scores.gather(2, index).log_().clamp_(min=LOG_FLOOR)
    return own.sub_(absent.sum(dim=2, keepdim=True)).mT


def _choose(cost: Tensor, ious: Tensor) -> Tensor:
    """(N, G, K) bool: the cheapest anchors of each object, as many as its best IoUs add up to; no anchor twice."""
    count = min(MAX_ANCHORS, cost.shape[2])
    wanted = ious.topk(count, dim=2)[0].sum(dim=2).int().clamp_(min=1)  # (N, G)
    cheapest = cost.topk(count, dim=2, largest=False)[1]  # (N, G, count), best first
    chosen = torch.zeros_like(cost, dtype=torch.bool)
    chosen.scatter_(2, cheapest, torch.arange(count, device=cost.device) < wanted[..., None])
    chosen &= cost.isfinite()  # nothing of the padding
    # An anchor that several want goes to the object for which it is cheapest, even if that one did not want it.
    twice = chosen.sum(dim=1, keepdim=True) > 1
    owner = torch.zeros_like(chosen).scatter_(1, cost.argmin(dim=1, keepdim=True), True)
    return torch.where(twice, owner, chosen)

"""The loss and its assignments against numbers that the official code produced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from yolox_deploy.model.checkpoint import Checkpoint
from yolox_deploy.training.assigner import assign
from yolox_deploy.training.loss import YOLOXLoss, decode, encode, paired_iou

SIZE = (416, 416)


@pytest.fixture(scope="module")
def step(golden: Path) -> dict[str, Any]:
    return dict(np.load(golden / "train_step.npz"))


def labels_of(step: dict[str, Any]) -> list[Tensor]:
    """The zero-padded labels of the golden batch without the padding."""
    return [torch.from_numpy(rows[rows.sum(axis=1) > 0]) for rows in step["targets"]]


@pytest.mark.parametrize("use_l1", [False, True])
def test_every_part_and_gradient_is_the_official_one(
    use_l1: bool, step: dict[str, Any], golden: Path, nano_checkpoint: Checkpoint
) -> None:
    expected = json.loads((golden / "loss.json").read_text())["with_l1" if use_l1 else "without_l1"]
    model = nano_checkpoint.build().train()
    predictions = model(torch.from_numpy(step["images"]).float())
    losses = YOLOXLoss()(predictions, labels_of(step), SIZE, use_l1)
    losses.total.backward()
    names = {
        "total": "total_loss",
        "box": "iou_loss",
        "objectness": "conf_loss",
        "classes": "cls_loss",
        "l1": "l1_loss",
    }
    for name, value in losses.items().items():
        assert value == pytest.approx(expected[names[name]], rel=1e-4), name
    assert float(losses.positives) / losses.objects == pytest.approx(expected["num_fg"])
    norms = {name: float(value.grad.norm()) for name, value in model.named_parameters() if value.grad is not None}
    assert set(norms) == set(expected["grad_norm"])
    for name, norm in norms.items():
        assert norm == pytest.approx(expected["grad_norm"][name], rel=1e-3), name


def test_the_assignments_are_the_official_ones(step: dict[str, Any], nano_checkpoint: Checkpoint) -> None:
    model = nano_checkpoint.build().train()
    with torch.no_grad():
        predictions = model(torch.from_numpy(step["images"]).float())
    cells, strides = YOLOXLoss()._grid(SIZE, predictions.device)
    boxes = decode(predictions[..., :4], cells, strides)
    found = assign(boxes, predictions[..., 4:], labels_of(step), SIZE, (8, 16, 32))
    for index in range(len(predictions)):
        own = found.images == index
        assert found.anchors[own].tolist() == np.flatnonzero(step[f"fg_mask_{index}"]).tolist()
        assert found.objects[own].tolist() == step[f"matched_gt_{index}"].tolist()
        np.testing.assert_allclose(found.ious[own], step[f"matched_iou_{index}"], atol=1e-5)


def test_raw_boxes_and_boxes_are_inverse() -> None:
    raw = torch.randn(84, 4)
    cells, strides = YOLOXLoss()._grid((64, 64), raw.device)
    torch.testing.assert_close(encode(decode(raw, cells, strides), cells, strides), raw, atol=1e-4, rtol=1e-4)


def test_iou_of_pairs() -> None:
    left = torch.tensor([[10.0, 10, 10, 10], [10, 10, 10, 10], [10, 10, 4, 4]])
    right = torch.tensor([[10.0, 10, 10, 10], [15, 10, 10, 10], [30, 30, 4, 4]])
    torch.testing.assert_close(paired_iou(left, right), torch.tensor([1, 1 / 3, 0]))


def test_images_without_objects_learn_that_nothing_is_there() -> None:
    raw = torch.zeros(2, 84, 5 + 3, requires_grad=True)
    losses = YOLOXLoss()(raw, [torch.zeros(0, 5)] * 2, (64, 64), use_l1=True)
    assert losses.objects == 0
    assert float(losses.total.detach()) == pytest.approx(2 * 84 * np.log(2), rel=1e-5)
    losses.total.backward()
    assert raw.grad is not None and bool((raw.grad[..., 4] > 0).all())


def test_half_precision_predictions_are_weighed_in_full() -> None:
    """Targets of large images are not representable in half precision."""
    raw = torch.randn(1, 8400, 5 + 2).half()
    labels = torch.tensor([[1, 601.3, 333.7, 31.1, 27.9]])
    exact = YOLOXLoss()(raw.float(), [labels], (640, 640), use_l1=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = YOLOXLoss()(raw, [labels], (640, 640), use_l1=True)
    assert found.items() == exact.items()


def test_what_positives_are_divided_by_can_be_set() -> None:
    raw, labels = torch.randn(1, 84, 7), torch.tensor([[0, 30.0, 30, 20, 20]])
    one, half = (
        YOLOXLoss()(raw, [labels], (64, 64)),
        YOLOXLoss(reduce_positives=lambda n: n * 2)(raw, [labels], (64, 64)),
    )
    assert float(half.total) == pytest.approx(float(one.total) / 2, rel=1e-6)

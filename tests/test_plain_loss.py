"""What training is measured against computes the same as ours, or the measurement would mean nothing."""

from __future__ import annotations

import torch

from benchmarks.plain_loss import PlainEMA, PlainLoss
from benchmarks.train_step import TrainStepConfig, make_batch
from yolox_deploy.model.yolox import YOLOX
from yolox_deploy.training.ema import ModelEMA
from yolox_deploy.training.loss import YOLOXLoss


def test_the_plain_loss_and_its_gradient_are_ours() -> None:
    config = TrainStepConfig(batch=2)
    images, labels, size = make_batch(config, objects=12)
    torch.manual_seed(0)
    with torch.no_grad():
        predictions = YOLOX(config.model).train()(images)
    first, second = (predictions.clone().requires_grad_() for _ in range(2))
    plain, ours = PlainLoss()(first, labels, size), YOLOXLoss()(second, labels, size).total
    plain.backward()
    ours.backward()
    torch.testing.assert_close(plain, ours)
    torch.testing.assert_close(first.grad, second.grad)


def test_the_plain_average_is_ours() -> None:
    model = YOLOX("yolox-nano", 2)
    plain, ours = PlainEMA(model, 0.9998), ModelEMA(model, 0.9998)
    for value in model.parameters():
        value.data += 1
    plain.update(model)
    ours.update(model)
    for one, other in zip(plain.model.state_dict().values(), ours.model.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)

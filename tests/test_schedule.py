"""Learning rate, input size, averaged weights and parameter groups against the official numbers."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from runtimes.errors import InvalidInput
from yolox_deploy.model.variants import VARIANTS, VariantName
from yolox_deploy.model.yolox import YOLOX
from yolox_deploy.training.ema import ModelEMA
from yolox_deploy.training.optimizer import freeze, make_optimizer, set_training_mode
from yolox_deploy.training.recipe import Augmentation, Recipe, check_recipe, recipe_for, scaled_to
from yolox_deploy.training.schedule import Schedule


def test_the_learning_rate_is_the_official_one(golden: Path) -> None:
    expected = json.loads((golden / "lr_schedule.json").read_text())
    recipe = Recipe(batch=64, learning_rate=expected["lr"], epochs=expected["epochs"])
    schedule = Schedule(recipe, expected["iters_per_epoch"])
    for done, value in expected["values"].items():
        assert schedule.learning_rate(int(done)) == pytest.approx(value, rel=1e-12, abs=1e-18)


def test_the_learning_rate_scales_with_the_batch() -> None:
    small, large = (Schedule(Recipe(batch=batch), 100).learning_rate(5000) for batch in (16, 64))
    assert large == pytest.approx(4 * small)


def test_the_multi_scale_range_follows_the_input() -> None:
    assert scaled_to(recipe_for("yolox-nano"), 416).multi_scale == (320, 640)
    assert scaled_to(recipe_for("yolox-s"), 320).multi_scale == (256, 384)
    assert scaled_to(recipe_for("yolox-nano"), 64).multi_scale == (64, 96)
    assert scaled_to(replace(Recipe(), multi_scale=None), 64).multi_scale is None


def test_flat_cosine_stays_up_for_half_the_training() -> None:
    schedule = Schedule(recipe_for("yolox-s", "improved"), 10)
    assert [schedule.factor(step) for step in (10, 700, 1499, 3000)] == [1, 1, 1, 0.05]
    assert 0.05 < schedule.factor(2900) < schedule.factor(1600) < 1


@pytest.mark.parametrize(("faithful", "epochs"), [(False, 15), (True, 16)])
def test_the_tail(faithful: bool, epochs: int) -> None:
    schedule = Schedule(Recipe(), 10, faithful=faithful)
    assert sum(schedule.in_tail(step) for step in range(schedule.steps)) == 10 * epochs
    assert schedule.learning_rate(schedule.steps - 10 * 15) == pytest.approx(0.05 * 0.01 / 4)


def test_input_sizes_change_every_ten_steps_and_keep_the_aspect() -> None:
    schedule = Schedule(replace(Recipe(), input_size=(320, 640), multi_scale=(160, 480)), 100, seed=3)
    sizes = [schedule.input_size(step) for step in range(1000)]
    assert sizes[:10] == [(320, 640)] * 10
    assert all(len(set(sizes[start : start + 10])) == 1 for start in range(0, 1000, 10))
    assert {height for height, _ in sizes} == set(range(160, 481, 32))
    assert all(width == 2 * height for height, width in sizes)
    assert sizes == [Schedule(schedule.recipe, 100, seed=3).input_size(step) for step in range(1000)]
    fixed = Schedule(replace(Recipe(), multi_scale=None), 100)
    assert {fixed.input_size(step) for step in range(50)} == {(640, 640)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_recipe_of_each_variant(variant: VariantName) -> None:
    recipe = recipe_for(variant)
    check_recipe(recipe)
    small = variant in ("yolox-nano", "yolox-tiny")
    assert recipe.input_size == ((416, 416) if small else (640, 640))
    assert recipe.multi_scale == ((320, 640) if small else (480, 800))
    assert recipe.augmentation.mosaic == (0.5 if variant == "yolox-nano" else 1.0)
    assert recipe.augmentation.mixup == (0.0 if small else 1.0)
    assert recipe.augmentation.mosaic_scale == ((0.5, 1.5) if small else (0.1, 2.0))
    check_recipe(recipe_for(variant, "improved"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (Recipe(epochs=0), "--epochs must be positive, not 0"),
        (Recipe(input_size=(640, 600)), "--input-size is made of multiples of 32, not 640 600"),
        (Recipe(ema_decay=1.5), "--ema-decay must lie between 0 and 1"),
        (Recipe(augmentation=Augmentation(flip=2)), "--flip is a probability"),
        (Recipe(augmentation=Augmentation(mosaic_scale=(2, 1))), "--mosaic-scale is a range"),
        (Recipe(clip_gradients=0), "--clip-gradients must be positive"),
        (Recipe(multi_scale=(640, 320)), "--multi-scale is a range"),
    ],
)
def test_recipes_that_cannot_be(wrong: Recipe, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        check_recipe(wrong)


def test_the_average_is_the_official_one() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()
    average, expected = ModelEMA(model, 0.9998), {name: value.clone() for name, value in model.state_dict().items()}
    for update in range(1, 6):
        for value in model.state_dict().values():
            value += 1
        average.update(model)
        decay = 0.9998 * (1 - math.exp(-update / 2000))
        assert average.decay == decay
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value
    for name, value in average.model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-15)
    assert not any(value.requires_grad for value in average.model.parameters())


def test_only_weights_decay() -> None:
    model = YOLOX("yolox-nano", 3)
    norms, weights, biases = make_optimizer(model, Recipe()).param_groups
    decays = [group["weight_decay"] for group in (norms, weights, biases)]
    assert decays == [0, 5e-4, 0]
    assert all(value.ndim == 4 for value in weights["params"])
    assert all(value.ndim == 1 for value in norms["params"] + biases["params"])
    counted = sum(len(group["params"]) for group in (norms, weights, biases))
    assert counted == len(list(model.parameters()))
    over_all_devices = nn.SyncBatchNorm.convert_sync_batchnorm(YOLOX("yolox-nano", 3))
    synced = make_optimizer(over_all_devices, Recipe()).param_groups
    assert [len(group["params"]) for group in synced] == [len(group["params"]) for group in (norms, weights, biases)]
    assert isinstance(make_optimizer(model, recipe_for("yolox-nano", "improved")), torch.optim.AdamW)


def test_frozen_parts_stay() -> None:
    model = YOLOX("yolox-nano", 3)
    freeze(model, ["backbone.backbone"])
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith("backbone.backbone.")}
    set_training_mode(model, ["backbone.backbone"], freeze_norms=False)
    norms = {name: module.training for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert {name for name, training in norms.items() if not training} == {
        name for name in norms if name.startswith("backbone.backbone.")
    }
    set_training_mode(model, [], freeze_norms=True)
    assert not any(module.training for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    with pytest.raises(InvalidInput, match=r"--freeze neck: .* backbone, head"):
        freeze(model, ["neck"])

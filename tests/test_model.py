from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from exporters.graph import InferenceGraph, rewrite
from runtimes import ModelSpec
from runtimes.postprocess import decode_output
from yolox_deploy.model.blocks import Focus, SPPBottleneck
from yolox_deploy.model.checkpoint import Checkpoint, shapes
from yolox_deploy.model.flops import count_gflops, count_parameters
from yolox_deploy.model.seeded import seeded_model
from yolox_deploy.model.variants import VARIANTS, VariantName
from yolox_deploy.model.yolox import YOLOX

# Parameters, and GFLOPs as published (README of the official repository).
PUBLISHED: dict[VariantName, tuple[int, float]] = {
    "yolox-nano": (912_159, 1.08),
    "yolox-tiny": (5_055_855, 6.45),
    "yolox-s": (8_968_255, 26.8),
    "yolox-m": (25_326_495, 73.8),
    "yolox-l": (54_208_895, 155.6),
    "yolox-x": (99_071_455, 281.9),
    "yolox-darknet53": (63_724_767, 185.3),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_and_gflops_are_the_published_ones(variant: VariantName) -> None:
    with torch.device("meta"):
        model = YOLOX(variant)
    parameters, gflops = PUBLISHED[variant]
    side = VARIANTS[variant].input_size
    digits = 2 if gflops < 10 else 1
    assert count_parameters(model) == parameters
    assert round(count_gflops(model, side, side), digits) == gflops


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_key_and_shape_is_the_official_one(variant: VariantName, golden: Path) -> None:
    official = json.loads((golden / "state_dict_shapes.json").read_text())[variant]
    assert shapes(variant, 80) == {key: tuple(shape) for key, shape in official.items()}


def test_outputs_are_the_official_ones(golden: Path, nano_checkpoint: Checkpoint) -> None:
    """To 1e-4: scores absolutely, boxes relative to their size where that is above a pixel."""
    numbers = np.load(golden / "forward.npz")
    with torch.inference_mode():
        raw = nano_checkpoint.build()(torch.from_numpy(numbers["images"]).float())
    output = torch.cat([raw[..., :4], raw[..., 4:].sigmoid()], dim=-1).numpy()
    spec = ModelSpec("nano", (416, 416), tuple(map(str, range(80))), decoded=False)
    error = np.abs(decode_output(output, spec) - numbers["raw"])
    assert error[..., 4:].max() < 1e-4
    assert (error / np.maximum(1, np.abs(numbers["raw"]))).max() < 1e-4


@pytest.mark.parametrize("num_classes", [1, 3])
def test_any_class_count_and_size(num_classes: int) -> None:
    model = YOLOX("yolox-nano", num_classes).eval()
    with torch.inference_mode():
        assert model(torch.zeros(2, 3, 64, 96)).shape == (2, 8 * 12 + 4 * 6 + 2 * 3, 5 + num_classes)


def test_batch_norms_and_first_biases() -> None:
    model = YOLOX("yolox-nano")
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.03)}
    for layer in (*model.head.cls_preds, *model.head.obj_preds):
        assert isinstance(layer, nn.Conv2d)
        assert layer.bias is not None
        assert torch.allclose(layer.bias.sigmoid(), torch.tensor(0.01))


def test_focus_as_one_convolution_is_exact() -> None:
    torch.manual_seed(0)
    focus = Focus(3, 16).double().eval()
    focus.conv.bn.running_mean = torch.randn(16).double()
    focus.conv.bn.running_var = torch.rand(16).double() + 0.5
    images = torch.rand(2, 3, 64, 96).double() * 255
    assert (focus(images) - focus.inference_form()(images)).abs().max() < 1e-12 * 255


def test_pools_in_a_row_are_bit_exact() -> None:
    torch.manual_seed(0)
    pooling = SPPBottleneck(32, 32).eval()
    features = torch.randn(2, 32, 13, 20)
    assert torch.equal(pooling(features), pooling.inference_form()(features))


def test_rewriting_leaves_the_model_alone_and_every_slice_and_batch_norm_out(seeded_nano: YOLOX) -> None:
    before = {key: value.clone() for key, value in seeded_nano.state_dict().items()}
    kinds = {type(module) for module in rewrite(seeded_nano).modules()}
    assert nn.BatchNorm2d not in kinds
    assert Focus not in kinds
    assert all(torch.equal(value, before[key]) for key, value in seeded_nano.state_dict().items())


@pytest.mark.parametrize("variant", ["yolox-nano", "yolox-tiny", "yolox-darknet53"])
def test_the_rewritten_graph_is_the_model(variant: VariantName) -> None:
    """In float64, where rounding cannot hide a fault."""
    model = seeded_model(variant, num_classes=3).double()
    spec = ModelSpec(variant, (64, 96), ("a", "b", "c"), decoded=False)
    images = torch.rand(1, 3, 64, 96).double() * 255
    with torch.inference_mode():
        raw = model(images)
        found = InferenceGraph(model, spec).double()(images)
    expected = torch.cat([raw[..., :4], raw[..., 4:].sigmoid()], dim=-1)
    assert (found - expected).abs().max() < 1e-9


def test_seeded_weights_repeat_and_give_contrast() -> None:
    first, again, other = seeded_model("yolox-nano"), seeded_model("yolox-nano"), seeded_model("yolox-nano", seed=1)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in first.state_dict().items())
    assert not torch.equal(first.state_dict()["head.obj_preds.0.weight"], other.state_dict()["head.obj_preds.0.weight"])
    with torch.inference_mode():
        scores = first(torch.rand(1, 3, 256, 256) * 255)[..., 4].sigmoid()
    assert scores.max() > 0.25
    assert scores.min() < 0.01

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from exporters.sensitivity import Layer, SensitivityMap, measure_sensitivity
from runtimes import InvalidInput, ModelSpec
from runtimes.preprocess import Image
from yolox_deploy.model.checkpoint import Checkpoint
from yolox_deploy.model.seeded import seeded_model
from yolox_deploy.model.yolox import YOLOX


@pytest.fixture(scope="module")
def tiny_spec(small_spec: ModelSpec) -> ModelSpec:
    return replace(small_spec, input_size=(64, 96))


def test_every_convolution_is_measured_and_the_model_is_left_alone(
    seeded_nano: YOLOX, tiny_spec: ModelSpec, images: list[Image]
) -> None:
    before = {name: value.clone() for name, value in seeded_nano.state_dict().items()}
    names: list[str] = []
    found = measure_sensitivity(seeded_nano, tiny_spec, images[:2], lambda layers: names.extend(layers) or layers)
    assert list(found.layers) == names
    assert len(names) == 113
    assert sum(layer.error > 1e-6 for layer in found.layers.values()) > 60
    assert all(torch.equal(value, before[name]) for name, value in seeded_nano.state_dict().items())
    assert found.share(found.layers) == pytest.approx(1)


def test_a_layer_with_wild_channels_stands_out(tiny_spec: ModelSpec, images: list[Image]) -> None:
    """One input channel a thousand times larger than the others takes all the steps for itself."""
    model = seeded_model("yolox-nano")
    wild = model.get_submodule("backbone.backbone.dark2.0.dconv")
    source = model.get_submodule("backbone.backbone.stem.conv")
    with torch.no_grad():
        source.bn.weight[0] *= 1000  # type: ignore[union-attr, index, operator]
        source.bn.bias[0] += 1000  # type: ignore[union-attr, index, operator]
        wild.conv.weight[0] /= 1000  # type: ignore[union-attr, index, operator]
    found = measure_sensitivity(model, tiny_spec, images[:2])
    assert found.ranked[0] == "backbone.backbone.dark2.0.dconv.0"


def test_the_culprits_of_the_real_nano(nano_checkpoint: Checkpoint, small_spec: ModelSpec, shared: object) -> None:
    from yolox_deploy.data.images import ImageFiles, find_images

    folder = shared / "data" / "coco-train2017-128" / "train2017"  # type: ignore[operator]
    images = list(ImageFiles(find_images(folder))[:2])
    found = measure_sensitivity(nano_checkpoint.build(), small_spec, images)
    assert found.ranked[0] == "backbone.backbone.dark2.0.dconv.0"
    floats = found.in_float(0.02)
    assert "backbone.backbone.dark2.0.dconv.0" in floats
    assert found.share(floats) <= 0.02


def test_multiply_adds_are_those_of_the_layer(seeded_nano: YOLOX, small_spec: ModelSpec, images: list[Image]) -> None:
    found = measure_sensitivity(seeded_nano, small_spec, images[:1], lambda layers: layers[:1])
    assert {name: layer.macs for name, layer in found.layers.items()} == {
        "backbone.backbone.stem.0": 16 * 3 * 36 * 128 * 160
    }


EXAMPLE = SensitivityMap(
    "abc",
    "def",
    2,
    {"a": Layer(0.5, 10), "b": Layer(0.02, 70), "c": Layer(0.015, 10), "d": Layer(0.001, 10)},
)


def test_what_stays_in_float_is_the_most_error_for_the_least_work() -> None:
    assert EXAMPLE.in_float(0.05) == frozenset()
    assert EXAMPLE.in_float(0.1) == {"a"}
    assert EXAMPLE.in_float(0.25) == {"a", "c"}
    assert EXAMPLE.in_float(1) == set("abcd")
    costly_first = SensitivityMap("abc", "def", 2, {"stem": Layer(9, 30), "a": Layer(0.1, 5), "b": Layer(0.01, 65)})
    assert costly_first.in_float(0.1) == {"a"}  # the stem alone is too much work
    assert EXAMPLE.share(["a", "b"]) == pytest.approx(0.8)
    assert EXAMPLE.ranked == ["a", "b", "c", "d"]


def test_it_is_shown_and_kept() -> None:
    lines = str(EXAMPLE).splitlines()
    assert lines[1].split()[:3] == ["0.5000", "10.00%", "a"]
    assert lines[1].count("#") == 30
    assert SensitivityMap.from_json(EXAMPLE.to_json(), "map") == EXAMPLE


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"layers": {}}', '{"layers": {"a": 1}}', '{"layers": {"a": {"error": 1}}}']
)
def test_a_damaged_map_is_one_sentence(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"map\.json is not a sensitivity map"):
        SensitivityMap.from_json(text, "map.json")


def test_without_images(seeded_nano: YOLOX, tiny_spec: ModelSpec) -> None:
    with pytest.raises(InvalidInput, match="no images"):
        measure_sensitivity(seeded_nano, tiny_spec, np.zeros((0, 2, 2, 3), np.uint8))  # type: ignore[arg-type]

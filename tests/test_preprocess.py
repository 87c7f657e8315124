from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from runtimes import InvalidInput, ModelSpec
from runtimes.preprocess import letterbox, network_input, preprocess

SPEC = ModelSpec("m", (64, 96), ("cat",), batch=None)


def test_letterbox_is_byte_identical_to_the_official_one(golden: Path) -> None:
    numbers = np.load(golden / "letterbox.npz")
    cases = [name.removeprefix("in_") for name in numbers.files if name.startswith("in_")]
    assert len(cases) >= 6
    for case in cases:
        canvas, ratio = letterbox(numbers[f"in_{case}"], (416, 416))
        assert np.array_equal(canvas.transpose(2, 0, 1), numbers[f"out_{case}"])
        assert ratio == numbers[f"ratio_{case}"]


def test_every_width_follows_the_truncation_rule(random: np.random.Generator) -> None:
    """Scaled sides are cut, not rounded: 55 widths below 4066 come out as 639, not 640."""
    strip = random.integers(256, size=(40, 4065, 3), dtype=np.uint8)
    short = 0
    for width in range(1, 4066):
        image = strip[:, :width]
        ratio = min(640 / 40, 640 / width)
        scaled = cv2.resize(
            image, (max(int(width * ratio), 1), max(int(40 * ratio), 1)), interpolation=cv2.INTER_LINEAR
        )
        canvas, found = letterbox(image, (640, 640))
        assert found == ratio
        assert np.array_equal(canvas[: scaled.shape[0], : scaled.shape[1]], scaled)
        assert (canvas[scaled.shape[0] :] == 114).all()
        assert (canvas[:, scaled.shape[1] :] == 114).all()
        short += width >= 40 and scaled.shape[1] == 639
    assert short == 55


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 5000, 3), (5000, 1, 3), (3, 2, 3)])
def test_letterbox_of_extreme_shapes(shape: tuple[int, int, int]) -> None:
    canvas, ratio = letterbox(np.full(shape, 7, np.uint8), (64, 96))
    assert canvas.shape == (64, 96, 3)
    assert (canvas == 7).any()
    assert ratio > 0


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        None,
        "photo.jpg",
    ],
    ids=["grey", "RGBA", "float", "empty", "None", "path"],
)
def test_what_is_no_image_is_refused(image: Any) -> None:
    with pytest.raises(InvalidInput, match="an image must be"):
        letterbox(image, (64, 96))


def test_network_input_forms(random: np.random.Generator) -> None:
    canvases = random.integers(256, size=(2, 64, 96, 3), dtype=np.uint8)
    plain = network_input(canvases, SPEC)
    assert plain.dtype == np.float32
    assert np.array_equal(plain, canvases.transpose(0, 3, 1, 2))
    assert np.array_equal(network_input(canvases, replace(SPEC, channel_order="RGB")), plain[:, ::-1])
    as_bytes = network_input(canvases, replace(SPEC, uint8_input=True))
    assert as_bytes.dtype == np.uint8
    assert np.array_equal(as_bytes, canvases)


def test_legacy_normalisation_as_the_official_release_did_it(random: np.random.Generator) -> None:
    """Release 0.0.1: to RGB, / 255, minus mean, / std."""
    canvases = random.integers(256, size=(1, 64, 96, 3), dtype=np.uint8)
    expected = (canvases[0, :, :, ::-1] / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    for order in ("RGB", "BGR"):
        legacy = replace(SPEC, channel_order=order, normalization="imagenet")
        found = network_input(canvases, legacy)[0].transpose(1, 2, 0)
        assert np.abs((found if order == "RGB" else found[..., ::-1]) - expected).max() < 1e-5


def test_preprocess_joins_images_of_any_size() -> None:
    inputs, ratios = preprocess([np.zeros((32, 32, 3), np.uint8), np.zeros((128, 96, 3), np.uint8)], SPEC)
    assert inputs.shape == (2, 3, 64, 96)
    assert ratios == [2.0, 0.5]

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from runtimes import GraphNMS, InvalidInput, ModelSpec

SPEC = ModelSpec("m", (64, 96), ("cat", "dog"))


def test_json_round_trip() -> None:
    spec = replace(SPEC, nms=GraphNMS(0.25, 0.65), batch=None, normalization="imagenet", category_ids=(7, 3))
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_what_the_network_was_is_optional() -> None:
    """A spec from before these fields loads, and they are kept where they are there."""
    content = json.loads(SPEC.to_json())
    for name in ("activation", "batch_norm_eps"):
        assert content.pop(name) is None
    assert ModelSpec.from_dict(content) == SPEC
    known = replace(SPEC, activation="relu", batch_norm_eps=1e-5)
    assert ModelSpec.from_json(known.to_json()) == known


def test_anchors_and_default_ids() -> None:
    assert SPEC.num_anchors == 8 * 12 + 4 * 6 + 2 * 3
    assert SPEC.category_ids == (1, 2)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("input_size", (64, 90), "multiples of 32"),
        ("input_size", (64,), "input_size"),
        ("input_size", (0, 64), "input_size"),
        ("input_size", (64, 8224), "input_size"),
        ("class_names", (), "class_names"),
        ("category_ids", (1,), "category_ids"),
        ("channel_order", "GBR", "channel_order"),
        ("pad_value", 256, "pad_value"),
        ("batch", 0, "batch"),
        ("batch", True, "batch"),
        ("batch", 1025, "batch"),
        ("precision", "fp8", "precision"),
        ("activation", "mish", "activation"),
        ("batch_norm_eps", 0.0, "batch_norm_eps"),
        ("batch_norm_eps", True, "batch_norm_eps"),
        ("name", "", "name"),
        ("name", "../model", "name"),
        ("name", "a\\b", "name"),
        ("name", "\x1b[2J", "name"),
        ("class_names", ("cat", "dog\n"), "class_names"),
        ("class_names", ("cat", "x" * 201), "class_names"),
        ("class_names", "ab", "class_names"),
        ("class_names", {"0": "cat"}, "class_names"),
        ("class_names", None, "class_names"),
        ("class_names", ("cat", ""), "class_names"),
        ("category_ids", (1, 1), "twice"),
        ("strides", (5, 32), "strides"),
        ("strides", (0,), "strides"),
        ("strides", (8, 8, 32), "strides"),
        ("class_names", ("cat", "dog\u202e"), "class_names"),
    ],
)
def test_values_out_of_range_are_named(field: str, value: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        replace(SPEC, **{field: value})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[]", "no JSON object"),
        ("[" * 100_000, "not JSON"),
        (json.dumps({"name": "m", "input_size": [64, 64], "class_names": ["cat"]}), "missing field 'decoded'"),
        ("{}", "missing field 'batch'.*missing field 'class_names'"),
        (json.dumps({**json.loads(SPEC.to_json()), "extra": 1}), "unknown field 'extra'"),
        (json.dumps({**json.loads(SPEC.to_json()), "class_names": "cat"}), "class_names"),
        (json.dumps({**json.loads(SPEC.to_json()), "input_size": "64x96"}), "input_size"),
        (json.dumps({**json.loads(SPEC.to_json()), "nms": {"score": 1}}), "nms|score"),
        (json.dumps({**json.loads(SPEC.to_json()), "nms": {"score_threshold": 0.0, "nms_threshold": 0.5}}), "between"),
        (json.dumps({**json.loads(SPEC.to_json()), "strides": None}), "strides"),
    ],
)
def test_bad_spec_files_end_in_one_sentence(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        ModelSpec.from_json(text)


def test_limits_hold_together_too() -> None:
    with pytest.raises(InvalidInput, match="more than anybody runs"):
        replace(SPEC, input_size=(8192, 8192), batch=1024)


@pytest.mark.parametrize("name", ["a\u00a0b", "\u72ac", "\U0001f468\u200d\U0001f469", "caf\u00e9 (2)"])
def test_names_in_any_language(name: str) -> None:
    assert replace(SPEC, class_names=(name, *SPEC.class_names[1:])).class_names[0] == name

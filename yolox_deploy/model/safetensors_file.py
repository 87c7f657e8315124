"""Checkpoints as safetensors: weights in half precision and what they are, without any code. Half the size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from runtimes.errors import InvalidInput, first_line

from .mmdet_keys import StateDict
from .safe_load import check_size

SUFFIX = ".safetensors"
# Kept as JSON in the file's metadata: lists, and plain values.
LISTS = ("class_names", "category_ids", "input_size")
FACTS = (*LISTS, "activation", "batch_norm_eps", "preprocessing")


def read_safetensors(path: Path) -> dict[str, Any]:
    """The content as a dict in the official format, in float32. Raises `InvalidInput` for a damaged file."""
    from safetensors import SafetensorError, safe_open

    check_size(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
        found = {name: json.loads(metadata[name]) for name in FACTS if name in metadata}
        facts = {name: tuple(value) if name in LISTS else value for name, value in found.items()}
        floats = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    except (SafetensorError, ValueError, TypeError, RuntimeError) as error:  # RecursionError, NotImplementedError too
        raise InvalidInput(f"{path} is damaged, or no safetensors file: {first_line(error)}.") from None
    return {"model": floats, **facts}


def write_safetensors(state_dict: StateDict, facts: dict[str, Any], path: Path) -> None:
    """Convolution weights are rounded to float16; batch norms, whose variances can pass its range, stay as they are."""
    from safetensors.torch import save_file

    rounded = {name: (value.half() if value.ndim == 4 else value).contiguous() for name, value in state_dict.items()}
    if not all(torch.isfinite(value).all() for value in rounded.values()):
        raise InvalidInput("the weights hold values beyond the range of float16.")
    save_file(rounded, path, {name: json.dumps(facts[name]) for name in FACTS if facts.get(name)})

"""Calibration: which values the tensors of an ONNX graph take, and the range that int8 spends its steps on."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from runtimes.errors import InvalidInput
from runtimes.preprocess import Image, preprocess
from runtimes.spec import ModelSpec

Floats = npt.NDArray[np.floating[Any]]

SAMPLES = 2048  # values of each tensor, a batch, on which its range is chosen

# Ranges that are tried: shares of the largest value seen.
CUTS = np.linspace(0.3, 1, 36)


@dataclass(frozen=True)
class Observed:
    """What calibration saw of a tensor (N, C, H, W): range and mean of each channel (C,), and a sample of values."""

    low: Floats
    high: Floats
    mean: Floats
    sample: Floats


def calibration_batches(images: Sequence[Image], spec: ModelSpec) -> Iterator[npt.NDArray[Any]]:
    """The images as the artifact takes them, in its batch size; the last batch is filled up from the start."""
    size = spec.batch or 1
    for start in range(0, len(images), size):
        yield preprocess([images[index % len(images)] for index in range(start, start + size)], spec)[0]


def observe(model: onnx.ModelProto, tensors: Iterable[str], batches: Iterable[npt.NDArray[Any]]) -> dict[str, Observed]:
    """Run the model and watch tensors by name. Raises `InvalidInput` without batches."""
    random = np.random.default_rng(0)
    names = list(dict.fromkeys(tensors))
    seen: dict[str, list[Observed]] = {name: [] for name in names}
    session, source = _watching(model, names)
    for batch in batches:
        for name, values in zip(names, _values(session, source, names, batch), strict=True):
            axes = (0, 2, 3)
            mean = values.mean(axis=axes, dtype=np.float64)
            sample = random.choice(values.ravel(), SAMPLES)
            seen[name].append(Observed(values.min(axis=axes), values.max(axis=axes), mean, sample))
    if not all(seen.values()):
        raise InvalidInput("int8 needs calibration images.")
    return {
        name: Observed(
            np.min([one.low for one in all_], axis=0),
            np.max([one.high for one in all_], axis=0),
            np.mean([one.mean for one in all_], axis=0),
            np.concatenate([one.sample for one in all_]),
        )
        for name, all_ in seen.items()
    }


def _watching(model: onnx.ModelProto, names: Sequence[str]) -> tuple[Any, str]:
    """A session that gives the named tensors as well, and the name of its input."""
    model = copy.deepcopy(model)
    source = model.graph.input[0].name
    known = {source, *(value.name for value in model.graph.output)}
    new = [name for name in names if name not in known]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in new)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]), source


def _values(session: Any, source: str, names: Sequence[str], batch: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    rest = [name for name in names if name != source]
    values = dict(zip(rest, session.run(rest, {source: batch}), strict=True))
    return [batch if name == source else values[name] for name in names]


def best_range(observed: Observed, symmetric: bool) -> tuple[float, float]:
    """The range around 0 that rounds a tensor's sample with the least squared error. One scale for all channels."""
    low, high = min(float(observed.low.min()), 0.0), max(float(observed.high.max()), 1e-6)
    if symmetric:
        high = max(high, -low)
    best = min(CUTS, key=lambda cut: _rounding_error(observed.sample, -high * cut if symmetric else low, high * cut))
    return (-high * best if symmetric else low), high * best


def _rounding_error(values: Floats, low: float, high: float) -> float:
    step = (high - low) / 255
    zero = round(-low / step)
    rounded = (np.clip(np.round(values / step) + zero, 0, 255) - zero) * step
    return float(np.square(rounded - values).mean())


def channel_ranges(observed: Observed, floor: float) -> tuple[Floats, Floats]:
    """The lowest value of each channel, not below `floor`, and from there to its highest: (C,) and (C,).

    0 is one of the 256 values between them.
    """
    low = np.maximum(observed.low.astype(np.float64), floor).clip(max=0)
    reach = np.maximum(observed.high, 1e-2) - low
    return np.round(255 * low / reach) * reach / 255, reach

"""Write NCNN's `.param` and `.bin`. Reading is `runtimes.ncnn_format`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtimes.errors import InvalidInput
from runtimes.ncnn_format import FLAGS, Layer, Weights, to_param

FLAG_OF = {np.dtype(dtype): flag for flag, dtype in FLAGS.items()}


def write_model(path: Path, layers: Sequence[Layer], weights: Mapping[str, Weights]) -> Path:
    """Write graph and weights, in the order of the graph. Returns `path`, the `.param`."""
    path.write_text(to_param(layers), encoding="ascii")
    stored = [weights[layer.name] for layer in layers if layer.name in weights]
    path.with_suffix(".bin").write_bytes(b"".join(map(to_bytes, stored)))
    return path


def to_bytes(weights: Weights) -> bytes:
    """A convolution as it stands in the `.bin`: a flag, the weight padded to four bytes, bias, then int8 scales."""
    flag, weight = FLAG_OF[weights.weight.dtype].to_bytes(4, "little"), weights.weight.tobytes()
    rest = [values for values in (weights.bias, weights.weight_scales, weights.input_scale) if values is not None]
    return flag + weight + bytes(-len(weight) % 4) + b"".join(values.astype(np.float32).tobytes() for values in rest)


def to_half(weights: Mapping[str, Weights]) -> dict[str, Weights]:
    """Weights in half precision, rounded to the nearest, subnormal ones kept; biases stay float.

    ncnn's own conversion makes zeros of all weights below 6e-5, of which trained networks have many. Raises
    `InvalidInput` for a weight that half precision cannot hold.
    """
    return {name: replace(one, weight=_half(name, one)) for name, one in weights.items()}


def _half(name: str, weights: Weights) -> npt.NDArray[np.float16]:
    largest = np.abs(weights.weight).max()
    if not largest <= np.finfo(np.float16).max:
        raise InvalidInput(f"{name} has a weight of {largest:.3g}, too large for fp16: export as fp32.")
    return weights.weight.astype(np.float16)

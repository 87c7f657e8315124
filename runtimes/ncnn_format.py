"""NCNN's file format: `.param` (the graph, text) and `.bin` (the weights), read and checked.

NCNN trusts its files: a damaged one makes it read beyond its memory. So every weight is accounted for here, and every
shape in `ncnn_graph`, before native code sees the files. Sources: ncnn's wiki, "param and model file structure", and
`load_model` of its layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InvalidInput
from .json_file import check_regular
from .proof import weights_beside

MAGIC = "7767517"
CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise")
CONSTANT = "MemoryData"  # numbers as they stand in the `.bin`

# What stands before each weight, and how its values are stored.
FLAGS: dict[int, npt.DTypeLike] = {0: np.float32, 0x01306B47: np.float16, 0x000D4B38: np.int8}

PRINTABLE = re.compile(r"[\t\n\r -~]*")  # Python and C take different control characters for white space
TOKEN = re.compile(r"[!-~]{1,200}")
# Parameters are "key=value"; keys from -23300 down hold arrays, "count,value,value".
VALUE = r"-?\d{1,9}(?:\.\d{1,9})?(?:e[+-]?\d{1,2})?"
PARAMETER = re.compile(rf"(-?\d{{1,5}})=({VALUE}(?:,{VALUE})*)")
INTEGER = re.compile(r"-?\d+")


@dataclass(frozen=True)
class Layer:
    """One line of the graph. parameters: as they stand in the file, by NCNN's numbers for them."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: dict[int, str] = field(default_factory=dict)

    def integer(self, key: int, default: int = 0) -> int:
        text = self.parameters.get(key, str(default))
        if not INTEGER.fullmatch(text):
            raise InvalidInput(f"parameter {key} of {self.name} is {text!r}, not a whole number.")
        return int(text)

    def __str__(self) -> str:
        edges = [str(len(self.inputs)), str(len(self.outputs)), *self.inputs, *self.outputs]
        return " ".join([self.kind, self.name, *edges, *(f"{key}={value}" for key, value in self.parameters.items())])


@dataclass(frozen=True)
class Weights:
    """What the `.bin` holds for one convolution, or (as `weight`, flat) for a constant.

    weight: (out, in / groups, kernel height, kernel width), float32, float16 or int8. bias: (out,) float32 or None.
    For int8 only, weight_scales (out,) and input_scale (1,): float32 factors from real values to int8 ones.
    """

    weight: npt.NDArray[Any]
    bias: npt.NDArray[np.float32] | None
    weight_scales: npt.NDArray[np.float32] | None = None
    input_scale: npt.NDArray[np.float32] | None = None


def parse_param(text: str) -> list[Layer]:
    """The layers in a `.param`. Raises `InvalidInput` where it is not one."""
    lines = text.split("\n")
    if lines.pop(0).strip() != MAGIC or not PRINTABLE.fullmatch(text):
        raise InvalidInput("it does not begin as NCNN's graphs do, or holds more than text.")
    counts = lines.pop(0).split() if lines else []
    layers = [_parse_layer(line) for line in lines if line.strip()]
    blobs = sum(len(layer.outputs) for layer in layers)
    if counts != [str(len(layers)), str(blobs)]:
        raise InvalidInput(f"it announces {' and '.join(counts)} layers and blobs and holds {len(layers)} and {blobs}.")
    return layers


def to_param(layers: Sequence[Layer]) -> str:
    """The text of a `.param`; see `parse_param`."""
    blobs = sum(len(layer.outputs) for layer in layers)
    return "\n".join([MAGIC, f"{len(layers)} {blobs}", *map(str, layers)]) + "\n"


def _parse_layer(line: str) -> Layer:
    tokens = line.split()
    if len(tokens) < 4 or not all(TOKEN.fullmatch(token) for token in tokens):
        raise InvalidInput(f"it holds a line that is no layer: {line[:60]!r}.")
    kind, name, *counts = tokens[:4]
    if not all(re.fullmatch(r"\d{1,3}", count) for count in counts):
        raise InvalidInput(f"the number of inputs or outputs of {name} is damaged.")
    first, last = 4 + int(counts[0]), 4 + int(counts[0]) + int(counts[1])
    found = [PARAMETER.fullmatch(token) for token in tokens[last:]]
    parameters = {int(match[1]): match[2] for match in found if match}
    if len(tokens) < last or len(parameters) != len(found):
        raise InvalidInput(f"the parameters of {name} are damaged.")
    return Layer(kind, name, tuple(tokens[4:first]), tuple(tokens[first:last]), parameters)


def parse_bin(content: bytes, layers: Iterable[Layer]) -> dict[str, Weights]:
    """The weights of each convolution and constant, by name. Raises `InvalidInput` where they do not fill the file."""
    reader = _Reader(content)
    weights = {layer.name: _read_weights(reader, layer) for layer in layers if layer.kind in (*CONVOLUTIONS, CONSTANT)}
    if reader.position != len(content):
        raise InvalidInput(f"it is {len(content) - reader.position} bytes longer than the graph needs.")
    return weights


def _read_weights(reader: _Reader, layer: Layer) -> Weights:
    if layer.kind == CONSTANT:
        return Weights(reader.take(layer.integer(0) * layer.integer(1), np.float32), None)
    outputs, size = layer.integer(0), layer.integer(6)
    kernel = layer.integer(11, layer.integer(1)), layer.integer(1)
    flag = int(reader.take(1, np.uint32)[0])
    if flag not in FLAGS:
        raise InvalidInput(f"the weight of {layer.name} is stored in an unknown way.")
    weight = reader.take(size, FLAGS[flag])
    bias = reader.take(outputs, np.float32) if layer.integer(5) else None
    if min(outputs, *kernel) < 1 or size % (outputs * prod(kernel)):
        raise InvalidInput(f"the weight of {layer.name} does not fit its kernel.")
    weight = weight.reshape(outputs, -1, *kernel)
    quantized = layer.integer(8) != 0
    if quantized != (weight.dtype == np.int8):
        raise InvalidInput(f"graph and weights do not agree on whether {layer.name} is int8.")
    if not quantized:
        return Weights(weight, bias)
    return Weights(weight, bias, reader.take(outputs, np.float32), reader.take(1, np.float32))


class _Reader:
    """Takes arrays off the front of bytes; each begins at a multiple of four."""

    def __init__(self, content: bytes) -> None:
        self.content, self.position = content, 0

    def take(self, count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        end = self.position + count * np.dtype(dtype).itemsize
        if count < 1 or end > len(self.content):
            raise InvalidInput("it is shorter than the graph needs.")
        values = np.frombuffer(self.content, dtype, count, self.position)
        self.position = end + -end % 4
        return values


def read_model(param: Path) -> tuple[list[Layer], dict[str, Weights]]:
    """Graph and weights of a `.param` and the `.bin` beside it. Raises `InvalidInput` where one is not sound."""
    try:
        layers = parse_param(_read(param).decode("ascii"))
    except (UnicodeDecodeError, InvalidInput) as error:
        raise InvalidInput(f"{param} is damaged or no NCNN graph: {error}") from None
    path = weights_beside(param)
    try:
        return layers, parse_bin(_read(path), layers)
    except InvalidInput as error:
        raise InvalidInput(f"{path} does not fit {param.name}: {error}") from None


def _read(path: Path) -> bytes:
    check_regular(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot be read ({path}: {error.strerror}).") from None

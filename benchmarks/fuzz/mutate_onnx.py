"""Damage to what an ONNX file means, where it can still be read: other numbers, names, operators and shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .mutate import NUMBERS, Random

LARGEST = 2**63 - 1  # of what the file's numbers can be
FEW = 3  # changes to one file


def mutate_onnx(content: bytes, random: Random) -> bytes:
    """A few changes to a sound file."""
    import onnx

    model = onnx.load_from_string(content)
    for _ in range(int(random.integers(1, FEW + 1))):
        CHANGES[int(random.integers(len(CHANGES)))](model.graph, random)
    return bytes(model.SerializeToString())


def _one(values: Any, random: Random) -> Any:
    return values[int(random.integers(len(values)))]


def _number(random: Random) -> int:
    number = int(random.integers(-2, 20)) if random.random() < 0.5 else int(_one(NUMBERS, random))
    return max(-LARGEST, min(number, LARGEST))


def _attribute(graph: Any, random: Random) -> None:
    attribute = _one([attribute for node in graph.node for attribute in node.attribute], random)
    if attribute.ints:
        attribute.ints[int(random.integers(len(attribute.ints)))] = _number(random)
    else:
        attribute.i = _number(random)


def _type(graph: Any, random: Random) -> None:
    _one(graph.initializer, random).data_type = int(random.integers(0, 24))


def _dimension(graph: Any, random: Random) -> None:
    tensor = _one([tensor for tensor in graph.initializer if tensor.dims], random)
    tensor.dims[int(random.integers(len(tensor.dims)))] = _number(random)


def _value(graph: Any, random: Random) -> None:
    """Numbers that steer the graph, such as the sizes of a Reshape: they lie in short tensors."""
    tensor = _one([tensor for tensor in graph.initializer if 0 < len(tensor.raw_data) <= 64], random)
    content = bytearray(tensor.raw_data)
    place = int(random.integers(len(content)))
    part = _number(random).to_bytes(8, "little", signed=True)
    content[place : place + 8] = part[: len(content) - place]
    tensor.raw_data = bytes(content)


def _operator(graph: Any, random: Random) -> None:
    _one(graph.node, random).op_type = _one(graph.node, random).op_type


def _connection(graph: Any, random: Random) -> None:
    node, names = _one(graph.node, random), [name for node in graph.node for name in (*node.input, *node.output)]
    ends = node.input if random.random() < 0.8 else node.output
    if ends:
        ends[int(random.integers(len(ends)))] = _one(names, random)


def _away(graph: Any, random: Random) -> None:
    del graph.node[int(random.integers(len(graph.node)))]


def _twice(graph: Any, random: Random) -> None:
    graph.node.add().CopyFrom(_one(graph.node, random))


def _shape(graph: Any, random: Random) -> None:
    tensor = _one([*graph.input, *graph.output], random).type.tensor_type
    tensor.elem_type = tensor.elem_type if random.random() < 0.7 else int(random.integers(0, 24))
    if tensor.shape.dim:
        _one(tensor.shape.dim, random).dim_value = _number(random)


CHANGES: tuple[Callable[[Any, Random], None], ...] = (
    _attribute,
    _type,
    _dimension,
    _value,
    _operator,
    _connection,
    _away,
    _twice,
    _shape,
)

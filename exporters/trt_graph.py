"""What a TensorRT-ready ONNX file is: checked before TensorRT sees it, so that the message is ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from runtimes.errors import InvalidInput

OPERATOR_FORMAT = {"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear"}
QUANTIZERS = {"QuantizeLinear", "DequantizeLinear"}


def check_tensorrt_ready(model: onnx.ModelProto, source: str | Path = "the graph") -> None:
    """Raise `InvalidInput` with what to do where TensorRT could not build a graph, or would compute something else.

    TensorRT takes int8 as QuantizeLinear and DequantizeLinear alone: symmetric (int8, zero point 0), biases in float.
    It takes bytes only into a Cast, and non-maximum suppression only as a plugin. `source` names the file.
    """
    problem = next(_problems(model.graph), None)
    if problem:
        raise InvalidInput(f"{source} is not ready for TensorRT: {problem}.")


def _problems(graph: onnx.GraphProto) -> Iterator[str]:
    constants = _constants(graph)
    bytes_in = {value.name for value in graph.input if value.type.tensor_type.elem_type == onnx.TensorProto.UINT8}
    for node in graph.node:
        name = f"{node.name or node.output[0]} ({node.op_type})"
        if node.op_type == "NonMaxSuppression":
            yield f"{name} has outputs whose size depends on the data; use --topk instead, which leaves few rows to NMS"
        if node.op_type in OPERATOR_FORMAT:
            yield f"{name} is quantised in ONNX Runtime's operator format; quantise to QuantizeLinear/DequantizeLinear"
        if node.op_type in QUANTIZERS:
            yield from _quantizer_problems(node, name, constants)
        if node.op_type != "Cast" and bytes_in.intersection(node.input):
            yield f"{name} takes the uint8 input; only a Cast can"


def _quantizer_problems(
    node: onnx.NodeProto, name: str, constants: dict[str, npt.NDArray[np.generic]]
) -> Iterator[str]:
    content = constants.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
    if content is not None and content.dtype == np.int32:
        yield f"{name} holds a bias as int32; leave biases in float (QuantizeBias=False)"
    zero_name = node.input[2] if len(node.input) > 2 else ""
    zero_point = constants.get(zero_name)
    if zero_name and zero_point is None:
        yield f"{name} computes its zero point; it has to be a constant 0: quantise symmetrically, to int8"
    if not zero_name and node.op_type == "QuantizeLinear":  # then ONNX means uint8
        yield f"{name} has no zero point, which means uint8; quantise symmetrically, to int8"
    for held in (content, zero_point):
        if held is not None and held.dtype != np.int8:
            yield f"{name} quantises to {held.dtype}; quantise symmetrically, to int8 (QuantType.QInt8)"
    if zero_point is not None and zero_point.any():
        yield f"{name} has a zero point other than 0; quantise symmetrically (ActivationSymmetric, WeightSymmetric)"


def _constants(graph: onnx.GraphProto) -> dict[str, npt.NDArray[np.generic]]:
    """By name, those that quantisers hold or have as their zero points."""
    tensors = [(tensor.name, tensor) for tensor in graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensors.append((node.output[0], node.attribute[0].t))
    wanted = {name for node in graph.node if node.op_type in QUANTIZERS for name in (node.input[0], *node.input[2:])}
    return {name: numpy_helper.to_array(tensor) for name, tensor in tensors if name in wanted}

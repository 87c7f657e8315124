"""What the graph of a third-party file says of itself: ONNX, OpenVINO and NCNN."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InvalidInput, MissingBackend
from .json_file import check_regular
from .ncnn_format import Layer, read_model
from .ncnn_graph import input_name, output_names
from .spec import Precision
from .third_party_layout import EXPORT, Port

# Operators of which some exporters have versions of their own, that only TensorRT or the exporter's library runs.
STANDARD_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc")
QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "ConvInteger", "QLinearConv", "FakeQuantize"}


@dataclass(frozen=True)
class Node:
    """An operator of a graph, with the names of its inputs and outputs."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """What the graph of a third-party file says of itself. constants: numbers, by name."""

    inputs: Sequence[Port]
    outputs: Sequence[Port]
    nodes: Sequence[Node]
    constants: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    precision: Precision = "fp32"


def read_graph(path: Path) -> Graph:
    """The graph of an ONNX, OpenVINO or NCNN file. Raises `InvalidInput` for any other."""
    readers = {".onnx": _read_onnx, ".xml": _read_openvino, ".param": _read_ncnn}
    if path.suffix.lower() not in readers:
        raise InvalidInput(f"{path} needs a spec file (--spec FILE): its format does not show what it takes and gives.")
    return readers[path.suffix.lower()](path)


def _read_onnx(path: Path) -> Graph:
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise MissingBackend(f"reading the graph of {path} needs the onnx package: pip install onnx") from None
    check_regular(path)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's decoding errors and the system's share no base class
        raise InvalidInput(f"{path} is not an ONNX file: {error}") from None
    every = list(_onnx_nodes(model.graph, onnx.AttributeProto))
    known = {function.name for function in model.functions}
    plugins = sorted(
        {
            f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            for node in every
            if node.op_type not in known and (node.domain not in STANDARD_DOMAINS or "TRT" in node.op_type)
        }
    )
    if plugins:
        raise InvalidInput(
            f"{path} holds {', '.join(plugins)}, a plugin of {_plugin_home(plugins[0])} that nothing else runs:"
            f" {EXPORT}."
        )

    def port(value: Any) -> Port:
        kind = value.type.tensor_type
        shape = tuple(
            size.dim_value if size.HasField("dim_value") and size.dim_value > 0 else None for size in kind.shape.dim
        )
        try:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        except (KeyError, TypeError):
            dtype = f"type {kind.elem_type}"
        return Port(value.name, dtype, shape)

    constants = {}
    stored = [*model.graph.initializer]
    for node in every:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            tensor = onnx.TensorProto()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            stored.append(tensor)
    no_numbers = (onnx.TensorProto.STRING, onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)
    for tensor in stored:
        if tensor.data_type in no_numbers:
            continue
        if np.prod(tensor.dims, dtype=np.int64) == 1 and tensor.data_location != onnx.TensorProto.EXTERNAL:
            constants[tensor.name] = float(numpy_helper.to_array(tensor).reshape(-1)[0])
    weights = {tensor.name for tensor in model.graph.initializer}
    nodes = [Node(node.op_type, tuple(node.input), tuple(node.output)) for node in every]
    types = [tensor.data_type for tensor in model.graph.initializer if np.prod(tensor.dims, dtype=np.int64) > 64]
    halves = types.count(onnx.TensorProto.FLOAT16) > len(types) / 2
    return Graph(
        [port(value) for value in model.graph.input if value.name not in weights],
        [port(value) for value in model.graph.output],
        nodes,
        constants,
        {entry.key: entry.value for entry in model.metadata_props},
        _precision(nodes, halves),
    )


def _precision(nodes: Sequence[Node], halves: bool) -> Precision:
    if any(node.kind in QUANTIZED for node in nodes):
        return "int8"
    return "fp16" if halves else "fp32"


def _onnx_nodes(graph: Any, attributes: Any) -> Iterator[Any]:
    """Every node of a graph, with those in its branches and loops."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == attributes.GRAPH:
                yield from _onnx_nodes(attribute.g, attributes)


def _plugin_home(plugin: str) -> str:
    if plugin.startswith("mmdeploy"):
        return "mmdeploy"
    return "TensorRT" if "TRT" in plugin.upper() else "its exporter"


def _read_openvino(path: Path) -> Graph:
    try:
        import openvino
    except ImportError:
        raise MissingBackend("OpenVINO files need OpenVINO: pip install openvino") from None
    from .openvino import RT_INFO, _read, port_of

    model = _read(openvino.Core(), path)
    nodes, constants, halves, weights = [], {}, 0, 0
    for operation in model.get_ordered_ops():
        kind, name = operation.get_type_name(), operation.get_friendly_name()
        sources = tuple(value.get_source_output().get_node().get_friendly_name() for value in operation.inputs())
        nodes.append(Node(kind, sources, (name,)))
        if kind == "Constant":
            size = int(np.prod(tuple(operation.get_output_shape(0)), dtype=np.int64))
            if size == 1:
                constants[name] = float(np.asarray(operation.data).reshape(-1)[0])
            elif size > 64:
                weights += 1
                halves += operation.get_output_element_type(0).get_type_name() == "f16"
    if model.has_rt_info(RT_INFO):
        raise InvalidInput(f"{path} carries a spec of its own, and another was given: leave that out.")
    return Graph(
        [port_of(value) for value in model.inputs],
        [port_of(value) for value in model.outputs],
        nodes,
        constants,
        {},
        _precision(nodes, halves > weights / 2),
    )


def _kind(layer: Layer) -> str:
    return "Exp" if layer.kind == "UnaryOp" and layer.integer(0) == 7 else layer.kind


def _read_ncnn(path: Path) -> Graph:
    layers, weights = read_model(path)
    try:
        name = input_name(layers)
    except InvalidInput as error:
        raise InvalidInput(f"{path} is an NCNN file that does not run here: {error}") from None
    width, height = (layers[0].integer(key) or None for key in (0, 1))
    stored = {one.weight.dtype.name for one in weights.values()}
    precision: Precision = "int8" if "int8" in stored else "fp16" if "float16" in stored else "fp32"
    return Graph(
        [Port(name, "float32", (None, 3, height, width))],
        [Port(output, "float32", (None, None, None)) for output in output_names(layers)],
        [Node(_kind(layer), layer.inputs, layer.outputs) for layer in layers],
        precision=precision,
    )

"""The convolutions of an artifact, each with its output on one image and the weights it computes with.

The graph is taken as it stands in the file: ONNX Runtime runs it without its optimizations, OpenVINO with every
convolution as one more output, NCNN gives values by name. One thread, so that a run can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from runtimes.errors import InvalidInput
from runtimes.ncnn import open_net, run_image
from runtimes.ncnn_format import CONVOLUTIONS, Weights, read_model
from runtimes.ncnn_graph import OUTPUT
from runtimes.postprocess import Floats

Stored = Literal["fp32", "fp16", "bf16", "int8"]


@dataclass(frozen=True)
class Levels:
    """The values that a tensor in int8 may take: step * k, low <= k <= high."""

    step: float
    low: int
    high: int


@dataclass(frozen=True)
class Tap:
    """One convolution of an artifact, on the first image of a batch.

    name: the graph's, which in our own files is the path of the module. output: (O, H, W), behind the activation where
    the graph has merged that into the convolution (`activated`). weight: (O, I / groups, kernel height, kernel width)
    and bias: (O,) or None, as real values, whatever the file stores them in. stored: how it stores the weights, or
    "bf16" where they are computed in that. levels: to which the input is
    rounded in int8, where that is known.
    """

    name: str
    output: Floats
    weight: Floats
    bias: Floats | None
    stored: Stored
    activated: bool = False
    levels: Levels | None = None


@dataclass(frozen=True)
class Seen:
    """What an artifact computed: its convolutions in the order of its graph, and its output as it gives it."""

    taps: tuple[Tap, ...]
    output: Floats


def tap_onnx(path: Path, images: npt.NDArray[Any], bf16: bool = False) -> Seen:
    """Every convolution becomes an output of the graph, and what its weights are computed from too."""
    import onnx
    import onnxruntime

    if bf16:
        raise InvalidInput("--bf16 is for OpenVINO and NCNN; an ONNX file says itself what it computes in.")
    model = onnx.load(str(path))
    graph = model.graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    constants |= {
        node.output[0]: onnx.numpy_helper.to_array(attribute.t)
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    known = {graph.output[0].name}
    producers = {name: node for node in graph.node for name in node.output}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    wanted = {name for node in nodes for name in (_whole(node), *node.input[1:]) if name not in constants}
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(wanted - known))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    values = constants | dict(zip(names, session.run(None, {session.get_inputs()[0].name: images}), strict=True))

    def tap(node: Any) -> Tap:
        weight, *rest = (values[name] for name in node.input[1:])
        stored: Stored = "fp16" if weight.dtype == np.float16 else "fp32"
        if _dequantize(producers.get(node.input[1])):
            stored = "int8"
        bias = _floats(rest[0]) if rest else None
        output = _whole(node)
        if output != node.output[0]:  # our int8 form: the convolution gives 0..1, and its range comes behind it
            reach = constants[f"{output}_reach"].ravel()
            weight = weight * reach[:, None, None, None]
            bias = (0 if bias is None else bias * reach) + constants[f"{output}_low"].ravel()
        levels = _onnx_levels(producers.get(node.input[0]), constants)
        return Tap(_module(node.name), _floats(values[output][0]), _floats(weight), bias, stored, levels=levels)

    return Seen(tuple(map(tap, nodes)), _floats(values[names[0]]))


def _whole(node: Any) -> str:
    """The value that a convolution is for: in our int8 form, the one with its range restored."""
    name: str = node.output[0]
    return name.removesuffix("_unit")


def _onnx_levels(node: Any, constants: Mapping[str, npt.NDArray[Any]]) -> Levels | None:
    """Those of the DequantizeLinear before a convolution, if it has one scale for all channels."""
    if not _dequantize(node) or len(node.input) < 3 or any(name not in constants for name in node.input[1:]):
        return None
    scale, zero = (constants[name] for name in node.input[1:])
    if scale.size != 1:
        return None
    low, high = ((-128, 127), (0, 255))[zero.dtype == np.uint8]
    return Levels(float(scale.item()), low - int(zero.item()), high - int(zero.item()))


def _dequantize(node: Any) -> bool:
    return node is not None and node.op_type == "DequantizeLinear"


def tap_openvino(path: Path, images: npt.NDArray[Any], bf16: bool = False) -> Seen:
    """Every convolution, its weights and its bias become outputs of the model."""
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    found = [node for node in model.get_ordered_ops() if node.get_type_name() in ("Convolution", "GroupConvolution")]
    ports = []
    for node in found:
        bias = _bias(node)
        whole = node.output(0) if bias is None else bias[0]
        ports.append([whole, node.input_value(1), *([] if bias is None else [bias[1]])])
    model.add_outputs([port for own in ports for port in own])
    settings = {"INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32", "INFERENCE_NUM_THREADS": 1}
    results = core.compile_model(model, "CPU", settings)(images)
    # By port: one that several convolutions share, or that was an output before, is added once.
    found_by_port = {_port(output.get_node().input_value(0)): index for index, output in enumerate(model.outputs)}
    taps = []
    for node, own in zip(found, ports, strict=True):
        output, weight, *rest = [_floats(results[found_by_port[_port(port)]]) for port in own]
        if weight.ndim == 5:  # (groups, O / groups, I / groups, kh, kw)
            weight = weight.reshape(-1, *weight.shape[2:])
        stored = _stored(node.input_value(1).get_node())
        taps.append(
            Tap(
                name=_module(node.get_friendly_name()),
                output=output[0],
                weight=weight,
                bias=rest[0].ravel() if rest else None,
                stored="bf16" if bf16 and stored != "int8" else stored,
                levels=_openvino_levels(node.input_value(0).get_node()),
            )
        )
    return Seen(tuple(taps), _floats(results[0]))


def _port(output: Any) -> tuple[str, int]:
    return output.get_node().get_name(), output.get_index()


def _bias(convolution: Any) -> tuple[Any, Any] | None:
    """The output of the addition behind a convolution, and what it adds; None where there is no constant added."""
    consumers = list(convolution.output(0).get_target_inputs())
    node = consumers[0].get_node()
    if len(consumers) != 1 or node.get_type_name() != "Add":
        return None
    other = node.input_value(1 - consumers[0].get_index())
    return (node.output(0), other) if _constants(other.get_node()) else None


def _openvino_levels(node: Any) -> Levels | None:
    """Those of the FakeQuantize before a convolution, if it has one range for all channels."""
    if node.get_type_name() != "FakeQuantize":
        return None
    ends = [node.input_value(index).get_node().get_data() for index in (3, 4)]  # of its output
    if any(end.size != 1 for end in ends):
        return None
    low, high = (float(end.item()) for end in ends)
    steps = node.get_attributes()["levels"] - 1
    step = (high - low) / steps
    return Levels(step, round(low / step), round(low / step) + steps)


def _constants(node: Any) -> list[str]:
    """The element types of the constants that a value is made from; none where it hangs on anything else."""
    if node.get_type_name() == "Constant":
        return [node.get_element_type().get_type_name()]
    sources = [_constants(value.get_node()) for value in node.input_values()]
    return [name for names in sources for name in names] if sources and all(sources) else []


def _stored(weight: Any) -> Stored:
    types = _constants(weight)
    if {"i8", "u8"} & set(types) or weight.get_type_name() == "FakeQuantize":
        return "int8"
    return "fp16" if "f16" in types else "fp32"


def tap_ncnn(path: Path, images: npt.NDArray[Any], bf16: bool = False) -> Seen:
    """NCNN gives any value by its name, for one image at a time."""
    layers, weights = read_model(path)
    convolutions = [layer for layer in layers if layer.kind in CONVOLUTIONS]
    names = [layer.outputs[0] for layer in convolutions]
    *outputs, output = run_image(open_net(path, threads=1, bf16=bf16), images[0], [*names, OUTPUT])

    def tap(name: str, found: Floats, activated: bool) -> Tap:
        own = weights[name]
        kind = own.weight.dtype.name
        stored: Stored = "int8" if kind == "int8" else "bf16" if bf16 else "fp16" if kind == "float16" else "fp32"
        levels = None if own.input_scale is None else Levels(1 / float(own.input_scale[0]), -127, 127)
        return Tap(name, found, _real(own), own.bias, stored, activated, levels)

    taps = [tap(layer.name, found, layer.integer(9) != 0) for layer, found in zip(convolutions, outputs, strict=True)]
    return Seen(tuple(taps), output.T[None])


def _real(weights: Weights) -> Floats:
    scales = weights.weight_scales
    return _floats(weights.weight) / (np.float32(1) if scales is None else scales[:, None, None, None])


def _module(node: str) -> str:
    return node.split("/Conv")[0]


def _floats(values: npt.NDArray[Any]) -> Floats:
    return values.astype(np.float32)


TAPS: dict[str, Callable[[Path, npt.NDArray[Any], bool], Seen]] = {
    ".onnx": tap_onnx,
    ".xml": tap_openvino,
    ".param": tap_ncnn,
}

"""int8 in an ONNX graph: QuantizeLinear / DequantizeLinear pairs around the convolutions.

Two forms, since no single one serves both (measured on YOLOX-Nano):

- ONNX Runtime computes a convolution in int8 only if its output is quantized too, before the activation. With one scale
  for all channels that ruins a network whose channels differ a hundredfold in range (AP 12 instead of 28.6). So each
  channel's range is folded into the weights: the convolution gives 0..1 in every channel, and a batch norm behind it
  restores them. SiLU is flat below -6, so no steps are spent there.
- TensorRT fuses convolution and activation, wants nothing between them, and takes symmetric int8 only.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, helper, numpy_helper

from runtimes.errors import InvalidInput

from .calibration import Floats, best_range, channel_ranges, observe

SILU_FLOOR = -6.0  # SiLU(-6) = -0.015

# The first convolution sees pixels of 255 side by side. Processors without VNNI add two products of 8 bits in 16, which
# overflows there with weights of 8 bits, and does not with 7. (NNCF's overflow fix is the same.)
FIRST_WEIGHT_LIMIT, WEIGHT_LIMIT = 63, 127


def quantize_for_onnxruntime(
    model: onnx.ModelProto, batches: Iterable[npt.NDArray[Any]], float_layers: frozenset[str]
) -> onnx.ModelProto:
    """The model with int8 convolutions, but for `float_layers` (module paths) and the last ones before the output."""
    return _Quantizer(model, batches, float_layers).run(_convolution_for_onnxruntime)


def quantize_for_tensorrt(
    model: onnx.ModelProto, batches: Iterable[npt.NDArray[Any]], float_layers: frozenset[str]
) -> onnx.ModelProto:
    """`quantize_for_onnxruntime` in TensorRT's form: symmetric, inputs and weights only."""
    return _Quantizer(model, batches, float_layers).run(_convolution_for_tensorrt)


def last_convolutions(graph: onnx.GraphProto) -> set[str]:
    """The names of the convolutions that no other one follows: the predictions, which always stay in float."""
    followed: set[str] = set()  # tensors that a convolution is computed from
    last = set()
    for node in reversed(graph.node):
        if node.op_type == "Conv":
            if node.output[0] not in followed:
                last.add(node.name)
            followed.add(node.input[0])
        elif followed.intersection(node.output):
            followed.update(node.input)
    return last


def float_convolutions(graph: onnx.GraphProto, layers: frozenset[str]) -> set[str]:
    """The names of the convolutions that stay in float: those of `layers` (module paths), and the predictions.

    Raises `InvalidInput` for a layer that is not there, and where no convolution is left.
    """
    names = {node.name for node in graph.node if node.op_type == "Conv"}
    chosen = {f"{layer}/Conv" for layer in layers}
    if not chosen <= names:
        raise InvalidInput(f"there is no convolution {min(chosen - names).removesuffix('/Conv')} to leave in float.")
    floats = chosen | last_convolutions(graph)
    if floats == names:
        raise InvalidInput("no convolution is left to compute in int8.")
    return floats


class _Quantizer:
    """Replaces the convolutions of a graph one by one, and shares the quantized tensors between them."""

    def __init__(
        self, model: onnx.ModelProto, batches: Iterable[npt.NDArray[Any]], float_layers: frozenset[str]
    ) -> None:
        self.model = copy.deepcopy(model)
        graph = self.model.graph
        convolutions = [node for node in graph.node if node.op_type == "Conv"]
        floats = float_convolutions(graph, float_layers)
        self.first = convolutions[0].name
        self.chosen = [node for node in convolutions if node.name not in floats]
        self.weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.silu = {node.input[0] for node in graph.node if node.op_type == "Sigmoid"}
        watched = [name for node in self.chosen for name in (node.input[0], node.output[0])]
        self.observed = observe(model, watched, batches)
        self.scales: dict[str, np.float32] = {}  # of each quantized input
        self.nodes: list[NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def run(self, convert: Callable[[_Quantizer, NodeProto], None]) -> onnx.ModelProto:
        graph, names = self.model.graph, {node.name for node in self.chosen}
        for node in graph.node:
            if node.name in names:
                convert(self, node)
            else:
                self.nodes.append(node)
        nodes = [copy.deepcopy(node) for node in self.nodes]
        used = {name for node in nodes for name in node.input}
        kept = [tensor for tensor in (*graph.initializer, *self.constants) if tensor.name in used]
        for field, values in ((graph.node, nodes), (graph.initializer, copy.deepcopy(kept))):
            del field[:]
            field.extend(values)
        del graph.value_info[:]
        return self.model

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{output}/{kind}", **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def dequantize(self, name: str, values: npt.NDArray[Any], scale: Floats) -> str:
        """A constant in integers, and the DequantizeLinear behind it."""
        inputs = [
            self.constant(f"{name}_int", values),
            self.constant(f"{name}_scale", scale.astype(np.float32)),
            self.constant(f"{name}_zero", np.zeros(scale.shape, values.dtype)),
        ]
        return self.add("DequantizeLinear", inputs, f"{name}_float", axis=0)

    def quantized_input(self, tensor: str, symmetric: bool) -> str:
        """The tensor through a Q/DQ pair, of which there is one a tensor."""
        if tensor not in self.scales:
            low, high = best_range(self.observed[tensor], symmetric)
            scale = np.float32((high - low) / (254 if symmetric else 255))
            zero = np.int8(0) if symmetric else np.uint8(round(-low / scale))
            self.scales[tensor] = scale
            ends = [self.constant(f"{tensor}_scale", scale), self.constant(f"{tensor}_zero", zero)]
            integers = self.add("QuantizeLinear", [tensor, *ends], f"{tensor}_quantized")
            self.add("DequantizeLinear", [integers, *ends], f"{tensor}_dequantized")
        return f"{tensor}_dequantized"

    def quantized_weight(
        self, name: str, weight: Floats, source: str, limit: int, least: Floats | float = 1e-12
    ) -> tuple[str, Floats, Floats]:
        """A weight (O, I, kh, kw) in symmetric int8: its tensor, one scale (O,) an output channel, and a bias (O,).

        The bias is what rounded weights add to the output's mean: to be taken off. No scale is below `least`.
        """
        scale = np.maximum(np.abs(weight).max(axis=(1, 2, 3)) / limit, least)
        integers = np.clip(np.round(weight / scale[:, None, None, None]), -limit, limit).astype(np.int8)
        excess = (integers * scale[:, None, None, None] - weight).sum(axis=(2, 3))  # (O, I / groups)
        mean = self.observed[source].mean.reshape(-1, excess.shape[1])  # (groups, I / groups)
        bias = (excess * mean.repeat(len(excess) // len(mean), axis=0)).sum(axis=1)
        return self.dequantize(name, integers, scale), scale, bias

    def bias(self, node: NodeProto) -> tuple[str, Floats]:
        """The name and the values (O,) of a convolution's bias; zeros where it has none."""
        if len(node.input) > 2:
            return node.input[2], self.weights[node.input[2]].astype(np.float64)
        return f"{node.name}_bias", np.zeros(len(self.weights[node.input[1]]))


def _convolution_for_tensorrt(quantizer: _Quantizer, node: NodeProto) -> None:
    source, weight = node.input[0], quantizer.weights[node.input[1]].astype(np.float64)
    weight_name, _, excess = quantizer.quantized_weight(node.input[1], weight, source, WEIGHT_LIMIT)
    bias_name, bias = quantizer.bias(node)
    corrected = quantizer.constant(f"{bias_name}_corrected", (bias - excess).astype(np.float32))
    inputs = [quantizer.quantized_input(source, symmetric=True), weight_name, corrected]
    quantizer.nodes.append(_with(node, inputs, node.output[0]))


def _convolution_for_onnxruntime(quantizer: _Quantizer, node: NodeProto) -> None:
    source, output = node.input[0], node.output[0]
    low, reach = channel_ranges(quantizer.observed[output], SILU_FLOOR if output in quantizer.silu else -np.inf)
    # The convolution gives (z - low) / reach, which is 0..1 in every channel.
    weight = quantizer.weights[node.input[1]].astype(np.float64) / reach[:, None, None, None]
    bias_name, bias = quantizer.bias(node)
    limit = FIRST_WEIGHT_LIMIT if node.name == quantizer.first else WEIGHT_LIMIT
    inputs = [quantizer.quantized_input(source, symmetric=False)]
    unit_bias = (bias - low) / reach
    # Else the bias of a channel with next to no weights would not fit 32 bits.
    least = np.maximum(np.abs(unit_bias), 1e-3) / (quantizer.scales[source] * 2.0**30)
    weight_name, weight_scale, excess = quantizer.quantized_weight(node.input[1], weight, source, limit, least)
    bias_scale = weight_scale.astype(np.float32) * quantizer.scales[source]
    rounded_bias = np.round((unit_bias - excess) / bias_scale).astype(np.int32)
    bias_name = quantizer.dequantize(bias_name, rounded_bias, bias_scale)
    quantizer.nodes.append(_with(node, [*inputs, weight_name, bias_name], f"{output}_unit"))
    ends = [quantizer.constant(f"{output}_unit_scale", np.float32(1 / 255))]
    ends.append(quantizer.constant(f"{output}_unit_zero", np.uint8(0)))
    integers = quantizer.add("QuantizeLinear", [f"{output}_unit", *ends], f"{output}_integers")
    unit = quantizer.add("DequantizeLinear", [integers, *ends], f"{output}_rounded")
    # unit * reach + low, in one pass. DequantizeLinear could do this too, but with a scale for each channel it takes
    # longer than all the rest.
    constants = {"reach": reach, "low": low, "no_mean": np.zeros_like(reach), "no_variance": np.ones_like(reach)}
    inputs = [quantizer.constant(f"{output}_{name}", value.astype(np.float32)) for name, value in constants.items()]
    quantizer.add("BatchNormalization", [unit, *inputs], output, epsilon=0.0)


def _with(node: NodeProto, inputs: Sequence[str], output: str) -> NodeProto:
    changed = copy.deepcopy(node)
    changed.input[:] = inputs
    changed.output[:] = [output]
    return changed

"""What an NCNN graph computes, by shapes alone: which layers there may be, and that each fits what comes into it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from .errors import InvalidInput
from .ncnn_format import Layer

# As pnnx names them.
INPUT, OUTPUT = "in0", "out0"

Shape = tuple[int, ...]  # without the batch: (channels, height, width) or (rows, columns)

# From the shapes that come in to those that go out. Raises ValueError, or unpacking does, where they do not fit.
Rule = Callable[[Layer, list[Shape]], list[Shape]]


def output_shape(layers: Sequence[Layer], image: Shape) -> Shape:
    """The shape of what the graph gives for an image of shape (3, H, W). Raises as `blob_shapes`."""
    return blob_shapes(layers, image)[OUTPUT]


def blob_shapes(layers: Sequence[Layer], image: Shape) -> dict[str, Shape]:
    """The shape of every value in the graph, by its name, in order, for an image of shape (3, H, W).

    Raises `InvalidInput` for a layer that no YOLOX needs, or that does not fit what comes into it.
    """
    if not layers or str(layers[0]).split()[2:] != ["0", "1", INPUT] or layers[0].kind != "Input":
        raise InvalidInput(f"its graph does not begin with the input {INPUT!r}.")
    shapes = {INPUT: image}
    for layer in layers[1:]:
        if not set(layer.inputs) <= set(shapes) or set(layer.outputs) & set(shapes):
            raise InvalidInput(f"{layer.name} is not connected to what stands before it in its graph.")
        shapes |= zip(layer.outputs, _apply(layer, [shapes[name] for name in layer.inputs]), strict=True)
    used = Counter(name for layer in layers for name in layer.inputs)
    if set(shapes) - set(used) != {OUTPUT} or max(used.values()) > 1:
        raise InvalidInput(f"its graph does not use every value once and end in one output, {OUTPUT!r}.")
    return shapes


def _apply(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    if layer.kind not in RULES:
        raise InvalidInput(f"its graph holds a layer of the kind {layer.kind[:40]}, which no YOLOX needs.")
    parameters, rule = RULES[layer.kind]
    try:
        outputs = rule(layer, inputs)
        known = set(layer.parameters) <= parameters and len(outputs) == len(set(layer.outputs)) == len(layer.outputs)
        if known and all(side > 0 for shape in outputs for side in shape):
            return outputs
    except (ValueError, IndexError):
        pass
    raise InvalidInput(f"the parameters of {layer.name} do not fit what comes into it.") from None


def _require(*conditions: bool) -> None:
    if not all(conditions):
        raise ValueError


def _window(layer: Layer, side: int, kernel: int, stride: int, pad: int) -> int:
    """How often a kernel fits, as it moves along a side of its input; the parameters are given by number."""
    size, step, border = layer.integer(kernel), layer.integer(stride), layer.integer(pad)
    _require(size > border >= 0, step > 0, side + 2 * border >= size)
    return (side + 2 * border - size) // step + 1


def _convolution(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    [(channels, height, width)] = inputs
    outputs, groups = layer.integer(0), layer.integer(7, 1)
    _require(groups > 0, layer.integer(5) in (0, 1))
    _require(channels % groups == 0, outputs % groups == 0)
    _require(layer.integer(6) * groups == outputs * channels * layer.integer(1) * layer.integer(11))
    _require(layer.integer(2) == layer.integer(12) == 1)  # dilation
    _require(layer.integer(8) in (0, 2 if layer.kind == "Convolution" else 0))  # whether it is int8
    # The activation that pnnx merged into it: none, ReLU, or leaky ReLU with its slope.
    slope = layer.parameters.get(-23310, "0").split(",")
    _require((layer.integer(9), slope[0], len(slope)) in ((0, "0", 1), (1, "0", 1), (2, "1", 2)))
    return [(outputs, _window(layer, height, 11, 13, 14), _window(layer, width, 1, 3, 4))]


def _pooling(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    [(channels, height, width)] = inputs
    _require(layer.integer(0) == 0, layer.integer(5) == 1)  # maximum, and no pixels beyond the padding
    return [(channels, _window(layer, height, 11, 12, 13), _window(layer, width, 1, 2, 3))]


def _same(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    """One input, and any number of outputs of its shape."""
    [shape] = inputs
    return [shape] * len(layer.outputs)


def _add(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    left, right = inputs
    _require(left == right, layer.integer(0) == 0)
    return [left]


def _concat(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    axis, rest = layer.integer(0), {_without(shape, layer.integer(0)) for shape in inputs}
    _require(0 <= axis < len(inputs[0]), len(rest) == 1)
    total = sum(shape[axis] for shape in inputs)
    return [(*inputs[0][:axis], total, *inputs[0][axis + 1 :])]


def _without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], -1, *shape[axis + 1 :])


def _upsample(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    [(channels, height, width)] = inputs
    nearest = {0: "1", 1: "2.0", 2: "2.0", 6: "0"}
    _require(layer.parameters == nearest)
    return [(channels, 2 * height, 2 * width)]


def _flatten(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    [(channels, height, width)] = inputs
    _require(layer.parameters == {0: "-1", 1: str(channels)})
    return [(channels, height * width)]


def _split_rows(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    """The first rows, and what is left."""
    [(rows, columns)] = inputs
    count, first, rest = layer.parameters.get(-23300, "").split(",")
    _require(count == "2", rest == "-233", layer.integer(1) == 0, 0 < int(first) < rows)
    return [(int(first), columns), (rows - int(first), columns)]


# The layers of which YOLOX is made: the parameters that each may have, by NCNN's numbers, and what it does to shapes.
_WINDOW = {1, 2, 3, 11, 12, 13}
RULES: dict[str, tuple[set[int], Rule]] = {
    "Convolution": (_WINDOW | {0, 4, 5, 6, 8, 9, 14, -23310}, _convolution),
    "ConvolutionDepthWise": (_WINDOW | {0, 4, 5, 6, 7, 8, 9, 14, -23310}, _convolution),
    "Pooling": (_WINDOW | {0, 5}, _pooling),
    "Swish": (set(), _same),
    "Sigmoid": (set(), _same),
    "ReLU": ({0}, _same),
    "Split": (set(), _same),
    "BinaryOp": ({0}, _add),
    "Concat": ({0}, _concat),
    "Interp": ({0, 1, 2, 6}, _upsample),
    "Reshape": ({0, 1}, _flatten),
    "Slice": ({1, -23300}, _split_rows),
}

"""What an NCNN graph computes, by shapes alone: which layers there may be, and that each fits what comes into it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

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


def blob_shapes(layers: Sequence[Layer], image: Shape, third_party: bool = False) -> dict[str, Shape]:
    """The shape of every value in the graph, by its name, in order, for an image of shape (3, H, W).

    third_party: input and outputs may have any names, and there may be several outputs. Raises `InvalidInput` for a
    layer that is not known here, or that does not fit what comes into it.
    """
    if third_party:
        first = input_name(layers)
        _check_size(layers[0], image)
    else:
        first = INPUT
        if not layers or str(layers[0]).split()[2:] != ["0", "1", INPUT] or layers[0].kind != "Input":
            raise InvalidInput(f"its graph does not begin with the input {INPUT!r}.")
    rules = THIRD_PARTY_RULES if third_party else RULES
    shapes = {first: image}
    for layer in layers[1:]:
        if not set(layer.inputs) <= set(shapes) or set(layer.outputs) & set(shapes):
            raise InvalidInput(f"{layer.name} is not connected to what stands before it in its graph.")
        made = _apply(layer, [shapes[name] for name in layer.inputs], rules)
        shapes |= zip(layer.outputs, made, strict=True)
    used = Counter(name for layer in layers for name in layer.inputs)
    if max(used.values(), default=2) > 1:
        raise InvalidInput("its graph does not use every value once.")
    if not third_party and output_names(layers) != [OUTPUT]:
        raise InvalidInput(f"its graph does not use every value once and end in one output, {OUTPUT!r}.")
    return shapes


def input_name(layers: Sequence[Layer]) -> str:
    """The name of the one input. Raises `InvalidInput` where there is none, or another."""
    if not layers or layers[0].kind != "Input" or layers[0].inputs or len(layers[0].outputs) != 1:
        raise InvalidInput("its graph does not begin with an input.")
    if sum(layer.kind == "Input" for layer in layers) > 1:
        raise InvalidInput("its graph has more inputs than the image.")
    return layers[0].outputs[0]


def output_names(layers: Sequence[Layer]) -> list[str]:
    """The values that nothing in the graph reads, in order."""
    used = {name for layer in layers for name in layer.inputs}
    return [name for layer in layers for name in layer.outputs if name not in used]


def _check_size(layer: Layer, image: Shape) -> None:
    """Raise `InvalidInput` where the input layer says another size (width, height, channels) than the image's."""
    said = [layer.integer(key) for key in (0, 1, 2)]
    if not set(layer.parameters) <= {0, 1, 2} or any(
        size not in (0, side) for size, side in zip(said, image[::-1], strict=True)
    ):
        raise InvalidInput(f"its graph takes an image of {said[1]}x{said[0]} and {said[2]} channels.")


def _apply(layer: Layer, inputs: list[Shape], rules: Mapping[str, tuple[set[int], Rule]]) -> list[Shape]:
    if layer.kind not in rules:
        raise InvalidInput(f"its graph holds a layer of the kind {layer.kind[:40]}, which is not run here.")
    parameters, rule = rules[layer.kind]
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


def _windows(layer: Layer, height: int, width: int, numbers: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The height and width of what a moving kernel gives.

    numbers: of the parameters for kernel, stride and padding, each along the width and along the height, which is as
    along the width where it is left out.
    """
    defaults = (0, 1, 0)
    wide = [layer.integer(number, default) for (number, _), default in zip(numbers, defaults, strict=True)]
    high = [layer.integer(number, same) for (_, number), same in zip(numbers, wide, strict=True)]
    return _window(height, *high), _window(width, *wide)


def _window(side: int, size: int, step: int, border: int) -> int:
    """How often a kernel fits, as it moves along a side of its input."""
    _require(size > border >= 0, step > 0, side + 2 * border >= size)
    return (side + 2 * border - size) // step + 1


def _convolution(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    [(channels, height, width)] = inputs
    outputs, groups = layer.integer(0), layer.integer(7, 1)
    _require(groups > 0, layer.integer(5) in (0, 1))
    _require(channels % groups == 0, outputs % groups == 0)
    _require(layer.integer(6) * groups == outputs * channels * layer.integer(1) * layer.integer(11, layer.integer(1)))
    _require(layer.integer(2, 1) == layer.integer(12, layer.integer(2, 1)) == 1)  # dilation
    _require(layer.integer(8) in (0, 2 if layer.kind == "Convolution" else 0))  # whether it is int8
    # The activation that a converter merged into it: none, ReLU, leaky ReLU with its slope, or the sigmoid.
    slope = layer.parameters.get(-23310, "0").split(",")
    _require((layer.integer(9), slope[0], len(slope)) in ((0, "0", 1), (1, "0", 1), (2, "1", 2), (4, "0", 1)))
    return [(outputs, *_windows(layer, height, width, [(1, 11), (3, 13), (4, 14)]))]


def _pooling(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    [(channels, height, width)] = inputs
    _require(layer.integer(0) == 0, layer.integer(5) == 1)  # maximum, and no pixels beyond the padding
    return [(channels, *_windows(layer, height, width, [(1, 11), (2, 12), (3, 13)]))]


def _same(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    """One input, and any number of outputs of its shape."""
    [shape] = inputs
    return [shape] * len(layer.outputs)


def _add(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    _require(layer.integer(0) == 0)
    return _arithmetic(layer, inputs)


def _arithmetic(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    """The sum or product of two values of one shape, or of one with a number."""
    _require(len(set(inputs)) == 1, layer.integer(0) in (0, 2))
    _require(len(inputs) == (1 if layer.integer(1) else 2), (2 in layer.parameters) == (layer.integer(1) == 1))
    return inputs[:1]


def _concat(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    axis, rest = layer.integer(0), {_without(shape, layer.integer(0)) for shape in inputs}
    _require(0 <= axis < len(inputs[0]), len(rest) == 1)
    total = sum(shape[axis] for shape in inputs)
    return [(*inputs[0][:axis], total, *inputs[0][axis + 1 :])]


def _without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], -1, *shape[axis + 1 :])


def _upsample(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    [(channels, height, width)] = inputs
    nearest = {0: 1.0, 1: 2.0, 2: 2.0, 6: 0.0}
    said = {number: float(value) for number, value in layer.parameters.items()}
    _require({6: 0.0} | said == nearest)
    return [(channels, 2 * height, 2 * width)]


def _flatten(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    [(channels, height, width)] = inputs
    _require(set(layer.parameters) == {0, 1}, layer.integer(1) == channels, layer.integer(0) in (-1, height * width))
    return [(channels, height * width)]


def _reorg(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    """Every second pixel, in four times the channels."""
    [(channels, height, width)] = inputs
    _require(layer.integer(0) == 2, layer.integer(1) in (0, 1), height % 2 == width % 2 == 0)
    return [(4 * channels, height // 2, width // 2)]


def _transpose(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    [(rows, columns)] = inputs
    _require(layer.parameters == {0: "1"})
    return [(columns, rows)]


def _split_rows(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    """The first rows, and what is left."""
    [(rows, columns)] = inputs
    count, first, rest = layer.parameters.get(-23300, "").split(",")
    _require(count == "2", rest == "-233", layer.integer(1) == 0, 0 < int(first) < rows)
    return [(int(first), columns), (rows - int(first), columns)]


def _slice(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    """Parts along an axis; -233 stands for an equal share of what is left."""
    [shape] = inputs
    count, *sizes = map(int, layer.parameters.get(-23300, "").split(","))
    axis = layer.integer(1)
    _require(count == len(sizes) == len(layer.outputs), 0 <= axis < len(shape))
    left, parts = shape[axis], list[int]()
    for index, size in enumerate(sizes):
        parts.append(left // (count - index) if size == -233 else size)
        left -= parts[-1]
    _require(left == 0)
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in parts]


def _constant(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    _require(not inputs, set(layer.parameters) == {0, 1})  # columns, rows
    return [(layer.integer(1), layer.integer(0))]


def _exponential(layer: Layer, inputs: list[Shape]) -> list[Shape]:
    [shape] = inputs
    _require(layer.integer(0) == 7)
    return [shape]


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

# Those that third-party files have besides: decoded boxes, `Focus`, and rows for columns.
THIRD_PARTY_RULES: dict[str, tuple[set[int], Rule]] = {
    **RULES,
    "BinaryOp": ({0, 1, 2}, _arithmetic),
    "UnaryOp": ({0}, _exponential),
    "MemoryData": ({0, 1}, _constant),
    "Slice": ({1, -23300}, _slice),
    "Reorg": ({0, 1}, _reorg),
    "Permute": ({0}, _transpose),
}

"""Specs for ONNX files that others wrote, such as the official YOLOX exporter's: they carry no metadata.

What the graph says is read from it. What it cannot say (channel order, normalisation, class names) has to be given:
a guess would show only as a few AP less.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from .errors import InvalidInput, MissingBackend
from .spec import ModelSpec

# "official": BGR, 0..255 (every release since 0.1.0). "legacy": RGB, ImageNet mean and std (release 0.0.1).
Preprocessing = Literal["official", "legacy"]

PREPROCESSING: dict[str, dict[str, Any]] = {
    "official": {"channel_order": "BGR", "normalization": None, "pad_value": 114},
    "legacy": {"channel_order": "RGB", "normalization": "imagenet", "pad_value": 114},
}


def foreign_spec(
    path: str | Path,
    class_names: Sequence[str],
    preprocessing: Preprocessing,
    category_ids: Sequence[int] = (),
) -> ModelSpec:
    """The spec of a YOLOX file without metadata: what you say, and what its graph says.

    From the graph: batch, input size, class count and whether the boxes are decoded. Raises `InvalidInput` where the
    graph is not that of a YOLOX model or has another class count, `MissingBackend` without the onnx package.
    """
    graph = _read_graph(path)
    inputs = [value for value in graph.input if value.name not in {tensor.name for tensor in graph.initializer}]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise InvalidInput(
            f"{path} has {len(inputs)} inputs and {len(graph.output)} outputs; a YOLOX file has one of each."
        )
    input_shape, output_shape = _shape(inputs[0]), _shape(graph.output[0])
    if len(input_shape) != 4 or input_shape[1] != 3 or None in input_shape[1:]:
        raise InvalidInput(f"{path} takes {input_shape}, not images of (N, 3, H, W) with a fixed size.")
    batch, _, height, width = input_shape
    assert height is not None and width is not None
    spec = ModelSpec(
        name=Path(path).stem,
        input_size=(height, width),
        class_names=tuple(class_names),
        category_ids=tuple(category_ids),
        batch=batch,
        # Decoding is the one place where YOLOX has an exponential.
        decoded=any(node.op_type == "Exp" for node in graph.node),
        **PREPROCESSING[preprocessing],
    )
    if len(output_shape) != 3 or output_shape[1] not in (None, spec.num_anchors):
        raise InvalidInput(
            f"{path} gives {output_shape}, not the (N, {spec.num_anchors}, 5 + C) of YOLOX at {height}x{width}."
        )
    if output_shape[2] != 5 + spec.num_classes:
        found = "an unknown number of" if output_shape[2] is None else output_shape[2] - 5
        raise InvalidInput(f"{path} has {found} classes, but {spec.num_classes} class names were given.")
    return spec


def _read_graph(path: str | Path) -> Any:
    try:
        import onnx
    except ImportError:
        raise MissingBackend(f"reading the graph of {path} needs the onnx package: pip install onnx") from None
    try:
        return onnx.load(str(path), load_external_data=False).graph
    except Exception as error:  # protobuf's decoding errors and the system's share no base class
        raise InvalidInput(f"{path} is not an ONNX file: {error}") from None


def _shape(value: Any) -> list[int | None]:
    """The dimensions of a graph's input or output; None where they are free."""
    return [size.dim_value if size.HasField("dim_value") else None for size in value.type.tensor_type.shape.dim]

"""Specs for model files that others wrote, such as the official YOLOX exporter's: they carry none of ours.

What the graph says is read from it. What it cannot say (channel order, normalisation, class names) has to be given:
a guess would show only as a few AP less.
"""

from __future__ import annotations

import ast
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from .class_names import same_name
from .coco import category_ids as ids_of
from .errors import InvalidInput
from .spec import GraphNMS, ModelSpec, is_name
from .third_party import check_image_input
from .third_party_files import Graph, Node, read_graph
from .third_party_layout import Port, dense_layout

# "official": BGR, 0..255 (every release since 0.1.0). "legacy": RGB, ImageNet mean and std (release 0.0.1).
Preprocessing = Literal["official", "legacy"]

PREPROCESSING: dict[str, dict[str, Any]] = {
    "official": {"channel_order": "BGR", "normalization": None, "pad_value": 114},
    "legacy": {"channel_order": "RGB", "normalization": "imagenet", "pad_value": 114},
}

# Where exporters write the class names into an ONNX file.
NAME_KEYS = ("names", "class_names", "classes", "labels")


def foreign_spec(
    path: str | Path,
    class_names: Sequence[str] | None,
    preprocessing: Preprocessing,
    category_ids: Sequence[int] = (),
    input_size: tuple[int, int] | None = None,
) -> ModelSpec:
    """The spec of a third-party YOLOX file (ONNX, OpenVINO, NCNN): what you say, and what its graph says.

    From the graph: batch, input size, class count, whether the boxes are decoded, NMS inside and its thresholds, and
    class names where the file has them (None: take those). category_ids: by default COCO's where every name is one of
    its, else 1..C. input_size: (height, width), for a graph that takes any.

    What the graph leaves open is checked on what it gives when the file is loaded. Raises `InvalidInput` where the
    graph is not that of a YOLOX model or has another class count, `MissingBackend` without the package that reads it.
    """
    path = Path(path)
    graph = read_graph(path)
    names = _class_names(path, class_names, graph)
    channels_last = check_image_input(path, graph.inputs, PREPROCESSING[preprocessing]["normalization"] is None)
    [port] = graph.inputs
    size = port.shape[1:3] if channels_last else port.shape[2:]
    values: dict[str, Any] = {
        "name": path.stem,
        "input_size": _input_size(path, size, input_size),
        "class_names": names,
        "category_ids": tuple(category_ids) or ids_of(names),
        "batch": port.shape[0],
        "precision": graph.precision,
        **PREPROCESSING[preprocessing],
    }
    dense = ModelSpec(**values, decoded=decodes(graph.nodes))
    outputs = _for_batch(graph.outputs, dense.batch or 1)
    if (rows := _best_rows(outputs, graph.nodes, dense.num_anchors)) is not None:
        return ModelSpec(**values, topk=rows)
    if any(None in output.shape for output in outputs) and not has_nms(graph.nodes):
        return dense  # its outputs say what they are when they come
    try:
        dense_layout(path, outputs, dense, dense.batch or 1)
        return dense
    except InvalidInput:
        if has_nms(graph.nodes):
            return ModelSpec(**values, nms=_thresholds(graph))
        raise


def _class_names(path: Path, given: Sequence[str] | None, graph: Graph) -> tuple[str, ...]:
    """The names that were given, or those in the file's metadata. Raises `InvalidInput` where they contradict."""
    own = {key: names for key in NAME_KEYS if (names := names_in(graph.metadata.get(key, "")))}
    found = next(iter(own.values()), None)
    if given is None:
        if found is None:
            raise InvalidInput(
                f"{path} does not name its classes: say them with --class-names: coco, a text file with one name a"
                " line, or the names with commas between them."
            )
        if any(names != found for names in own.values()):
            raise InvalidInput(f"{path} names its classes in two ways, in {' and '.join(own)}: say --class-names.")
        return found
    if found is not None and not any(_same_names(given, names) for names in own.values()):
        pairs = enumerate(zip(given, found, strict=False))
        index = next((i for i, (one, two) in pairs if not same_name(one, two)), None)
        which = (
            f"{len(found)} classes, and {len(given)} class names were given"
            if index is None
            else f"its class {index} {found[index]!r}, and {given[index]!r} was given"
        )
        raise InvalidInput(f"{path} names {which}: leave out --class-names to take the file's own.")
    return tuple(given)


def _same_names(some: Sequence[str], others: Sequence[str]) -> bool:
    return len(some) == len(others) and all(map(same_name, some, others))


def names_in(text: str) -> tuple[str, ...] | None:
    """Class names in a text of an ONNX file's metadata: a list, or a dict by number, as Python or JSON writes it.

    None for any other text.
    """
    if len(text) > 1_000_000:
        return None
    content: Any = None
    for parse in (json.loads, ast.literal_eval):
        try:
            content = parse(text)
            break
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    if isinstance(content, dict):
        if all(isinstance(value, int) for value in content.values()):  # {"person": 0}
            content = {value: key for key, value in content.items()}
        try:
            numbered = {int(key): value for key, value in content.items()}
        except (ValueError, TypeError):
            return None
        if sorted(numbered) != list(range(len(content))):
            return None
        content = [numbered[index] for index in range(len(numbered))]
    if not isinstance(content, (list, tuple)) or not content:
        return None
    return tuple(content) if all(isinstance(name, str) and is_name(name) for name in content) else None


def _input_size(path: Path, size: Sequence[int | None], given: tuple[int, int] | None) -> tuple[int, int]:
    height, width = size
    if given is None:
        if height is None or width is None:
            raise InvalidInput(f"{path} takes images of any size: say which with --input-size HEIGHT WIDTH.")
        return height, width
    if height not in (None, given[0]) or width not in (None, given[1]):
        raise InvalidInput(f"{path} takes {height}x{width} and no other size: leave out --input-size.")
    return given[0], given[1]


def _for_batch(ports: Sequence[Port], count: int) -> list[Port]:
    """The outputs for a batch of this size, where that is what the first dimension leaves free."""
    return [
        Port(port.name, port.dtype, (count, *port.shape[1:]) if port.shape[:1] == (None,) else port.shape)
        for port in ports
    ]


# --- What operators say ---


def decodes(nodes: Sequence[Node]) -> bool:
    """Whether a graph decodes its boxes: that is the one place where YOLOX has an exponential.

    One that leads to a convolution is part of an activation; one to which a number is added, of a sigmoid.
    """
    readers: dict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        for name in node.inputs:
            readers[name].append(node)
    return any(
        not _leads_to_convolution(node, readers)
        and not all(reader.kind == "Add" for name in node.outputs for reader in readers[name])
        for node in nodes
        if node.kind == "Exp"
    )


def _leads_to_convolution(node: Node, readers: Mapping[str, Sequence[Node]]) -> bool:
    seen, waiting = set[int](), [node]
    while waiting:
        for name in waiting.pop().outputs:
            for reader in readers.get(name, ()):
                if "Conv" in reader.kind:
                    return True
                if id(reader) not in seen:
                    seen.add(id(reader))
                    waiting.append(reader)
    return False


def has_nms(nodes: Sequence[Node]) -> bool:
    return any("NonMaxSuppression" in node.kind or "Nms" in node.kind or "NMS" in node.kind for node in nodes)


def _best_rows(outputs: Sequence[Port], nodes: Sequence[Node], anchors: int) -> int | None:
    """How many rows (x1, y1, x2, y2, score, class) there are, where a graph without NMS chooses each anchor's class."""
    kinds = {node.kind for node in nodes}
    shapes = [output.shape for output in outputs]
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][2] not in (6, None) or has_nms(nodes):
        return None
    if "TopK" in kinds:
        return shapes[0][1]
    return (shapes[0][1] or anchors) if "ArgMax" in kinds else None


def _thresholds(graph: Graph) -> GraphNMS:
    """The thresholds of the one NonMaxSuppression in a graph, where they are constants between 0 and 1."""
    found = [node for node in graph.nodes if node.kind == "NonMaxSuppression"]
    if len(found) != 1:
        return GraphNMS(None, None)
    names = [*found[0].inputs, "", "", "", "", ""]
    overlap, score = (graph.constants.get(name, 0.0) for name in names[3:5])
    # float32 holds 0.65 as 0.64999998.
    return GraphNMS(*(round(value, 6) if 0 < value < 1 else None for value in (score, overlap)))

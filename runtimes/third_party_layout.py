"""How a third-party graph lays out one value for every anchor and column, told by the shapes of its outputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import InvalidInput
from .spec import ModelSpec

Floats = npt.NDArray[np.float32]

EXPORT = "export the checkpoint instead (yolox-deploy export --weights FILE --target onnx)"


@dataclass(frozen=True)
class Port:
    """An input or output of a graph. dtype: NumPy's name for it. shape: None where a size is free."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name} ({', '.join('?' if size is None else str(size) for size in self.shape)})"


def named(ports: Sequence[Port]) -> str:
    return ", ".join(str(port) for port in ports)


# From the graph's outputs to (N, A, 5 + C).
Read = Callable[[Sequence[Floats]], Floats]


def dense_layout(path: str | Path, ports: Sequence[Port], spec: ModelSpec, count: int) -> Read:
    """How to make (N, A, 5 + C) of outputs of these shapes for `count` images: every size is known.

    One output, also turned (N, 5 + C, A), among others that are left alone; or one for each level, (N, 5 + C, h, w) or
    (N, h, w, 5 + C), or three for each level, of boxes, objectness and classes. Raises `InvalidInput` for any other.
    """
    anchors, columns = spec.num_anchors, 5 + spec.num_classes
    if count == 1:  # a dimension of 1 that was left out
        ports = [Port(p.name, p.dtype, (1, *p.shape)) if p.shape == (anchors, columns) else p for p in ports]
    whole = [index for index, port in enumerate(ports) if port.shape == (count, anchors, columns)]
    turned = [index for index, port in enumerate(ports) if port.shape == (count, columns, anchors)]
    if len(whole) == 1:
        return lambda values: values[whole[0]].reshape(count, anchors, columns)
    if len(turned) == 1 and not whole:
        return lambda values: np.ascontiguousarray(values[turned[0]].transpose(0, 2, 1))
    parts = _parts(ports, spec, count)
    if parts is None:
        raise InvalidInput(f"{path} gives {named(ports)}: {_what_it_is(ports, spec, count)}")
    return lambda values: np.concatenate(
        [np.concatenate([view(values[index]) for index, view in level], axis=2) for level in parts], axis=1
    )


# An output by its number, and what makes (N, cells, channels) of it.
Part = tuple[int, Callable[[Floats], Floats]]


def _parts(ports: Sequence[Port], spec: ModelSpec, count: int) -> list[list[Part]] | None:
    """The outputs that make up each level, in order, or all anchors at once. None where they do not."""
    height, width = spec.input_size
    grids = [(height // stride, width // stride) for stride in spec.strides]
    levels = [prod(grid) for grid in grids]
    found: dict[int, list[tuple[int, int, Callable[[Floats], Floats]]]] = {}
    for index, port in enumerate(ports):
        seen = _cells(port.shape, grids, [*levels, spec.num_anchors], spec.num_classes, count)
        if seen is None:
            return None
        cells, channels, view = seen
        found.setdefault(cells, []).append((index, channels, view))
    order = [spec.num_anchors] if set(found) == {spec.num_anchors} else levels
    if set(found) != set(order):
        return None
    parts = [_columns(found[cells], ports, spec.num_classes) for cells in order]
    return None if any(part is None for part in parts) else [part for part in parts if part is not None]


def _cells(
    shape: Sequence[int | None], grids: Sequence[tuple[int, int]], counts: Sequence[int], classes: int, batch: int
) -> tuple[int, int, Callable[[Floats], Floats]] | None:
    """How many cells an output covers, its values for each, and what makes (N, cells, channels) of it."""
    kinds = {1, 4, classes, 5 + classes}
    if shape[:1] != (batch,):
        return None
    ways: list[tuple[int, int, Callable[[Floats], Floats]]] = []
    if len(shape) == 4:
        _, first, middle, last = shape
        for grid in grids:
            if (middle, last) == grid and first in kinds:
                ways.append((prod(grid), first or 0, lambda v: v.reshape(*v.shape[:2], -1).transpose(0, 2, 1)))
            if (first, middle) == grid and last in kinds:
                ways.append((prod(grid), last or 0, lambda v: v.reshape(len(v), -1, v.shape[3])))
    if len(shape) == 3:
        _, first, last = shape
        if first in counts and last in kinds:
            ways.append((first or 0, last or 0, lambda v: v))
        if last in counts and first in kinds:
            ways.append((last or 0, first or 0, lambda v: v.transpose(0, 2, 1)))
    return ways[0] if len(ways) == 1 else None


def _columns(
    parts: Sequence[tuple[int, int, Callable[[Floats], Floats]]], ports: Sequence[Port], classes: int
) -> list[Part] | None:
    """The outputs of a level in the order boxes, objectness, classes. None where that is not plain."""
    if [channels for _, channels, _ in parts] == [5 + classes]:
        return [(index, view) for index, _, view in parts]
    wanted = (4, 1, classes)
    if sorted(channels for _, channels, _ in parts) != sorted(wanted):
        return None
    if len(set(wanted)) == 3:
        by_size = {channels: (index, view) for index, channels, view in parts}
        return [by_size[channels] for channels in wanted]
    by_name: list[Part] = []
    for channels, pattern in zip(wanted, ("reg|box", "obj", "cls|class"), strict=True):
        named_so = [
            (index, view)
            for index, size, view in parts
            if size == channels and re.search(pattern, ports[index].name, re.I)
        ]
        if len(named_so) != 1:
            return None
        by_name += named_so
    return by_name if len({index for index, _ in by_name}) == 3 else None


def _what_it_is(ports: Sequence[Port], spec: ModelSpec, count: int) -> str:
    """What outputs that are not those of the spec look like, and what to do."""
    anchors, classes = spec.num_anchors, spec.num_classes
    height, width = spec.input_size
    wanted = f"not the (N, {anchors}, {5 + classes}) of YOLOX at {height}x{width} with {classes} class names"
    shapes = [port.shape[1:] for port in ports]
    grids = {(height // stride, width // stride) for stride in spec.strides}
    if len(ports) == 1 and len(shapes[0]) == 2:
        sizes = set(shapes[0])
        if 3 * anchors in sizes:
            return (
                f"{wanted}, but three anchors a cell, as YOLOv3, YOLOv5 and YOLOv7 have them, which is not read here."
            )
        if anchors in sizes:
            [columns] = sizes - {anchors} or {anchors}
            assert columns is not None
            return _other_columns(columns, spec)
    if any(shape[1:3] in grids or shape[:2] in grids or shape[2:4] in grids for shape in shapes if len(shape) >= 3):
        sizes_of_anchors = {3 * (5 + classes), 3}
        if any(size in sizes_of_anchors for shape in shapes for size in (shape[0], shape[-1]) if len(shape) >= 3):
            return (
                f"{wanted}, but three anchors a cell, as YOLOv3, YOLOv5 and YOLOv7 have them, which is not read here."
            )
        channels = {shape[0] if shape[1:3] in grids else shape[-1] for shape in shapes}
        if len(ports) == len(spec.strides) and len(channels) == 1 and (size := channels.pop() or 0) > 5:
            return _other_columns(size, spec)
        return (
            f"levels that cannot be told apart, {wanted}; their shapes and names do not say which holds boxes (4),"
            f" objectness (1) and classes ({classes}): {EXPORT}."
        )
    if len(ports) == 2 and any(shape[-1:] == (4,) for shape in shapes):
        return (
            f"boxes and scores apart, as RT-DETR, SSD and others give them, {wanted}: whether a box is its corners or"
            f" its centre cannot be known; {EXPORT}."
        )
    return f"{wanted}. If it is a YOLOX model of other strides or with more outputs, {EXPORT}."


def _other_columns(columns: int, spec: ModelSpec) -> str:
    """What a file with the right anchors and other columns may be."""
    classes = spec.num_classes
    if columns == 4 + classes:
        return (
            f"4 box values and {classes} scores an anchor but no objectness, as YOLOv8 and later give; those are not"
            f" read here (of a YOLOX model with {columns - 5} classes, say their names with --class-names)."
        )
    if columns < 6:
        return f"{columns} values an anchor, fewer than the 6 of YOLOX with one class."
    points = columns - 5 - classes
    pose = (
        f" (or {classes} classes and {points // 3} key points, as YOLOX-Pose gives, which is not read here)"
        if points > 0 and points % 3 == 0
        else ""
    )
    return f"it has {columns - 5} classes, but {classes} class names were given: say theirs with --class-names{pose}."

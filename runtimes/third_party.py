"""Third-party graphs: how they take images and give results, brought to what `ModelSpec` says.

Shapes decide where they can. What a graph does not say is checked on its outputs: a wrong reading would show only as
wrong boxes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InvalidInput
from .postprocess import known_grid
from .preprocess import network_input
from .spec import ModelSpec

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

EXPORT = "export the checkpoint instead (yolox-deploy export --weights FILE --target onnx)"

# How far a score may lie outside 0..1 for rounding, as float16 and int8 have it.
ROUNDING = 1e-3
# Input types that hold the values 0..255; the others hold normalised values too.
WHOLE = ("uint8", "uint16", "int16", "int32", "int64")
REAL = ("float16", "float32", "float64")

# The columns of rows of seven: batch index, left, top, right, bottom, score, class; where each stands.
ORDERS = {
    "batch, x1, y1, x2, y2, score, class": (0, 1, 2, 3, 4, 5, 6),
    "batch, x1, y1, x2, y2, class, score": (0, 1, 2, 3, 4, 6, 5),
    "batch, class, score, x1, y1, x2, y2": (0, 3, 4, 5, 6, 2, 1),
    "batch, score, class, x1, y1, x2, y2": (0, 3, 4, 5, 6, 1, 2),
}


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


class ThirdPartyGraph:
    """Feeds the graph of a third-party file what a spec promises, and reads its outputs as the spec says.

    inputs and outputs: of the graph. sigmoid: the scores come as logits, and get their sigmoid here.

    Raises `InvalidInput` for a graph that does not take what the spec promises. What the outputs show is checked as
    they come, until one had something to check; `check` makes one.
    """

    def __init__(
        self, path: str | Path, spec: ModelSpec, inputs: Sequence[Port], outputs: Sequence[Port], sigmoid: bool = False
    ) -> None:
        self.path, self.spec, self.sigmoid = path, spec, sigmoid
        self._ports = tuple(outputs)
        self._checked = False
        if sigmoid and (spec.nms or spec.topk):
            raise InvalidInput(f"{path} gives rows of detections, which have their scores: leave out --sigmoid.")
        if spec.uint8_input:
            raise InvalidInput(f"the spec of {path} says uint8_input, which is for artifacts of export: leave it out.")
        self.channels_last = check_image_input(path, inputs, spec.normalization is None)
        [port] = inputs
        self._dtype = np.dtype(port.dtype)
        size = port.shape[1:3] if self.channels_last else port.shape[2:]
        promised = (spec.batch, *spec.input_size)
        # A batch that the graph leaves free may be fixed by the spec.
        if any(found not in (None, want) for found, want in zip((port.shape[0], *size), promised, strict=True)):
            raise InvalidInput(f"the spec of {path} promises input {spec.input_shape}, the graph takes {port}.")

    def feed(self, images: Floats) -> Array:
        """The network input (N, 3, H, W) float32 as the graph takes it."""
        turned = images.transpose(0, 2, 3, 1) if self.channels_last else images
        return np.ascontiguousarray(turned, dtype=self._dtype)

    def read(self, outputs: Sequence[Array], count: int) -> Floats:
        """What the graph gave for `count` images, as `ModelSpec` says. Raises `InvalidInput` where it is not that."""
        found = [
            Port(port.name, value.dtype.name, value.shape) for port, value in zip(self._ports, outputs, strict=True)
        ]
        if self.spec.nms:
            return _sorted(read_rows(self.path, found, outputs, count, self.spec.num_classes))
        values = [np.asarray(value, np.float32) for value in outputs]
        if self.spec.topk:
            [rows] = values
            self._check_topk(rows)
            return rows
        result = dense_layout(self.path, found, self.spec, count)(values)
        if not self._checked:
            _check_scores(self.path, result, self.spec, self.sigmoid)
        if self.sigmoid:
            result = np.concatenate([result[..., :4], _sigmoid(result[..., 4:])], axis=-1)
        if not self._checked:
            _check_boxes(self.path, result, self.spec)
            self._checked = True
        return result

    def check(self, infer: Callable[[Floats], Floats]) -> None:
        """Run the graph once, on noise, so that what is wrong shows before there is work."""
        count = self.spec.batch or 1
        noise = np.random.default_rng(0).integers(0, 256, (count, *self.spec.input_size, 3), dtype=np.uint8)
        infer(network_input(noise, self.spec))

    def _check_topk(self, rows: Floats) -> None:
        if rows.shape[1:] != (self.spec.topk, 6):
            raise InvalidInput(f"the spec of {self.path} promises {self.spec.topk} rows of 6, not {rows.shape}.")
        check_rows(self.path, rows.reshape(-1, 6), self.spec.num_classes)


def check_image_input(path: str | Path, inputs: Sequence[Port], plain: bool) -> bool:
    """Whether a graph takes (N, H, W, 3) and not (N, 3, H, W). Raises `InvalidInput` where it takes something else.

    plain: the values are 0..255, which whole numbers hold.
    """
    if len(inputs) != 1:
        raise InvalidInput(
            f"{path} takes {len(inputs)} inputs ({named(inputs)}), where a YOLOX file takes images alone: {EXPORT}."
        )
    [port] = inputs
    if len(port.shape) != 4 or (port.shape[1] != 3) == (port.shape[3] != 3):
        raise InvalidInput(f"{path} takes {port}, not images of (N, 3, H, W).")
    if port.dtype not in REAL + (WHOLE if plain else ()):
        why = ", which cannot hold normalised values" if port.dtype in WHOLE else ", not float32"
        raise InvalidInput(f"{path} takes {port.dtype}{why}: {EXPORT}.")
    return port.shape[1] != 3


# --- One value for every anchor and column ---

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


def _sigmoid(logits: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return (1 / (1 + np.exp(-logits))).astype(np.float32)


def _check_scores(path: str | Path, output: Floats, spec: ModelSpec, sigmoid: bool) -> None:
    """Raise `InvalidInput` where scores (N, A, 5 + C) are no probabilities, or with `sigmoid`, where they are."""
    sizes = [prod(side // stride for side in spec.input_size) for stride in spec.strides]
    starts = np.cumsum([0, *sizes])
    for first, last in pairwise(starts):
        for what, values in (("objectness", output[:, first:last, 4]), ("class scores", output[:, first:last, 5:])):
            finite = values[np.isfinite(values)]
            if not finite.size:
                continue
            low, high = float(finite.min()), float(finite.max())
            probable = low >= -ROUNDING and high <= 1 + ROUNDING
            if probable and sigmoid:
                raise InvalidInput(
                    f"{path} gives {what} from {low:.3g} to {high:.3g}, which are probabilities as they are: leave out"
                    " --sigmoid."
                )
            if not probable and not sigmoid:
                raise InvalidInput(
                    f"{path} gives {what} from {low:.3g} to {high:.3g}, which are no probabilities: the scores are"
                    " logits, or this is no box detector; add --sigmoid if the sigmoid is all that is missing."
                )


def _check_boxes(path: str | Path, output: Floats, spec: ModelSpec) -> None:
    """Raise `InvalidInput` where the boxes (N, A, 5 + C) are not what `decoded` says, or not those of their anchors.

    The centre of a box lies near its anchor: what is said of the boxes is held against how their centres vary from
    anchor to anchor.
    """
    if min(spec.input_size) < 64:  # too few anchors to tell
        return
    cells, strides = known_grid(spec.input_size, spec.strides)
    anchors = (cells + 0.5) * strides
    spread = np.median(np.abs(anchors - np.median(anchors, axis=0)))
    centres = output[..., :2]
    sides = np.array(spec.input_size[::-1], np.float32)
    with np.errstate(all="ignore"):
        fits = {
            "decoded": centres,
            "fractions": centres * sides,
            "raw": (centres + cells) * strides,
        }
        off = {name: float(np.nanmedian(np.abs(value - anchors)) / spread) for name, value in fits.items()}
    if not all(np.isfinite(list(off.values()))):
        return  # NaN and infinity detect nothing
    if off["decoded"] < 0.5 or off["fractions"] < 0.5:
        found = min(("decoded", "fractions"), key=off.__getitem__)
    else:
        found = "raw" if off["raw"] < 0.5 else "other"
    said = "decoded" if spec.decoded else "raw"
    if found == said:
        return
    if found == "fractions":
        raise InvalidInput(f"{path} gives boxes as fractions of the image, where pixels are meant: {EXPORT}.")
    if found == "other":
        raise InvalidInput(
            f"{path} gives boxes that do not lie at their anchors: its anchors are in another order than those of"
            f" YOLOX, or this is no YOLOX; {EXPORT}."
        )
    true = "true" if found == "decoded" else "false"
    are = "are decoded" if found == "decoded" else "are not decoded"
    raise InvalidInput(f'the boxes of {path} {are}, other than its spec says: "decoded": {true} in the --spec FILE.')


# --- Rows of detections, of NMS in the graph ---


def read_rows(path: str | Path, ports: Sequence[Port], outputs: Sequence[Array], count: int, classes: int) -> Floats:
    """The rows (M, 7) of NMS in a third-party graph: batch index, left, top, right, bottom, score, class.

    Known are rows of seven in the orders of `ORDERS`, rows of six (x1, y1, x2, y2, score, class), and boxes with scores
    and classes in two to four outputs: mmdeploy's `dets` and `labels`, and those of TensorRT's EfficientNMS. Rows that
    fill up what is left (score 0 or class -1) are dropped. Raises `InvalidInput` for any other, and for values that are
    not those.
    """
    values = [np.asarray(value) for value in outputs]
    columns = values[0].shape[-1] if values[0].ndim else 0
    if len(values) == 1 and columns == 7:
        rows = _rows_of_seven(path, ports[0], np.asarray(values[0], np.float32).reshape(-1, 7), count, classes)
    elif len(values) == 1 and columns == 6:
        rows = _with_batch(np.asarray(values[0], np.float32), count, path)
    else:
        found = _boxes_scores_classes(ports, values)
        if found is None:
            raise InvalidInput(f"{path} has NMS inside and gives {named(ports)}, which is no known form: {EXPORT}.")
        rows = _with_batch(found, count, path)
    with np.errstate(invalid="ignore"):
        rows = rows[(rows[:, 5] > 0) & (rows[:, 6] >= 0)]
    check_rows(path, rows[:, 1:], classes)
    return rows


def _with_batch(rows: Floats, count: int, path: str | Path) -> Floats:
    """(N, M, 6), or (M, 6) of one image, to (N * M, 7) that begin with the index of the image."""
    rows = rows[None] if rows.ndim == 2 else rows
    if rows.ndim != 3 or len(rows) != count:
        raise InvalidInput(f"{path} gives rows {rows.shape} for {count} images: which belong to which cannot be known.")
    indices = np.repeat(np.arange(count, dtype=np.float32), rows.shape[1])[:, None]
    return np.concatenate([indices, rows.reshape(-1, 6)], axis=1)


def _boxes_scores_classes(ports: Sequence[Port], values: Sequence[Array]) -> Floats | None:
    """Rows (N, M, 6) of boxes, scores and classes in outputs of their own. None where they are not plain."""
    last = [value.shape[-1] if value.ndim else 0 for value in values]
    if len(values) == 2 and 5 in last:  # x1, y1, x2, y2, score; class
        boxes, labels = (
            (values[0], values[1]) if last[0] == 5 and values[0].dtype.kind == "f" else (values[1], values[0])
        )
        if labels.size != prod(boxes.shape[:-1]):
            return None
        return np.concatenate([boxes, labels.reshape(*boxes.shape[:-1], 1)], axis=-1).astype(np.float32)
    named_so = {port.name.lower(): value for port, value in zip(ports, values, strict=True)}
    boxes_found = [value for value in values if value.ndim >= 2 and value.shape[-1] == 4]
    if len(values) not in (3, 4) or len(boxes_found) != 1:
        return None
    boxes = boxes_found[0]
    cells = prod(boxes.shape[:-1])
    rest = {name: value for name, value in named_so.items() if value is not boxes}
    counts = [value for name, value in rest.items() if "num" in name or "count" in name] if len(values) == 4 else []
    scores = [v for n, v in rest.items() if re.search("score|conf", n) and "num" not in n and v.dtype.kind == "f"]
    labels_found = [v for n, v in rest.items() if re.search("class|label|cls", n) and "num" not in n]
    if len(scores) != 1 or len(labels_found) != 1 or len(counts) != len(values) - 3:
        return None
    if scores[0].size != cells or labels_found[0].size != cells:
        return None
    shape = (*boxes.shape[:-1], 1)
    rows = np.concatenate([boxes, scores[0].reshape(shape), labels_found[0].reshape(shape)], axis=-1)
    rows = (rows[None] if rows.ndim == 2 else rows).astype(np.float32)
    if counts:
        many = counts[0].reshape(-1)
        if len(many) != len(rows):
            return None
        rows[np.arange(rows.shape[1]) >= many[:, None]] = 0  # what is beyond the count is not filled in
    return rows


def _rows_of_seven(path: str | Path, port: Port, rows: Floats, count: int, classes: int) -> Floats:
    """Rows of seven in the order of the spec, by the output's name where it says one, else by their values."""
    said = _order_in_name(port.name)
    orders = {said: ORDERS[said]} if said else ORDERS
    fitting: list[Floats] = []
    for order in orders.values():
        turned = np.ascontiguousarray(rows[:, order])
        indices = turned[:, 0]
        whole = bool(((indices >= 0) & (indices < count) & (indices == np.floor(indices))).all())
        if whole and _rows_fault(turned[:, 1:], classes) is None:
            fitting.append(turned)
    if said and not fitting:
        fault = _rows_fault(rows[:, ORDERS[said]][:, 1:], classes) or f"image numbers beyond {count - 1}"
        raise InvalidInput(f"{path} has NMS inside and gives rows of {said} with {fault}.")
    if not fitting or any(not np.array_equal(fitting[0], other) for other in fitting[1:]):
        raise InvalidInput(
            f"{path} has NMS inside and gives rows of 7 whose order its values do not say"
            f" ({'; '.join(ORDERS)}): {EXPORT}."
        )
    return fitting[0]


def _order_in_name(name: str) -> str | None:
    """The order that the name of an output spells, such as `batchno_classid_score_x1y1x2y2`."""
    places = [
        re.search(pattern, name.lower()) for pattern in ("batch", "x1|x0|xmin|box", "score|conf", "class|label|cls")
    ]
    if any(place is None for place in places):
        return None
    batch, box, score, label = (place.start() for place in places if place is not None)
    words = {batch: "batch", box: "x1, y1, x2, y2", score: "score", label: "class"}
    spelled = ", ".join(words[place] for place in sorted(words))
    return spelled if spelled in ORDERS else None


def check_rows(path: str | Path, rows: Floats, classes: int) -> None:
    """Raise `InvalidInput` where rows (n, 6) are not left, top, right, bottom in pixels, score, class."""
    fault = _rows_fault(rows, classes)
    if fault is not None:
        raise InvalidInput(f"{path} gives rows of detections with {fault}.")


def _rows_fault(rows: Floats, classes: int) -> str | None:
    """What shows that rows (n, 6) are not left, top, right, bottom in pixels, score, class."""
    rows = rows[np.isfinite(rows).all(axis=1)]
    boxes, scores, labels = rows[:, :4], rows[:, 4], rows[:, 5]
    if ((scores < -ROUNDING) | (scores > 1 + ROUNDING)).any():
        return "scores outside 0..1"
    if (labels != np.floor(labels)).any() or (labels < -1).any():
        return "classes that are no whole numbers"
    if (labels >= classes).any():
        return f"class {int(labels.max())}, but {classes} class names were given: say theirs with --class-names"
    seen = boxes[scores > 0]
    if (seen[:, 2:] < seen[:, :2] - ROUNDING).any():
        return f"boxes whose right or bottom lies before their left or top, so they are no corners: {EXPORT}"
    if len(seen) and np.abs(seen).max() <= 2:
        return f"boxes as fractions of the image, where pixels are meant: {EXPORT}"
    return None


def _sorted(rows: Floats) -> Floats:
    """Best first."""
    return rows[np.argsort(-rows[:, 5], kind="stable")]

"""Rows of detections, of NMS in a third-party graph, in the order of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InvalidInput
from .third_party_checks import ROUNDING
from .third_party_layout import EXPORT, Port, named

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

# The columns of rows of seven: batch index, left, top, right, bottom, score, class; where each stands.
ORDERS = {
    "batch, x1, y1, x2, y2, score, class": (0, 1, 2, 3, 4, 5, 6),
    "batch, x1, y1, x2, y2, class, score": (0, 1, 2, 3, 4, 6, 5),
    "batch, class, score, x1, y1, x2, y2": (0, 3, 4, 5, 6, 2, 1),
    "batch, score, class, x1, y1, x2, y2": (0, 3, 4, 5, 6, 1, 2),
}


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

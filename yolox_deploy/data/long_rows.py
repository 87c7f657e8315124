"""Rows of more than a box in YOLO's labels: polygons, or boxes with key points, which look the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .faults import Fault

SLACK = 0.02  # of the image
LEAST = 10  # numbers of a row that is asked about: 8 are an oriented box, which is a polygon
FEWEST_ROWS = 5  # of which something can be said where nothing but the places of the points tells
INSIDE, FAR = 0.9, 0.25  # of all rows: whose points lie in their box; whose second corner lies far from the others
STRETCHED = 1.5  # times: what a width and height, taken for a corner, make of the polygon's area


class LongRows:
    """What all rows of a split have in common decides, as one alone cannot: polygons differ in their number of corners,
    and none of their corners is a width and a height. file: the YAML, for the error."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._first = ""
        self._counts: set[int] = set()
        self._rows = self._inside = self._stretched = 0
        self._visible = True

    def add(self, place: str, numbers: Sequence[float]) -> None:
        """A row without its class."""
        self._first = self._first or place
        self._counts.add(len(numbers))
        if len(self._counts) == 1:
            self._rows += 1
            self._visible &= _may_be_points(numbers)
            self._inside += _points_in_box(numbers)
            self._stretched += _is_stretched(numbers)

    def faults(self) -> list[Fault]:
        """One where the rows are boxes with key points, and the YAML does not say so."""
        if len(self._counts) != 1:
            return []
        (count,) = self._counts
        each = 3 if self._visible else 2
        likely = self._inside >= INSIDE * self._rows and self._stretched >= FAR * self._rows >= FAR * FEWEST_ROWS
        if count < LEAST or not (self._visible or likely):
            return []
        points = f"{(count - 4) // each} key points"
        sentence = (
            f"{self._first}: every longer row holds a class and {count} numbers, which fit a box and {points}, and are"
            f" no polygon: kpt_shape: [{(count - 4) // each}, {each}] in {self.file} says so."
        )
        return [Fault("key points taken for polygons", self._first, sentence)]


def _may_be_points(numbers: Sequence[float]) -> bool:
    """Whether there are key points of three numbers after four others, of which the last says 0, 1 or 2: not labelled,
    hidden, visible."""
    return len(numbers) % 3 == 1 and all(value in (0, 1, 2) for value in numbers[6::3])


def _points_in_box(numbers: Sequence[float]) -> bool:
    """Whether the first four are a box in the image, and the points after them lie in it, or are 0, 0: not labelled."""
    x, y, width, height = numbers[:4]
    if width < 0 or height < 0 or _beyond(x, width) or _beyond(y, height):
        return False
    points = zip(numbers[4::2], numbers[5::2], strict=False)
    reach = width / 2 + SLACK, height / 2 + SLACK
    return all((px == py == 0) or (abs(px - x) <= reach[0] and abs(py - y) <= reach[1]) for px, py in points)


def _beyond(centre: float, side: float) -> bool:
    return centre - side / 2 < -SLACK or centre + side / 2 > 1 + SLACK


def _is_stretched(numbers: Sequence[float]) -> bool:
    """Whether the second corner, a width and a height maybe, lies far from all others."""
    first, second, *rest = zip(numbers[::2], numbers[1::2], strict=True)
    others = [first, *(point for point in rest if point != (0, 0))]
    return _area([*others, second]) > STRETCHED * _area(others)


def _area(points: Sequence[tuple[float, float]]) -> float:
    xs, ys = zip(*points, strict=True)
    return float((max(xs) - min(xs)) * (max(ys) - min(ys)))

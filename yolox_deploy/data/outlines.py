"""The ten classes of generated objects, as outlines."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]  # (k, 2): x, y
Outline = list[Points]  # closed contours; what an even number of them surrounds is a hole


def turned(outline: Outline, size: float, random: np.random.Generator) -> Outline:
    """An outline rotated, squeezed by up to 35 % and rotated again, about the origin; `size` is its longest side."""
    first, second = (_rotation(angle) for angle in random.uniform(0, 2 * np.pi, 2))
    moved = [contour @ first * (1, random.uniform(0.65, 1)) @ second for contour in outline]
    corners = np.concatenate(moved)
    low, high = corners.min(axis=0), corners.max(axis=0)
    return [(contour - (low + high) / 2) * (size / (high - low).max()) for contour in moved]


def _rotation(angle: float) -> Points:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _arc(start: float, end: float, radius: float = 1, x: float = 0, points: int = 40) -> Points:
    angles = np.linspace(start, end, points)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1) + (x, 0)


def _polygon(corners: int) -> Points:
    return _arc(0, 2 * np.pi, points=corners + 1)[:-1]


def disc(random: np.random.Generator) -> Outline:
    return [_polygon(48)]


def ring(random: np.random.Generator) -> Outline:
    return [_polygon(48), _polygon(48) * random.uniform(0.35, 0.7)]


def square(random: np.random.Generator) -> Outline:
    return [_polygon(4)]


def triangle(random: np.random.Generator) -> Outline:
    return [_polygon(3)]


def star(random: np.random.Generator) -> Outline:
    radii = np.tile([1, random.uniform(0.35, 0.5)], 5)
    return [_polygon(10) * radii[:, None]]


def cross(random: np.random.Generator) -> Outline:
    arm = random.uniform(0.2, 0.4)
    corner = np.array([[1, -arm], [1, arm], [arm, arm]])
    return [np.concatenate([corner @ _rotation(quarter * np.pi / 2) for quarter in range(4)])]


def hexagon(random: np.random.Generator) -> Outline:
    return [_polygon(6)]


def crescent(random: np.random.Generator) -> Outline:
    """What a smaller disc, shifted along x, leaves of a disc."""
    radius, shift = random.uniform(0.75, 0.9), random.uniform(0.4, 0.55)
    x = (1 - radius**2 + shift**2) / (2 * shift)
    y = np.sqrt(1 - x**2)
    outer, inner = np.arctan2(y, x), np.arctan2(y, x - shift)
    return [np.concatenate([_arc(outer, 2 * np.pi - outer), _arc(2 * np.pi - inner, inner, radius, shift)])]


def arrow(random: np.random.Generator) -> Outline:
    shaft, neck = random.uniform(0.15, 0.3), random.uniform(0, 0.35)
    half = np.array([[1, 0], [neck, 0.7], [neck, shaft], [-1, shaft]])
    return [np.concatenate([half, (half * (1, -1))[:0:-1]])]


def heart(random: np.random.Generator) -> Outline:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return [np.stack([16 * np.sin(t) ** 3, y], axis=1) / 16]


OUTLINES: dict[str, Callable[[np.random.Generator], Outline]] = {
    function.__name__: function
    for function in (disc, ring, square, triangle, star, cross, hexagon, crescent, arrow, heart)
}

"""What generated scenes are painted with: backgrounds, clutter, patterns on objects, and the faults of a camera."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from runtimes.preprocess import Image

Random = np.random.Generator
Field = npt.NDArray[np.float32]
Size = tuple[int, int]  # height, width

NOISE = ((160, 50), (40, 25), (10, 15), (3, 12))  # the grain in pixels, and the most that it changes a level


def background(size: Size, random: Random) -> Image:
    """Noise at several scales about one colour, (height, width, 3) uint8; in half of them with stripes."""
    field = random.uniform(40, 216, (1, 1, 3)).astype(np.float32)
    for cell, most in NOISE:
        grid = size[0] // cell + 2, size[1] // cell + 2
        field = _stretched(field, grid) + _coloured_noise(grid, random) * np.float32(random.uniform(0, most))
    field = _stretched(field, size)
    if random.random() < 0.5:
        field += stripes(size, random)[..., None] * random.uniform(-30, 30, 3).astype(np.float32)
    return field.clip(0, 255).astype(np.uint8)


def _coloured_noise(grid: Size, random: Random) -> Field:
    """(height, width, 3), -1 to 1; more of it grey than coloured."""
    grey, colour = random.random((*grid, 1), np.float32), random.random((*grid, 3), np.float32)
    return np.asarray(1.4 * grey + 0.6 * colour - 1, np.float32)


def _stretched(field: Field, size: Size) -> Field:
    stretched = cv2.resize(field, size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(stretched, np.float32).reshape(*size, *field.shape[2:])


def stripes(size: Size, random: Random) -> Field:
    """Parallel stripes in any direction, (height, width), -1 to 1, with soft or hard edges."""
    pace, angle = 2 * np.pi / random.uniform(6, 120), random.uniform(0, np.pi)
    rows = np.arange(size[0], dtype=np.float32)[:, None] * np.float32(np.sin(angle) * pace)
    columns = np.arange(size[1], dtype=np.float32) * np.float32(np.cos(angle) * pace)
    waves = np.sin(rows + columns + np.float32(random.uniform(0, 2 * np.pi)))
    return np.asarray(waves * random.choice(np.array([1, 6], np.float32))).clip(-1, 1)


def _plain(size: Size, random: Random) -> Field:
    return np.full(size, random.uniform(-1, 1), np.float32)


def _ramp(size: Size, random: Random) -> Field:
    return _stretched(random.uniform(-1, 1, (2, 2)).astype(np.float32), size)


def _rough(size: Size, random: Random) -> Field:
    cell = int(random.integers(2, 12))
    return _stretched(random.uniform(-1, 1, (size[0] // cell + 2, size[1] // cell + 2)).astype(np.float32), size)


PATTERNS = (_plain, _ramp, _rough, stripes)


def _palette(part: Image, hue: float, random: Random) -> tuple[Field, Field]:
    """Two colours, BGR: mostly of the kind's own hue (0..180), as real things have one; some like what is behind."""
    if random.random() < 0.15:
        near = part.reshape(-1, 3).mean(axis=0) + random.normal(0, 30, (2, 3))
        return near[0].astype(np.float32), near[1].astype(np.float32)
    hues = random.normal(hue, 6, 2) if random.random() < 0.9 else random.uniform(0, 180, 2)
    hsv = np.stack([hues % 180, random.uniform(110, 255, 2), random.uniform(70, 255, 2)], axis=1)
    first, second = cv2.cvtColor(hsv[None].astype(np.uint8), cv2.COLOR_HSV2BGR)[0].astype(np.float32)
    return first, second


def paint(part: Image, mask: npt.NDArray[np.uint8], hue: float, random: Random) -> None:
    """Paint what a mask (255 inside) covers, between two colours by some pattern; some edged."""
    first, second = _palette(part, hue, random)
    mix = PATTERNS[random.integers(len(PATTERNS))](part.shape[:2], random)[..., None]
    fill = ((first + second) / 2).astype(np.float32) + mix * ((second - first) / 2).astype(np.float32)
    if random.random() < 0.3:
        core = cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=int(random.integers(1, 4)))
        fill[core < 128] = random.uniform(0, 255, 3)
    alpha = mask[..., None] * np.float32(random.uniform(0.75, 1) / 255)
    part[:] = (part + (fill - part) * alpha).clip(0, 255)


def add_clutter(image: Image, count: int, random: Random) -> None:
    """Draw lines, curves, lumps, bars and letters, none of which is an object."""
    kinds = (_line, _curve, _lump, _bar, _letters)
    for kind in random.integers(len(kinds), size=count):
        kinds[kind](image, random)


def _colour(random: Random) -> list[int]:
    return [int(value) for value in random.integers(20, 236, 3)]


def _place(image: Image, random: Random) -> tuple[int, int]:
    return int(random.integers(image.shape[1])), int(random.integers(image.shape[0]))


def _line(image: Image, random: Random) -> None:
    thickness = int(random.integers(1, 5))
    cv2.line(image, _place(image, random), _place(image, random), _colour(random), thickness, cv2.LINE_AA)


def _curve(image: Image, random: Random) -> None:
    steps = random.normal(0, random.uniform(2, 8), (24, 2)).cumsum(axis=0)
    points = (_place(image, random) + steps.cumsum(axis=0)).astype(np.int32)
    cv2.polylines(image, [points], False, _colour(random), int(random.integers(1, 4)), cv2.LINE_AA)


def _lump(image: Image, random: Random) -> None:
    """So that not all that is round is a disc."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    waves = [random.uniform(-0.25, 0.25) * np.sin(k * angles + random.uniform(0, 6)) for k in (2, 3, 4, 5)]
    reach = (1 + np.sum(waves, axis=0)) * 4 * 25 ** random.random()
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * reach[:, None] + _place(image, random)
    cv2.fillPoly(image, [points.astype(np.int32)], _colour(random), cv2.LINE_AA)


def _bar(image: Image, random: Random) -> None:
    """So that not all that has four right angles is a square."""
    length = 10 * 20 ** random.random()
    sides = length, length * random.uniform(0.1, 0.35)
    corners = cv2.boxPoints((_place(image, random), sides, random.uniform(0, 180)))
    cv2.fillPoly(image, [corners.astype(np.int32)], _colour(random), cv2.LINE_AA)


def _letters(image: Image, random: Random) -> None:
    text = "".join(chr(code) for code in random.integers(ord("A"), ord("Z") + 1, random.integers(1, 6)))
    scale = float(random.uniform(0.3, 2))
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(image, text, _place(image, random), font, scale, _colour(random), int(1 + scale), cv2.LINE_AA)


def photographed(image: Image, random: Random) -> Image:
    """The image with other brightness and contrast, and blurred, noisy and compressed by chance."""
    levels = np.arange(256) * random.uniform(0.6, 1.2) + random.uniform(-20, 30)
    image = np.asarray(cv2.LUT(image, levels.clip(0, 255).astype(np.uint8)), np.uint8)
    if random.random() < 0.5:
        image = _blurred(image, random)
    if random.random() < 0.6:
        grain = random.standard_normal(image.shape[:2], np.float32) * np.float32(random.uniform(2, 14))
        image = np.asarray(cv2.add(image, cv2.merge([grain] * 3), dtype=cv2.CV_8U), np.uint8)
    if random.random() < 0.3:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(20, 60))]
        image = np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR), np.uint8)
    return image


def _blurred(image: Image, random: Random) -> Image:
    """Out of focus, or moved while the shutter was open."""
    if random.random() < 0.6:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), random.uniform(0.4, 1.6)), np.uint8)
    length, angle = int(random.integers(3, 10)), random.uniform(0, np.pi)
    middle = (length - 1) / 2
    reach = middle * np.array([np.cos(angle), np.sin(angle)])
    kernel = np.zeros((length, length), np.float32)
    ends = [[int(value) for value in (middle + sign * reach).round()] for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)

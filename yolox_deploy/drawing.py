"""Detections on a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from runtimes.detections import Detections
from runtimes.errors import InvalidInput
from runtimes.preprocess import Image

from .files import replacing

FONT = cv2.FONT_HERSHEY_SIMPLEX


def class_colour(class_id: int) -> tuple[int, int, int]:
    """A BGR colour of its own for each class: the golden ratio spreads the hues."""
    hue = int(class_id * 0.618034 * 180) % 180
    blue, green, red = cv2.cvtColor(np.array([[[hue, 200, 235]]], dtype=np.uint8), cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return blue, green, red


def draw(image: Image, detections: Detections, class_names: Sequence[str], scores: bool = True) -> Image:
    """A copy of the BGR image with boxes, names and, unless they mean nothing, scores; the best detections on top."""
    picture: Image = image.copy()
    scale = max(min(image.shape[:2]) / 640, 0.6)
    for box, confidence, class_id in reversed(list(detections)):
        left, top, right, bottom = (int(side) for side in np.clip(np.round(box), -(2**15), 2**15))
        colour = class_colour(class_id)
        cv2.rectangle(picture, (left, top), (right, bottom), colour, max(round(2 * scale), 2), cv2.LINE_AA)
        text = f"{class_names[class_id]} {confidence:.2f}" if scores else class_names[class_id]
        _draw_label(picture, text, left, top, colour, scale)
    return picture


def _draw_label(picture: Image, text: str, left: int, top: int, colour: tuple[int, int, int], scale: float) -> None:
    """The text on a filled strip above the box; inside it where there is no room above."""
    size, thickness = 0.5 * scale, max(round(scale), 1)
    (width, height), below = cv2.getTextSize(text, FONT, size, thickness)
    strip = height + below + 2
    left, top = max(left, 0), max(top, 0)
    base = top if top >= strip else top + strip
    cv2.rectangle(picture, (left, base - strip), (left + width + 2, base), colour, -1)
    dark = sum(colour) > 384
    ink = (0, 0, 0) if dark else (255, 255, 255)
    cv2.putText(picture, text, (left + 1, base - below), FONT, size, ink, thickness, cv2.LINE_AA)


def write_picture(path: Path, picture: Image, quality: int | None = None) -> None:
    """Write in the format of the suffix; as PNG where OpenCV does not write it, or not in colour. quality: of a JPEG.

    Raises `InvalidInput` for what is not written as PNG either.
    """
    options = [] if quality is None else [cv2.IMWRITE_JPEG_QUALITY, quality]
    content = encode(path.suffix, picture, options) or encode(".png", picture, [])
    if not content:
        raise InvalidInput(f"cannot write {path}.")
    with replacing(path) as part:
        part.write_bytes(content)


def encode(suffix: str, picture: Image, options: Sequence[int]) -> bytes:
    """An image file of the format with this suffix (".jpg"); b"" where OpenCV cannot write that."""
    try:
        written, content = cv2.imencode(suffix, picture, options)
    except cv2.error:  # no such format
        return b""
    return content.tobytes() if written else b""

"""Whether a JPEG holds its whole picture: decoders fill what is missing with grey, or refuse what lacks two bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass

import cv2
import numpy as np

from runtimes.preprocess import Image

START, END = b"\xff\xd8", b"\xff\xd9"
SCAN, NO_LENGTH = 0xDA, {0x01, *range(0xD0, 0xD8)}  # markers: of a scan; those that no length follows
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)  # in compressed data, where FF 00 is the byte FF
GREY = 128  # what libjpeg fills a missing part with


@dataclass(frozen=True)
class Layout:
    """end: where the marker of the end stands, None where there is none. sent: whether the scans that are there hold
    every coefficient of every component."""

    end: int | None
    sent: bool


def read_layout(content: bytes) -> Layout:
    """Walk from marker to marker, past thumbnails in the metadata, to the end of the picture. Source: ITU-T T.81, B."""
    place, missing = len(START), set[tuple[int, int]]()
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xFF or marker in NO_LENGTH:
            place += 1 if marker == 0xFF else 2
            continue
        if marker == END[1]:
            return Layout(place, not missing)
        segment = content[place + 4 : place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")]
        place += 4 + len(segment)
        if marker in FRAMES and len(segment) > 5:
            missing = {(component, index) for component in segment[6::3] for index in range(64)}
        if marker == SCAN and segment:
            missing -= _sent_by(segment)
            found = MARKER.search(content, place)
            if found is None:
                return Layout(None, not missing)
            place = found.start()
    return Layout(place if content[place : place + 2] == END else None, False if missing else place > len(START))


def _sent_by(scan: bytes) -> set[tuple[int, int]]:
    """The coefficients that a scan ends, by its header: each to the last bit."""
    count = scan[0]
    if len(scan) != 4 + 2 * count:
        return set()
    components, (first, last, bits) = scan[1 : 1 + 2 * count : 2], scan[-3:]
    return set() if bits & 15 else {(component, index) for component in components for index in range(first, last + 1)}


def decode_jpeg(content: bytes) -> Image | None:
    """BGR uint8 (H, W, 3), by OpenCV; None where it decodes nothing, or a part of the picture is missing.

    A JPEG without its last marker is read where the picture is whole, which OpenCV 5 refuses. Where a part may be
    missing, different data are put in its place: a whole picture stays the same. Not seen is a progressive JPEG that
    was cut between two scans and closed with the marker of the end.
    """
    layout = read_layout(content)
    if layout.end is not None:
        image = _decode(content)
        if image is None or (layout.sent and not _has_grey_corner(image)):
            return image
        data = content[: layout.end]
    elif not layout.sent:
        return None
    else:
        data = content.rstrip(b"\0")  # a disk's, or a download's, that set the room aside
        data += b"\0" * data.endswith(b"\xff")
    one, other = (_decode(data + filling * 256 + END) for filling in (b"\x00\x5a", b"\xf5\xa5"))
    return one if one is not None and other is not None and np.array_equal(one, other) else None


def _has_grey_corner(image: Image) -> bool:
    """The last block lies in a corner, whichever way the image was turned upright."""
    corners = image[:: max(image.shape[0] - 1, 1), :: max(image.shape[1] - 1, 1)]
    return bool((corners == GREY).all(axis=2).any())


def _decode(content: bytes) -> Image | None:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    return None if image is None else image.astype(np.uint8, copy=False)

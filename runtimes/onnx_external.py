"""Weights outside an ONNX file: where it says that they lie, before anything opens them.

ONNX Runtime before 1.24 opens whatever path a file names. The file is walked here as Protocol Buffers, of which only
the way to the tensors is known (onnx.proto gives the numbers), so that running a model needs no onnx package.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .errors import InvalidInput
from .json_file import check_regular

# Of each message on the way: the numbers of the fields that lead on, and what they hold.
MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}
DEEPEST = 100  # messages within messages, as in Google's own readers
KEY, VALUE, LOCATION = 1, 2, b"location"


def check_external_data(path: Path) -> None:
    """Raise `InvalidInput` where an ONNX file is damaged, or has weights in files outside its own folder."""
    check_regular(path)
    try:
        content = path.read_bytes()
        locations = sorted(set(_locations(memoryview(content), "model")))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise InvalidInput(f"{path} is damaged or cut short, or no ONNX file: {error}.") from None
    for location in locations:
        if not _lies_beside(path, location):
            raise InvalidInput(f"{path} asks for weights that are no file in its folder ({location!r:.200}): refused.")


def _lies_beside(path: Path, location: str) -> bool:
    """Whether there is such a file in the folder of `path`, or in a folder there, wherever links lead."""
    try:
        folder = path.absolute().parent.resolve()
        place = (folder / location).resolve()
        return place.is_relative_to(folder) and place.is_file()
    except (OSError, ValueError, RuntimeError):  # a name that can be none; links that lead to each other
        return False


def _locations(message: memoryview, kind: str, depth: int = 0) -> Iterator[str]:
    """Every file that is named as the place of a tensor. Raises `ValueError` for what is no such message."""
    if depth > DEEPEST:
        raise ValueError("its messages are nested too deep")
    if kind == "entry":
        texts = {number: bytes(value) for number, value in _fields(message) if number in (KEY, VALUE)}
        if texts.get(KEY) == LOCATION:
            yield texts.get(VALUE, b"").decode("utf-8")
        return
    inside = MESSAGES[kind]
    for number, value in _fields(message):
        if number in inside:
            yield from _locations(value, inside[number], depth + 1)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of each field of a message; of numbers, which lead nowhere, nothing."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, wire = tag >> 3, tag & 7
        if number == 0 or tag >> 32:  # of which Google's reader would see the lower half alone, and take it for another
            raise ValueError("it has a field without a number")
        if wire == 0:
            _, place = _varint(message, place)
            continue
        if wire == 2:
            length, place = _varint(message, place)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"it has a field of the unknown kind {wire}")
        if place + length > len(message):
            raise ValueError("a field is longer than what holds it")
        if wire == 2:
            yield number, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, least first, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            raise ValueError("it ends within a number")
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("a number has no end")

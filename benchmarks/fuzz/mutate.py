"""Damage to files, by chance and from a seed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

Random = np.random.Generator

NUMBER = re.compile(rb"-?\d+")
# Where programs that read numbers go wrong: at signs, at the ends of their range, at nothing, at much.
NUMBERS = (0, 1, -1, 2, 255, 256, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, 10**12, 10**30)
FEW = 4  # changes to one file


def mutate(content: bytes, random: Random, spans: Sequence[range] = ()) -> bytes:
    """A few changes at random places. spans: where four of five are made; that is, where the file is no weights."""
    damaged = bytearray(content)
    is_text = content[:1000].isascii()
    changes: list[Change] = [*BYTE_CHANGES, *(TEXT_CHANGES * 3 if is_text else ())]
    # Half of the files have a single change: more of them are refused by the first, and show nothing of the others.
    for _ in range(1 if random.random() < 0.5 else int(random.integers(2, FEW + 1))):
        if not damaged:
            break
        place = _place(len(damaged), random, spans)
        changes[int(random.integers(len(changes)))](damaged, place, random)
    return bytes(damaged)


def _place(size: int, random: Random, spans: Sequence[range]) -> int:
    if spans and random.random() < 0.8:
        counts = np.array([len(span) for span in spans], np.float64)
        span = spans[int(random.choice(len(spans), p=counts / counts.sum()))]
        return min(span[int(random.integers(len(span)))], size - 1)
    return int(random.integers(size))


Change = Callable[[bytearray, int, Random], None]


def _flip(content: bytearray, place: int, random: Random) -> None:
    content[place] ^= 1 << int(random.integers(8))


def _replace(content: bytearray, place: int, random: Random) -> None:
    content[place] = int(random.integers(256))


def _number(content: bytearray, place: int, random: Random) -> None:
    size = int(random.choice([1, 2, 4, 8]))
    number = NUMBERS[int(random.integers(len(NUMBERS)))] % 256**size
    content[place : place + size] = number.to_bytes(size, "little")


def _delete(content: bytearray, place: int, random: Random) -> None:
    del content[place : place + _length(random)]


def _double(content: bytearray, place: int, random: Random) -> None:
    content[place:place] = content[place : place + _length(random)]


def _insert(content: bytearray, place: int, random: Random) -> None:
    content[place:place] = random.bytes(_length(random))


def _copy(content: bytearray, place: int, random: Random) -> None:
    """What stands elsewhere, in the place of what stands here."""
    source, length = int(random.integers(len(content))), _length(random)
    part = content[source : source + length]
    content[place : place + len(part)] = part


def _cut(content: bytearray, place: int, random: Random) -> None:
    if random.random() < 0.2:  # seldom, since it is the same fault again and again
        del content[place:]


def _length(random: Random) -> int:
    return int(2 ** random.uniform(0, 10))


def _text_number(content: bytearray, place: int, random: Random) -> None:
    """Another number for the next one in the text."""
    found = NUMBER.search(content, place) or NUMBER.search(content)
    if found:
        other = NUMBERS[int(random.integers(len(NUMBERS)))] if random.random() < 0.7 else int(random.integers(100))
        content[found.start() : found.end()] = str(other).encode()


def _line(content: bytearray, place: int, random: Random) -> None:
    """A line away, twice, or in another place."""
    lines = content.split(b"\n")
    index = content.count(b"\n", 0, place)
    line = lines.pop(index) if random.random() < 0.6 else lines[index]
    if random.random() < 0.7:
        lines.insert(int(random.integers(len(lines) + 1)), line)
    content[:] = b"\n".join(lines)


def _character(content: bytearray, place: int, random: Random) -> None:
    content[place] = int(random.choice(list(b'0123456789 \n"<>=/,.-{}[]:ax')))


BYTE_CHANGES: tuple[Change, ...] = (_flip, _replace, _number, _delete, _double, _insert, _copy, _cut)
TEXT_CHANGES: tuple[Change, ...] = (_text_number, _line, _character)

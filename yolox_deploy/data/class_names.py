"""What class names say of each other: those of two splits that differ, and those that may be one name, misspelt."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from .faults import Fault, counted

FEWEST_LETTERS, FEWEST_TO_REPLACE = 4, 6
MOST_COMMON, MOST_NAMED = 3, 5  # a misspelt name has at most a third of the other's boxes; names in a sentence
LONE = re.compile(r"\d|(?<![^\W_])[^\W\d_](?![^\W_])")  # a digit, or a letter that is a word: they tell names apart


def class_difference(one: str, names: Sequence[str], other: str, others: Sequence[str]) -> str:
    """Say which class names only one of two splits has; or that their order differs."""
    alone = {one: [name for name in names if name not in others], other: [name for name in others if name not in names]}
    parts = [f"only {split} has {listed(found)}" for split, found in alone.items() if found]
    return ", ".join(parts) or "in another order"


def listed(names: Sequence[str]) -> str:
    """The first of some names, and whether there are more."""
    return ", ".join(names[:MOST_NAMED]) + " and others" * (len(names) > MOST_NAMED)


def misspelt(boxes: Mapping[str, int]) -> list[Fault]:
    """A fault for each class name that differs from a more common one by one slip. boxes: how many each class has."""
    return [
        Fault("class name like another", f"{rare} ({counted(boxes[rare], 'box')}), {common} ({boxes[common]})")
        for one, other in _near(name for name, count in boxes.items() if count)
        for rare, common in [sorted((one, other), key=lambda name: boxes[name])]
        if boxes[rare] * MOST_COMMON <= boxes[common] and differ_by_one_slip(rare, common)
    ]


def _near(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of names that may differ by one slip: alike where a letter, or none, is left out of each."""
    alike = defaultdict(list)
    for name in names:
        plain = name.casefold()
        for key in {plain, *(plain[:place] + plain[place + 1 :] for place in range(len(plain)))}:
            alike[key].append(name)
    pairs = ((one, other) for some in alike.values() for n, one in enumerate(some) for other in some[n + 1 :])
    return list(dict.fromkeys(pairs))


def differ_by_one_slip(one: str, other: str) -> bool:
    """Whether a letter of one name is missing, added, another or exchanged with its neighbour in the other.

    Not where numbers or single letters tell them apart, nor in short names, or writing without capitals, where a letter
    is a word. The first letter, or one of a name of up to five, makes another word: bear and pear, plane and plate.
    """
    first, second = one.casefold(), other.casefold()
    if LONE.findall(first) != LONE.findall(second) or min(map(_letters, (first, second))) < FEWEST_LETTERS:
        return False
    long = min(map(_letters, (first, second))) >= FEWEST_TO_REPLACE
    start = _common(first, second)
    first, second = first[start:], second[start:]
    end = _common(first[::-1], second[::-1])
    first, second = first[: len(first) - end], second[: len(second) - end]
    if not (first + second).isalpha():  # spaces and signs: names that look alike
        return False
    if len(first) == len(second) == 1:
        return long and start > 0
    return len(first) + len(second) == 1 or (len(first) == 2 and first == second[::-1])


def _common(one: str, other: str) -> int:
    """With how many of the same letters two names begin."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _letters(name: str) -> int:
    return sum(letter.lower() != letter.upper() for letter in name)

"""What the data doctor found: in numbers, on the screen and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from runtimes.json_file import json_text

from .faults import RULES, Fault, default_sentence

COLUMNS = 80
MOST_EXAMPLES = 5  # on the screen
MOST_KEPT = 100  # in the JSON file
MOST_CLASSES = 12  # on the screen
SIZES = {"<8": 0, "8-16": 8, "16-32": 16, "32-96": 32, "96+": 96}  # px: strides; COCO's large


@dataclass(frozen=True)
class Finding:
    """All faults of one kind in a split. refused: training would stop. action: what is done, or has to be done.
    examples: files, with what distinguishes them; at most 100. sentence: what training says of the first one that is
    refused, where that is more."""

    kind: str
    refused: bool
    count: int
    action: str
    examples: tuple[str, ...]
    sentence: str = ""

    def __str__(self) -> str:
        head = _wrap(f"{self.kind}: {self.action}", f"  {self.count:>6} x ")
        shown = [_printable(place) for place in list(dict.fromkeys(self.examples))[:MOST_EXAMPLES]]
        more = " ..." if len(shown) < self.count else ""
        texts = [", ".join(shown) + more, *([_printable(self.sentence)] if self.sentence else [])]
        return "\n".join([head, *(_wrap(text, " " * 11) for text in texts)])


def _printable(place: str) -> str:
    """A name of strangers, without what would steer the terminal or could not be written to it."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in place)


def findings(faults: Sequence[Fault]) -> tuple[Finding, ...]:
    """The faults by kind, in the order of `RULES`."""
    by_kind: dict[str, list[Fault]] = {kind: [] for kind in RULES}
    for fault in faults:
        by_kind[fault.kind].append(fault)
    return tuple(_finding(found) for found in by_kind.values() if found)


def _finding(faults: Sequence[Fault]) -> Finding:
    """All faults of one kind."""
    first = faults[0]
    sentence = str(first) if first.rule.refused and str(first) != default_sentence(first.kind, first.place) else ""
    places = tuple(fault.place for fault in faults[:MOST_KEPT])
    return Finding(first.kind, first.rule.refused, len(faults), first.rule.action, places, sentence)


@dataclass(frozen=True)
class Spread:
    """Smallest, middle and largest of some numbers."""

    low: float
    middle: float
    high: float

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.low:.4g}"
        return f"{self.low:.4g} to {self.high:.4g} (median {self.middle:.4g})"


@dataclass(frozen=True)
class Contents:
    """What can be learned from a split.

    images, boxes: how many; boxes without crowds and what is left out. heights, widths: of the images, in pixels.
    aspects: width by height. boxes_per_image. classes: boxes of each. box_sizes: boxes by the root of their area in
    pixels of the network input. full_mosaics: the share of mosaics with more boxes than training takes, at most.
    """

    images: int
    boxes: int
    heights: Spread
    widths: Spread
    aspects: Spread
    boxes_per_image: Spread
    classes: dict[str, int]
    box_sizes: dict[str, int]
    full_mosaics: float

    def __str__(self) -> str:
        shares = {name: count / max(self.boxes, 1) for name, count in self.box_sizes.items()}
        sizes = ", ".join(f"{name}: {self.box_sizes[name]} ({share:.1%})" for name, share in shares.items())
        most = sorted(self.classes, key=lambda name: -self.classes[name])
        shown = most if len(most) <= MOST_CLASSES else [*most[: MOST_CLASSES // 2], "...", *most[-MOST_CLASSES // 2 :]]
        classes = [f"{name} {self.classes[name]}" if name in self.classes else name for name in shown]
        rows = [
            ("images", f"{self.images}; width {self.widths}, height {self.heights}, width / height {self.aspects}"),
            ("boxes", f"{self.boxes}; {self.boxes_per_image} an image"),
            ("box sizes", f"{sizes}; px of the input, root of the area"),
            ("classes", f"{len(self.classes)}: {', '.join(classes)}"),
        ]
        if self.full_mosaics >= 0.0005:
            rows.append(("mosaics", f"up to {self.full_mosaics:.1%} have more boxes than training takes"))
        return "\n".join(_wrap(text, f"  {name:<12}") for name, text in rows)


@dataclass(frozen=True)
class SplitReport:
    """One split. contents: None where nothing of it can be used."""

    name: str
    source: str
    contents: Contents | None
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        parts = [f"{self.name} ({self.source})" if self.source else self.name]
        if self.contents is not None:
            parts.append(str(self.contents))
        for refused, title in ((True, "  training would refuse"), (False, "  to know")):
            shown = [str(finding) for finding in self.findings if finding.refused == refused]
            parts += [title, *shown] if shown else []
        return "\n".join(parts)


@dataclass(frozen=True)
class DataReport:
    """A whole data set. input_size: (height, width) that boxes are measured in. True where it can be trained on."""

    data: str
    input_size: tuple[int, int]
    splits: tuple[SplitReport, ...]

    @property
    def refused(self) -> int:
        """How many faults keep it from being trained on."""
        return sum(finding.count for split in self.splits for finding in split.findings if finding.refused)

    def __bool__(self) -> bool:
        return self.refused == 0

    def __str__(self) -> str:
        height, width = self.input_size
        head = f"{self.data}, seen at {height} x {width} (height x width)"
        return "\n\n".join([head, *map(str, self.splits)])

    def to_dict(self) -> dict[str, Any]:
        return {"trainable": bool(self), **asdict(self)}

    def to_json(self) -> str:
        return json_text(self.to_dict(), indent=2) + "\n"


def _wrap(text: str, head: str) -> str:
    """In lines of the report's width, but for a path that is longer: it stays whole, to be copied."""
    lines = textwrap.TextWrapper(COLUMNS, head, " " * len(head), break_on_hyphens=False, break_long_words=False)
    return lines.fill(text)

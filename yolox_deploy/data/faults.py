"""What can be wrong with a data set, and what is done about it: the one list that readers, training and doctor share.

A parser of one entry raises a `Fault`; the reader that goes through the entries collects them, leaves the entry out and
goes on. So `open_dataset` can refuse the first fault and the data doctor list all of them, by the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from runtimes.errors import InvalidInput

Entry = TypeVar("Entry")
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(frozen=True)
class Rule:
    """What is done about one kind of fault. refused: `open_dataset`, or training, stops with a sentence. action: in a
    few words, what happens to it otherwise, or, where it is refused, what to do."""

    refused: bool
    action: str


def _refused(action: str) -> Rule:
    return Rule(True, action)


def _used(action: str) -> Rule:
    return Rule(False, action)


# In the order in which they are reported. docs/data.md says more of each, and for which formats it can occur.
RULES = {
    "split that cannot be read": _refused("mend or remove it"),
    "broken annotation": _refused("mend or remove it"),
    "coordinates that are no numbers": _refused("mend or remove the box"),
    "coordinates in pixels": _refused("divide them by the image's width and height"),
    "boxes in fractions": _refused("multiply them by the image's width and height"),
    "boxes by their corners": _refused("COCO's are left, top, width and height"),
    "key points taken for polygons": _refused("give kpt_shape in the YAML"),
    "unknown category": _refused("name the class, or remove the box"),
    "unknown image": _refused("name the image, or remove its boxes"),
    "duplicate category": _refused("give each class one id and one name"),
    "duplicate image id": _refused("give each image an id of its own"),
    "missing image": _refused("add the file, or remove its entry"),
    "missing label file": _refused("add the file, or remove the image from its list"),
    "two images of one name": _refused("rename one, with its label file"),
    "ambiguous file name": _refused("rename one of the files"),
    "one image with different labels": _refused("put all of its boxes under one entry"),
    "unreadable image": _refused("replace it, or train with --skip-unreadable"),
    "another size than labelled": _refused("label it anew, or mend the size in its labels"),
    "other classes than another split": _refused("give all splits the same classes"),
    "many boxes outside their images": _refused("the labels are of other images, or in other units"),
    "nothing to learn from": _refused("see whether the labels are where they should be"),
    "box outside its image": _used("left out of training"),
    "box without area": _used("left out of training"),
    "box with negative sides": _used("left out of training"),
    "box too small for the input": _used("left out where it is at most 1 px wide or high in the network input"),
    "box that no anchor is left for": _used("not learned: others with the same centre take all anchors"),
    "box partly outside": _used("clipped"),
    "same box twice": _used("kept"),
    "more boxes than training takes": _used("the first 120 of an image, or of a mosaic, are learned"),
    "crowd region": _used("neither learned nor counted, as in COCO"),
    "many boxes beyond their images": _used("clipped; see whether they are left, top, width and height, in pixels"),
    "boxes that may be percent": _used("kept, though all lie in the first 100 x 100 pixels"),
    "image turned by EXIF": _used("kept: its boxes must be labelled on the upright image, which they do not tell"),
    "16-bit image of few levels": _used("kept, dark: scale it to the full 16 bits, or to 8"),
    "file that is no image": _used("left out"),
    "file name spelled otherwise": _used("taken: it is the only one that it can be"),
    "image without boxes": _used("kept, as background"),
    "label file without image": _used("left out"),
    "image listed twice": _used("taken once"),
    "duplicate annotation id": _used("kept: their ids mean nothing here"),
    "same image twice": _used("kept"),
    "same image with different labels": _used("kept: one of the two is wrong, or each has a part"),
    "image in two splits": _used("kept: figures on the second are too good"),
    "extreme aspect ratio": _used("kept, though little is left of it in the network input"),
    "class without boxes": _used("kept: it is never learned"),
    "class that is not measured": _used("kept: it has no boxes here"),
    "supercategory without boxes": _used("left out: it groups the other classes, and is none itself"),
    "class that is not learned": _used("kept: its AP is 0"),
    "class names that look alike": _used("kept, as classes of their own"),
    "class name like another": _used("kept, as a class of its own; see whether it is misspelt"),
}


def counted(count: int, noun: str) -> str:
    """Say how many there are: 1 image, 2 images, 2 boxes, 2 classes."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith(('s', 'x')) else 's'}"


def default_sentence(kind: str, place: str) -> str:
    return f"{place}: {kind}."


class Fault(InvalidInput):
    """One thing that is wrong with a data set. kind: one of `RULES`. place: the file, with a row or number where there
    is one. Its text is a sentence for the person at the keyboard."""

    def __init__(self, kind: str, place: str, sentence: str | None = None) -> None:
        super().__init__(sentence or default_sentence(kind, place))
        self.kind, self.place = kind, place

    @property
    def rule(self) -> Rule:
        return RULES[self.kind]

    def __reduce__(self) -> tuple[type[Fault], tuple[str, str, str]]:
        return Fault, (self.kind, self.place, str(self))


def sound(parse: Callable[[Entry], Value], entries: Iterable[Entry], faults: list[Fault]) -> list[Value]:
    """What `parse` makes of each entry, without those that are faulty: these go to `faults`."""
    found = []
    for entry in entries:
        try:
            found.append(parse(entry))
        except Fault as fault:
            faults.append(fault.with_traceback(None))
    return found


def once(pairs: Iterable[tuple[Key, Value]], kind: str, source: Path, faults: list[Fault]) -> dict[Key, Value]:
    """A dict of the pairs; where a key comes again, the first one stays and the other goes to `faults`."""
    found: dict[Key, Value] = {}
    for key, value in pairs:
        if key in found:
            faults.append(Fault(kind, str(key), f"{key!r} stands in {source} twice ({kind})."))
        found.setdefault(key, value)
    return found

"""Which images artifacts are compared with their reference on: those on which there is something to compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtimes.detector import Detector
from runtimes.errors import InvalidInput
from runtimes.preprocess import Image
from runtimes.runtime import Runtime

from .data.image_source import find_image_source
from .data.images import ImageFiles
from .data.shapes import shapes_images
from .progress import progress_bar

VERIFY_COUNT = 50
LOOKED_AT = 4  # times as many images are looked at, at most
GENERATED_IMAGES = 8


@dataclass(frozen=True)
class GivenImages:
    """Images, BGR uint8, and where they are from. generated: that the user has given none."""

    images: Sequence[Image]
    source: str
    generated: bool = False

    @property
    def real(self) -> Sequence[Image]:
        """Those that the user has given, which say something of the weights' statistics; none if they are generated."""
        return () if self.generated else self.images

    def __len__(self) -> int:
        return len(self.images)


def given_images(path: Path | None, generated: int = GENERATED_IMAGES) -> GivenImages:
    """The images at a path, of a data set the validation split (see `find_image_source`); without a path, so many
    generated ones."""
    if path is None:
        return GivenImages(shapes_images(generated), "shapes, generated", generated=True)
    found = find_image_source(path)
    return GivenImages(found.read(), found.name)


def choose_images(reference: Runtime, images: Sequence[Image], count: int, score: float) -> Sequence[Image]:
    """At most `count` of the images, evenly spread, before all those on which the reference detects something.

    score: detections below it do not count. All images are taken, unseen, where there are no more than `count`. Else
    the reference runs once on each image that is looked at, at most 4 `count` of them, and others fill up the number
    where too few are found. The choice is the same each time. Raises `InvalidInput` for an image that cannot be read.
    """
    if len(images) <= count:
        return images
    order = search_order(len(images), count)
    detector, found, empty = Detector(reference, score), list[int](), list[int]()
    with progress_bar(total=count, unit="image", desc="choosing") as bar:
        for index in order:
            if len(detector(images[index])):
                found.append(index)
                bar.update()
            else:
                empty.append(index)
            if len(found) == count:
                break
    return some_of(images, sorted([*found, *empty[: count - len(found)]]))


def search_order(images: int, count: int) -> list[int]:
    """The images that may be looked at, as numbers: `count` that are evenly spread, then others between them."""
    first = evenly(images, count)
    others = sorted(set(evenly(images, LOOKED_AT * count)) - set(first))
    return [*first, *others[1::3], *others[::3], *others[2::3]]


def evenly(count: int, wanted: int) -> list[int]:
    """At most `wanted` of the numbers 0 to count - 1, evenly spread."""
    return [index * count // wanted for index in range(wanted)] if count > wanted else [*range(count)]


def some_of(images: Sequence[Image], indices: Sequence[int]) -> Sequence[Image]:
    """Some of the images; files are not read for it."""
    if isinstance(images, ImageFiles):
        return ImageFiles([images.paths[index] for index in indices])
    return [images[index] for index in indices]


def check_readable(images: Sequence[Image]) -> None:
    """Read every image. Raises `InvalidInput` for the first that cannot be read."""
    for index in range(len(images)):
        try:
            images[index]
        except InvalidInput as error:
            raise InvalidInput(f"{error} Remove it, or name other images.") from None

"""Faults that no entry of a data set shows by itself: against the image files, and of all its boxes together.

`open_dataset` looks at them, so that every command that uses labels does; decoding no image.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from .dataset import MOST_OUTSIDE, Dataset, LabelledImage, labels_differ
from .faults import Fault
from .images import UNKNOWN_SIZE, UPRIGHT, Header, read_headers

Floats = npt.NDArray[np.float64]

SLACK = 1.0  # px: many tools count from 1, or round
FEWEST_BOXES = 10  # to say something of all of them together
MANY_BEYOND = 0.1  # of all boxes; some slips, and boxes of hidden parts, are in every data set
PERCENT = 100.0


def with_headers(dataset: Dataset) -> Dataset:
    """The data set with the header of each image that its reader did not look at."""
    without = [image.path for image in dataset.images if image.header is None]
    if not without:
        return dataset
    headers = iter(read_headers(without))
    images = tuple(replace(image, header=next(headers)) if image.header is None else image for image in dataset.images)
    return replace(dataset, images=images)


def size_faults(dataset: Dataset) -> list[Fault]:
    """Images of another size than labelled: they were turned or resized, and the boxes lie elsewhere."""
    faults = []
    for image in dataset.images:
        header = image.header
        if header is not None and UNKNOWN_SIZE not in (header.size, image.size) and header.size != image.size:
            faults.append(size_fault(image, header.size, header.orientation))
    return faults


def size_fault(image: LabelledImage, size: tuple[int, int], orientation: int) -> Fault:
    """size: (height, width) of the upright image. orientation: by EXIF."""
    stored = image.size == size[::-1]
    turned = ", which is turned by its EXIF data" if stored else ""
    place = f"{image.path.name} of {_sides(size)}{turned}, labelled as {_sides(image.size)}"
    why = "it was turned or resized after it was labelled, and its boxes lie elsewhere"
    if stored and orientation != UPRIGHT:
        why = (
            f"the labels were made on the image as it is stored, without its EXIF orientation {orientation}: label the"
            " upright image, or remove the orientation from the file"
        )
    sentence = f"{image.path} is {_sides(size)} (width x height), and labelled as {_sides(image.size)}: {why}."
    return Fault("another size than labelled", place, sentence)


def set_faults(dataset: Dataset) -> list[Fault]:
    """What the labels of all images show together. The headers and sizes must be known."""
    return [*_turned(dataset), *_labelled_twice(dataset), *_units(dataset)]


def _turned(dataset: Dataset) -> list[Fault]:
    """Images that EXIF turns, where the labelled size does not tell whether the labels know: there is none, it is
    square, or the turn keeps it."""
    return [
        Fault("image turned by EXIF", image.path.name)
        for image in dataset.images
        if image.header is not None and image.header.orientation != UPRIGHT and not _tells(image, image.header)
    ]


def _tells(image: LabelledImage, header: Header) -> bool:
    lies = header.orientation >= 5
    return bool(lies and image.size_is_labelled and image.size[0] != image.size[1])


def _labelled_twice(dataset: Dataset) -> list[Fault]:
    """Files that stand in the data set more than once, under one name or by links, with labels that differ."""
    entries = defaultdict(list)
    for image in dataset.images:
        if image.header is not None and image.header.size != UNKNOWN_SIZE:
            entries[image.header.identity].append(image)
    faults = []
    for first, *others in entries.values():
        other = next((other for other in others if labels_differ(first, other)), None)
        if other is not None:
            same = first.path == other.path
            names = first.path.name if same else f"{other.path.name} = {first.path.name}"
            what = "is in it twice" if same else f"and {other.path} are one file"
            sentence = f"{dataset.source}: {first.path} {what}, with different labels: all of its boxes go together."
            faults.append(Fault("one image with different labels", names, sentence))
    return faults


def _units(dataset: Dataset) -> list[Fault]:
    """Boxes whose numbers mean something else than their format says."""
    images = [image for image in dataset.images if len(image.boxes) and image.size != UNKNOWN_SIZE]
    if not images:
        return []
    boxes = np.concatenate([image.boxes for image in images])
    limits = np.concatenate([np.tile(image.size[::-1], (len(image.boxes), 1)) for image in images])
    names = [image.path.name for image in images for _ in image.boxes]
    return [
        *_fractions(dataset, boxes, limits, names),
        *_corners_or_beyond(dataset, boxes, limits, names),
        *_percent(dataset, boxes, limits),
    ]


def _fractions(dataset: Dataset, boxes: Floats, limits: Floats, names: Sequence[str]) -> list[Fault]:
    """Boxes within the first pixel; Pascal VOC's, which count from 1, then lie in the pixel before."""
    sides = boxes[:, 2:] - boxes[:, :2]
    inside = (boxes >= -1).all(axis=1) & (boxes <= 1).all(axis=1) & (sides > 0).all(axis=1)
    inside &= (limits > 2).all(axis=1)
    count = int(inside.sum())
    if count <= MOST_OUTSIDE * len(boxes):
        return []
    name = names[int(inside.argmax())]
    sentence = (
        f"{count} of the {len(boxes)} boxes of {dataset.source} lie within one pixel, such as one of {name}: boxes are"
        " fractions, where pixels are meant; multiply them by the image's width and height."
    )
    return [Fault("boxes in fractions", name, sentence)]


def _corners_or_beyond(dataset: Dataset, boxes: Floats, limits: Floats, names: Sequence[str]) -> list[Fault]:
    """Many boxes beyond their images; all of which may be left, top, right and bottom, taken for left, top, width and
    height."""
    beyond = (boxes[:, 2:] > limits + SLACK).any(axis=1) | (boxes[:, :2] < -SLACK).any(axis=1)
    count = int(beyond.sum())
    if len(boxes) < FEWEST_BOXES or count <= MANY_BEYOND * len(boxes):
        return []
    name, place = names[int(beyond.argmax())], dataset.source.name
    given = boxes[:, 2:] - boxes[:, :2]  # width and height, or what was taken for them
    corners = ((given > boxes[:, :2]) & (given <= limits + SLACK)).all(axis=1)
    if corners.mean() >= 1 - MOST_OUTSIDE:
        sentence = (
            f"{count} of the {len(boxes)} boxes of {dataset.source} reach beyond their images, such as one of {name},"
            " and none would as left, top, right and bottom: COCO's boxes are left, top, width and height."
        )
        return [Fault("boxes by their corners", place, sentence)]
    return [Fault("many boxes beyond their images", f"{count} of {len(boxes)}, as in {name}")]


def _percent(dataset: Dataset, boxes: Floats, limits: Floats) -> list[Fault]:
    """Boxes that end within 100 pixels, at whatever size of the image, and use them."""
    large = (limits > 2 * PERCENT).all(axis=1).mean() > 0.5
    if len(boxes) < FEWEST_BOXES or not large or not 0.9 * PERCENT < boxes[:, 2:].max() <= PERCENT + SLACK:
        return []
    return [Fault("boxes that may be percent", dataset.source.name)]


def _sides(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"

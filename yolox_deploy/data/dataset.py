"""Labelled images, whatever format their labels come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtimes.errors import InvalidInput
from runtimes.spec import LONGEST_NAME, is_name

from .faults import Fault
from .images import UNKNOWN_SIZE, Header, ImageFiles

MAX_LABELS = 120  # of one training image, as officially
MOST_OUTSIDE = 0.01  # of all boxes; some slips are in every data set

Labels = npt.NDArray[np.float32]  # (n, 5): left, top, right, bottom in pixels, class index


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """An image file and the n objects in it.

    image_id: unique in its data set. size: (height, width) of the image as `read_image` gives it.
    boxes: (n, 4) float64, left, top, right, bottom in pixels as annotated: not clipped, some maybe without area.
    class_ids: (n,) int64, index into the categories in ascending order of id.
    area: (n,) float64, square pixels: of the object where it is known, as in COCO, else of the box.
    crowd: (n,) bool, regions of many objects that COCO neither learns from nor counts.
    header: what the file itself says, None where it was not asked. size_is_labelled: `size` is what the labels say, not
    what the header does.
    """

    image_id: int
    path: Path
    size: tuple[int, int]
    boxes: npt.NDArray[np.float64]
    class_ids: npt.NDArray[np.int64]
    area: npt.NDArray[np.float64]
    crowd: npt.NDArray[np.bool_]
    header: Header | None = None
    size_is_labelled: bool = False


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with labels. source: the annotation file or folder, for messages. categories: id to name, ascending.

    faults: entries that are wrong and stand neither in `images` nor in their boxes; `open_dataset` refuses such.
    """

    source: Path
    images: tuple[LabelledImage, ...]
    categories: dict[int, str]
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        refused = [fault for fault in self.faults if fault.rule.refused]
        if refused and not (self.images and self.categories):
            raise refused[0]
        if not self.images:
            raise InvalidInput(f"{self.source} names no images.")
        if not self.categories:
            raise InvalidInput(f"{self.source} names no classes.")
        for name in self.categories.values():
            if not is_name(name):
                raise InvalidInput(
                    f"{self.source} names a class {name!r:.100}: a line of 1 to {LONGEST_NAME} letters can."
                )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.categories.values())

    @property
    def category_ids(self) -> tuple[int, ...]:
        return tuple(self.categories)

    def read_images(self) -> ImageFiles:
        """Every image in order, BGR uint8, read when it is asked for."""
        return ImageFiles([image.path for image in self.images])


Splits = dict[str, Callable[[], Dataset]]  # the splits of a data set, and what reads each


def labelled_image(
    image_id: int,
    path: Path,
    size: tuple[int, int],
    boxes: Sequence[Sequence[float]],
    class_ids: Sequence[int],
    header: Header | None = None,
    size_is_labelled: bool = False,
) -> LabelledImage:
    """For formats that know no more of an object than its box and class."""
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    area = (corners[:, 2:] - corners[:, :2]).clip(min=0).prod(axis=1)
    ids, crowd = np.array(class_ids, np.int64), np.zeros(len(area), bool)
    return LabelledImage(image_id, path, size, corners, ids, area, crowd, header, size_is_labelled)


def left_out_files(files: Sequence[Path]) -> list[Fault]:
    """A fault for each file in a folder of images that is none."""
    return [Fault("file that is no image", file.name) for file in files]


def training_labels(image: LabelledImage) -> Labels:
    """What to learn from an image: boxes clipped to it, without crowds and those that have no area left in it.

    Source: yolox/data/datasets/coco.py, `load_anno_from_ids`, which keeps boxes without width or height, though.
    """
    height, width = image.size
    boxes = image.boxes.clip(0, (width, height, width, height))
    useful = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & ~image.crowd
    return np.concatenate([boxes, image.class_ids[:, None]], axis=1)[useful].astype(np.float32)


def labels_differ(one: LabelledImage, other: LabelledImage) -> bool:
    """Whether two entries have other boxes or classes, in any order."""
    first, second = (np.concatenate([image.boxes, image.class_ids[:, None]], axis=1) for image in (one, other))
    return not np.array_equal(first[np.lexsort(first.T)], second[np.lexsort(second.T)])


def truncated(dataset: Dataset) -> list[LabelledImage]:
    """The images with more boxes than training takes of one."""
    return [image for image in dataset.images if len(training_labels(image)) > MAX_LABELS]


def lie_outside(image: LabelledImage) -> npt.NDArray[np.bool_]:
    """Which boxes have no part in their image, (n,)."""
    height, width = image.size
    beyond = np.array([width, height])
    return np.asarray(((image.boxes[:, :2] >= beyond) | (image.boxes[:, 2:] <= 0)).any(axis=1), np.bool_)


def has_negative_sides(image: LabelledImage) -> npt.NDArray[np.bool_]:
    """Which boxes end before they begin, (n,)."""
    return np.asarray((image.boxes[:, 2:] < image.boxes[:, :2]).any(axis=1), np.bool_)


def check_inside(dataset: Dataset) -> None:
    """Raise `Fault` where many boxes lie outside their images, or have their sides the wrong way round.

    Images of unknown size, which cannot be read, do not count.
    """
    images = [image for image in dataset.images if image.size != UNKNOWN_SIZE]
    wrong = [int((lie_outside(image) | has_negative_sides(image)).sum()) for image in images]
    count, boxes = sum(wrong), sum(len(image.boxes) for image in images)
    if count > MOST_OUTSIDE * boxes:
        name = next(image.path.name for image, some in zip(images, wrong, strict=True) if some)
        raise Fault(
            "many boxes outside their images",
            name,
            f"{count} of the {boxes} boxes of {dataset.source} lie wholly outside their images, or have negative sides,"
            f" such as one of {name}: they are of other images, or in other units.",
        )


def check_trainable(dataset: Dataset) -> int:
    """Raise `Fault` where there is nothing to learn from, or many boxes lie outside their images.

    Returns how many boxes are left out, crowds aside, since they have no area in their image.
    """
    check_inside(dataset)
    if not any(len(training_labels(image)) for image in dataset.images):
        sentence = f"{dataset.source} holds no boxes to learn from: are the labels where they should be?"
        raise Fault("nothing to learn from", dataset.source.name, sentence)
    return left_out(dataset)


def check_evaluable(dataset: Dataset) -> Dataset:
    """The data set. Raises `Fault` where it holds no boxes, crowds aside, so that its AP would be -1, which is none."""
    if all(image.crowd.all() for image in dataset.images):
        sentence = f"{dataset.source} holds no boxes to measure AP on: are the labels where they should be?"
        raise Fault("nothing to learn from", dataset.source.name, sentence)
    return dataset


def left_out(dataset: Dataset) -> int:
    """How many boxes, crowds aside, have no area in their image."""
    return sum(int((~image.crowd).sum()) - len(training_labels(image)) for image in dataset.images)

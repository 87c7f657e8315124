"""What is odd about the boxes of a data set, and how large they are where the network sees them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from .augment import SMALLEST_SIDE
from .class_names import misspelt
from .dataset import MAX_LABELS, Dataset, LabelledImage, lie_outside, training_labels
from .faults import Fault

Floats = npt.NDArray[np.float64]

SLACK = 1.0  # px over the edge that say nothing: many tools count from 1, or round
FINEST_STRIDE = 8
MOST_ANCHORS = 27  # SimOTA's: 3 x 3 around a centre, on 3 levels
MOSAIC = 4  # images


def known(dataset: Dataset, images: Sequence[LabelledImage]) -> Dataset | None:
    """The data set with these images alone; None without any."""
    return replace(dataset, images=tuple(images)) if images else None


def box_faults(dataset: Dataset, size: tuple[int, int]) -> list[Fault]:
    """A fault for each box (or image) that is odd. size: (height, width) of the network input.

    The images' sizes must be known.
    """
    return [
        Fault(kind, image.path.name)
        for image in dataset.images
        for kind, count in count_faults(image, size).items()
        for _ in range(count)
    ]


def count_faults(image: LabelledImage, size: tuple[int, int]) -> dict[str, int]:
    """How many boxes of each kind of fault an image has; for some kinds, whether it is such an image.

    Of crowd regions, which are not learned from, nothing else is said. Boxes without area, with negative sides and
    outside their image are those that `training_labels` leaves out.
    """
    sure = image.boxes[~image.crowd]
    sides = sure[:, 2:] - sure[:, :2]
    negative = (sides < 0).any(axis=1)
    flat = (sides == 0).any(axis=1) & ~negative
    outside = lie_outside(image)[~image.crowd] & ~negative & ~flat
    height, width = image.size
    over = np.maximum(-sure[:, :2], sure[:, 2:] - (width, height)).max(axis=1, initial=-np.inf)
    labelled = np.concatenate([image.boxes, image.class_ids[:, None]], axis=1)[~image.crowd]
    fitted = fitted_boxes(image, size)
    return {
        "box with negative sides": int(negative.sum()),
        "box without area": int(flat.sum()),
        "box outside its image": int(outside.sum()),
        "box partly outside": int(((over > SLACK) & ~negative & ~flat & ~outside).sum()),
        "box too small for the input": int(((fitted[:, 2:] - fitted[:, :2]).min(axis=1) <= SMALLEST_SIDE).sum()),
        "box that no anchor is left for": without_anchor(fitted),
        "same box twice": len(labelled) - len(np.unique(labelled, axis=0)),
        "crowd region": int(image.crowd.sum()),
        "image without boxes": int(len(image.boxes) == 0),
        "more boxes than training takes": int(len(fitted) > MAX_LABELS),
    }


def fitted_boxes(image: LabelledImage, size: tuple[int, int]) -> Floats:
    """The boxes that are learned, (n, 4): left, top, right, bottom in pixels of the network input."""
    ratio = min(size[0] / image.size[0], size[1] / image.size[1])
    return training_labels(image)[:, :4].astype(np.float64) * ratio


def without_anchor(boxes: Floats) -> int:
    """How many of an image's boxes, fitted into the input, SimOTA can give no anchor at all, at least.

    An anchor learns one object. A box may have those within 1.5 strides of its centre, so a box in the input has some,
    and boxes whose centres lie in the same cell of the finest stride have the same ones: 27, fewer at the edge.
    """
    cells = ((boxes[:, :2] + boxes[:, 2:]) / 2 // FINEST_STRIDE).astype(np.int64)
    _, counts = np.unique(cells, axis=0, return_counts=True)
    return int((counts - MOST_ANCHORS).clip(min=0).sum())


def class_faults(dataset: Dataset, learned: Dataset | None, measured: bool) -> list[Fault]:
    """What is odd about the classes of a split. learned: the split that is trained on. measured: this one is not."""
    counts = class_counts(dataset)
    kind = "class that is not measured" if measured else "class without boxes"
    faults = [Fault(kind, name) for name, count in counts.items() if not count]
    if learned is not None and learned is not dataset:
        there = class_counts(learned)
        missed = [name for name, count in counts.items() if count and not there.get(name)]
        faults += [Fault("class that is not learned", name) for name in missed]
    alike = defaultdict(list)
    for name in dataset.class_names:
        alike["".join(filter(str.isalnum, name.casefold())) or name].append(name)
    return [*faults, *misspelt(counts)] + [
        Fault("class names that look alike", " = ".join(map(repr, names))) for names in alike.values() if len(names) > 1
    ]


def class_counts(dataset: Dataset) -> dict[str, int]:
    """The boxes of each class that can be learned."""
    ids = np.concatenate([training_labels(image)[:, 4] for image in dataset.images]).astype(np.int64)
    counts = np.bincount(ids, minlength=len(dataset.class_names)).tolist()
    return dict(zip(dataset.class_names, counts, strict=True))


def box_sizes(dataset: Dataset, size: tuple[int, int]) -> Floats:
    """The root of the area of every box that can be learned, in pixels of the network input, (n,)."""
    boxes = np.concatenate([fitted_boxes(image, size) for image in dataset.images])
    return np.asarray(np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1)))


def full_mosaics(dataset: Dataset) -> float:
    """The share of mosaics whose four images have more boxes than training takes; the crop may cut some of them off."""
    counts = Counter(len(training_labels(image)) for image in dataset.images)
    one = np.zeros(max(counts) + 1)
    one[list(counts)] = list(counts.values())
    shares = np.ones(1)
    for _ in range(MOSAIC):
        shares = np.convolve(shares, one / len(dataset))
    return float(shares[MAX_LABELS + 1 :].sum())

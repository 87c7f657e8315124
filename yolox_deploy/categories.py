"""Which of a model's classes is which category of a data set: by name, never by order and never by a guess."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt

from runtimes.class_names import plain_class_name
from runtimes.detections import Detections
from runtimes.errors import InvalidInput
from runtimes.spec import ModelSpec

from .console import warn
from .data.dataset import Dataset, LabelledImage

Categories = Sequence[int | None]  # the category id of each of a model's classes; None: not in the data set

# Pascal VOC's names of what COCO names otherwise. Only for hints: whoever labelled the data knows what is meant.
SYNONYMS = {
    "aeroplane": "airplane",
    "motorbike": "motorcycle",
    "sofa": "couch",
    "tvmonitor": "tv",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
}
SHOWN_NAMES, SHOWN_HINTS = 5, 3
SIMILAR = 0.8  # difflib's ratio from which two names are shown as nearly the same


def match_categories(spec: ModelSpec, dataset: Dataset) -> tuple[int | None, ...]:
    """Return the category id of each of the model's classes, None where the data set has no such class.

    Names are matched, whatever their order and ids. Letter case, spaces, hyphens and underscores may differ where that
    leaves one name on each side. The only class of a model, if it has no name, is the only category of a data set. What
    of this a user should know is in `class_warnings`.

    Raises `InvalidInput` where the classes have no names, none is in the data set, two have one name that is, or no
    image has an object of them.
    """
    ids = {name: number for number, name in dataset.categories.items()}
    if _is_unnamed(spec) and spec.class_names != dataset.class_names:
        if spec.num_classes == len(ids) == 1:
            return _with_objects(dataset.category_ids, spec, dataset)
        raise InvalidInput(
            f"{spec.name} does not name its classes ({spec.num_classes}): give the names in the order of training, one"
            f" a line, by --class-names FILE (of an artifact, when it is exported). The data's are {_some(ids)}."
        )
    twice = next((name for name in ids if spec.class_names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInput(
            f"{spec.name} has {twice!r} twice among its classes: which of them the data's is cannot be known."
        )
    plain_ids = {plain_class_name(name): number for name, number in ids.items()}
    own = [plain_class_name(name) for name in spec.class_names]
    left, right = Counter(own), Counter(map(plain_class_name, ids))
    found = tuple(
        ids.get(name, plain_ids[plain] if left[plain] == right[plain] == 1 else None)
        for name, plain in zip(spec.class_names, own, strict=True)
    )
    if all(number is None for number in found):
        raise InvalidInput(
            f"{spec.name} and {dataset.source} have no class in common: the model's are {_some(spec.class_names)}, the"
            f" data's {_some(ids)}.{_hint(spec.class_names, tuple(ids))} Measure on data of"
            " its classes, or give the data's categories the model's names."
        )
    return _with_objects(found, spec, dataset)


def class_warnings(spec: ModelSpec, dataset: Dataset, categories: Categories) -> tuple[str, ...]:
    """Say what else than equal names, all on both sides, `match_categories` found. A sentence each.

    They do not name the model, so that a checkpoint and its artifacts have the same.
    """
    pairs = list(zip(spec.class_names, categories, strict=True))
    if _is_unnamed(spec) and spec.class_names != dataset.class_names:
        return (
            f"the model's only class has no name; it is taken for {dataset.class_names[0]!r}, the data's only one.",
        )
    other = [
        f"{name!r} is taken for {dataset.categories[number]!r}"
        for name, number in pairs
        if number is not None and dataset.categories[number] != name
    ]
    only_model = [name for name, number in pairs if number is None]
    only_data = [name for number, name in dataset.categories.items() if number not in categories]
    common = len(pairs) - len(only_model)
    hint = _hint(only_model, only_data)
    found = []
    if other:
        found.append(f"class names differ in letter case or separators: {_some(other)}.")
    if only_data:
        what = f"AP counts {common} of the {len(dataset.categories)} classes of {dataset.source}"
        found.append(f"{what}: the model does not have {_some(only_data)}.{hint}")
    if only_model:
        what = f"{len(only_model)} of the model's {len(pairs)} classes are not in {dataset.source}"
        again = "" if only_data else hint
        found.append(f"{what}, and detections of them are not counted: {_some(only_model)}.{again}")
    return tuple(found)


def check_classes(spec: ModelSpec, dataset: Dataset) -> tuple[str, ...]:
    """Match the classes before any work, print what `class_warnings` says, and return it.

    Raises `InvalidInput` as `match_categories`.
    """
    found = class_warnings(spec, dataset, match_categories(spec, dataset))
    for sentence in found:
        warn(sentence)
    return found


def common_classes(
    dataset: Dataset, found: Sequence[Detections], categories: Categories
) -> tuple[Dataset, list[Detections]]:
    """Return the data set and the detections with their common classes alone, both by the data set's class index.

    found: of every image, in order, by the model's class index. All images stay.
    """
    known = [number for number in dataset.category_ids if number in categories]
    of_data = _indices([known.index(number) if number in known else -1 for number in dataset.category_ids])
    of_model = _indices([-1 if number is None else known.index(number) for number in categories])
    names = {number: dataset.categories[number] for number in known}
    images = tuple(_objects(image, of_data) for image in dataset.images)
    return replace(dataset, images=images, categories=names), [_detections(one, of_model) for one in found]


def _objects(image: LabelledImage, indices: npt.NDArray[np.int64]) -> LabelledImage:
    class_ids = indices[image.class_ids]
    kept = class_ids >= 0
    return replace(
        image, boxes=image.boxes[kept], class_ids=class_ids[kept], area=image.area[kept], crowd=image.crowd[kept]
    )


def _detections(found: Detections, indices: npt.NDArray[np.int64]) -> Detections:
    class_ids = indices[np.asarray(found.class_id, np.int64)]
    kept = class_ids >= 0
    return Detections(found.xyxy[kept], found.confidence[kept], class_ids[kept])


def _indices(values: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


def _with_objects(categories: tuple[int | None, ...], spec: ModelSpec, dataset: Dataset) -> tuple[int | None, ...]:
    """Return the categories. Raises `InvalidInput` where no image has an object of one of them."""
    counted = [index for index, number in enumerate(dataset.category_ids) if number in categories]
    if not any(np.isin(image.class_ids[~image.crowd], counted).any() for image in dataset.images):
        names = [dataset.class_names[index] for index in counted]
        raise InvalidInput(
            f"there is nothing to measure: none of the {len(dataset)} images of {dataset.source} has an object of"
            f" {spec.name}'s classes ({_some(names)}). Are the labels where they should be?"
        )
    return categories


def _is_unnamed(spec: ModelSpec) -> bool:
    """Whether the names are those that we give where nothing names the classes."""
    return all(name == f"class {index}" for index, name in enumerate(spec.class_names))


def _some(names: Sequence[str] | dict[str, int]) -> str:
    """The first names, and how many more there are."""
    shown = list(names)[:SHOWN_NAMES]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _hint(left: Sequence[str], right: Sequence[str]) -> str:
    """A sentence about names that may mean the same; "" without any."""
    pairs = [(name, near) for name in left if (near := _nearest(name, right)) is not None]
    shown = "; ".join(f"{name!r} and {near!r}" for name, near in pairs[:SHOWN_HINTS])
    return f" Maybe the same under two names: {shown}." if pairs else ""


def _nearest(name: str, others: Sequence[str]) -> str | None:
    plain = {_common_name(other): other for other in others}
    near = get_close_matches(_common_name(name), plain, 1, SIMILAR)
    return plain[near[0]] if near else None


def _common_name(name: str) -> str:
    return SYNONYMS.get(plain_class_name(name), plain_class_name(name))

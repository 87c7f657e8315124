"""Data sets in COCO's format: a JSON file for each split, and folders of images."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from runtimes.errors import InvalidInput
from yolox_deploy.files import read_text

from .dataset import Dataset, LabelledImage, Splits, labels_differ
from .faults import Fault, once, sound
from .images import UNKNOWN_SIZE, Header, read_headers
from .names import FileNames, is_file
from .supercategory import find_supercategory
from .unread import recognise_json

PREFIX = "instances_"
Value = TypeVar("Value")


class Entry(NamedTuple):
    """An image as the file names it. size: (height, width), unknown where it does not say."""

    name: str
    size: tuple[int, int]


class Annotation(NamedTuple):
    """An object. number: its id, empty where it has none. box: left, top, right, bottom in pixels."""

    number: str
    image_id: int
    category: int
    box: list[float]
    area: float
    crowd: bool


def coco_splits(root: Path) -> Splits:
    """The splits of `annotations/instances_<split>.json`, or of `annotations/<split>.json` where there are none.

    COCO's own folder holds other files beside these, such as captions. Empty where this is no such folder.
    """
    files = sorted((root / "annotations").glob("*.json"))
    files = [file for file in files if file.stem.startswith(PREFIX)] or files
    splits = {file.stem.removeprefix(PREFIX): file for file in files}
    return {split: partial(read_coco, root, split, file, files) for split, file in splits.items()}


def read_coco(root: Path, split: str, file: Path, files: Sequence[Path] = ()) -> Dataset:
    """The images that a file names, looked for in `<split>/`, `images/<split>/`, `images/`, `data/`, the folder itself
    and that of the file. files: those of all splits.

    A supercategory of which none has boxes is no class: Roboflow's exports list one, with id 0.

    Raises `InvalidInput` for what is not in COCO's format at all, and where none of the images are there.
    """
    content = _read_json(file)
    faults: list[Fault] = []
    group = find_supercategory(content, [other for other in files if other != file])
    if group is not None:
        content["categories"] = [entry for entry in content["categories"] if entry is not group]
        place = f"{group['name']!r} (id {group['id']})"
        faults.append(Fault("supercategory without boxes", place, f"{file} lists {place}, which groups the others."))
    categories = _read_categories(content, file, faults)
    entries = once(_parsed(content, "images", _entry, file, faults), "duplicate image id", file, faults)
    annotations = _parsed(content, "annotations", partial(_annotation, entries, categories, file), file, faults)
    once(((item.number, None) for item in annotations if item.number), "duplicate annotation id", file, faults)
    objects = defaultdict(list)
    for item in annotations:
        objects[item.image_id].append(item)
    images = _find_images(root, split, file, entries, faults)
    indices = {number: index for index, number in enumerate(categories)}
    headers = read_headers(list(images.values()))
    labelled = tuple(
        _labelled(number, entries[number], path, header, objects[number], indices)
        for (number, path), header in zip(images.items(), headers, strict=True)
    )
    return Dataset(file, _without_repeats(labelled, file, faults), categories, tuple(faults))


def _read_categories(content: Any, file: Path, faults: list[Fault]) -> dict[int, str]:
    """Ascending in id, whose gaps mean nothing."""
    pairs = _parsed(content, "categories", lambda entry: (_integer(entry["id"]), str(entry["name"])), file, faults)
    once(((name, None) for _, name in pairs), "duplicate category", file, faults)
    return dict(sorted(once(pairs, "duplicate category", file, faults).items()))


def _parsed(content: Any, part: str, parse: Callable[[Any], Value], file: Path, faults: list[Fault]) -> list[Value]:
    """What `parse` makes of the entries of a part of the file, without those that lack something."""

    def checked(numbered: tuple[int, Any]) -> Value:
        try:
            return parse(numbered[1])
        except Fault:
            raise
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            why = f"lacks {error}" if isinstance(error, KeyError) else f"does not fit: {error}"
            place = f"{part}[{numbered[0]}]"
            raise Fault("broken annotation", place, f"{file} is not in COCO's format: {place} {why}.") from None

    return sound(checked, enumerate(content[part]), faults)


def _entry(entry: Any) -> tuple[int, Entry]:
    sides = entry.get("height"), entry.get("width")
    if not all(sides):
        return _integer(entry["id"]), Entry(str(entry["file_name"]), UNKNOWN_SIZE)
    height, width = map(_integer, sides)
    if min(height, width) < 0:
        raise ValueError("height and width must be positive")
    return _integer(entry["id"]), Entry(str(entry["file_name"]), (height, width))


def _annotation(images: dict[int, Entry], categories: dict[int, str], file: Path, entry: Any) -> Annotation:
    number, crowd = str(entry.get("id", "")), entry.get("iscrowd", 0)
    image_id, category = _integer(entry["image_id"]), _integer(entry["category_id"])
    place = f"annotation {number}"
    if image_id not in images:
        raise Fault("unknown image", place, f"{place} of {file} is of image {image_id!r}, which is not in it.")
    if category not in categories:
        raise Fault("unknown category", place, f"{place} of {file} is of category {category!r}, which is not in it.")
    box = entry.get("bbox") or _box_of(entry)
    if len(box) != 4:
        raise ValueError("bbox needs left, top, width and height")
    if crowd not in (0, 1, None):  # "0" would be taken for one
        raise ValueError(f"iscrowd is 0 or 1, not {crowd!r}")
    left, top, width, height = box
    try:
        area = width * height if entry.get("area") is None else entry["area"]
        finite = math.isfinite(left + top + width + height + area)  # as fast as a check can be: there may be millions
    except TypeError:
        finite = False
    if not finite:
        sentence = f"{place} of {file}: bbox {box}, area {entry.get('area')!r} are no finite numbers."
        raise Fault("coordinates that are no numbers", place, sentence)
    corners = [left, top, left + width, top + height]
    return Annotation(number, image_id, category, corners, area, crowd == 1)


def _box_of(entry: Any) -> list[float]:
    """Of an object that is given by polygons alone."""
    polygons = entry.get("segmentation")
    if not isinstance(polygons, list) or not polygons:
        raise ValueError("bbox is empty, and there is no polygon in its place")
    if not all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in polygons):
        raise ValueError("bbox is empty, and segmentation is no list of polygons")
    xs, ys = ([value for polygon in polygons for value in polygon[axis::2]] for axis in (0, 1))
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _find_images(root: Path, split: str, file: Path, entries: dict[int, Entry], faults: list[Fault]) -> dict[int, Path]:
    """The file of each image id that has one, all in the first folder that holds any of them."""
    names, found = FileNames(), dict[int, Path]()
    known = [root / split, root / "images" / split, root / "images", root / "data", root, file.parent]
    folders = list(dict.fromkeys(known))
    listed = [entry.name for entry in entries.values()]
    exact = (one for one in folders if any(is_file(one / name) for name in listed))
    alike = (one for one in folders if any(_find(names, name, one) for name in listed))
    folder = next(exact, None) or next(alike, None)
    if folder is None:
        if not listed:
            return {}
        places, near = ", ".join(map(str, folders)), names.similar(listed[0], folders)
        raise InvalidInput(f"{listed[0]} of {file.name} is in none of {places}{near}.")
    names.take_faults()  # of looking for the folder

    def find(numbered: tuple[int, Entry]) -> tuple[int, Path]:
        number, (name, _) = numbered
        path = names.find(name, [folder])
        if path is None:
            sentence = f"{folder} lacks {name}, which {file.name} names{names.similar(name, [folder])}."
            raise Fault("missing image", name, sentence)
        return number, path

    found = dict(sound(find, entries.items(), faults))
    faults += names.take_faults()
    return found


def _without_repeats(images: Sequence[LabelledImage], file: Path, faults: list[Fault]) -> tuple[LabelledImage, ...]:
    """Without the images that stand in the file again, under another id, with the same labels: they would count twice.
    Those with other labels stay, for `open_dataset` to refuse."""
    first: dict[Path, LabelledImage] = {}
    kept = []
    for image in images:
        same = first.setdefault(image.path, image)
        if same is image or labels_differ(image, same):
            kept.append(image)
        else:
            sentence = f"{image.path} stands in {file} twice, with the same labels."
            faults.append(Fault("image listed twice", image.path.name, sentence))
    return tuple(kept)


def _find(names: FileNames, name: str, folder: Path) -> bool:
    """Whether a folder holds a file of this name, or several that it may be."""
    try:
        return names.find(name, [folder]) is not None
    except Fault:
        return True


def _labelled(
    number: int, entry: Entry, path: Path, header: Header, objects: Sequence[Annotation], indices: dict[int, int]
) -> LabelledImage:
    return LabelledImage(
        image_id=number,
        path=path,
        size=header.size if entry.size == UNKNOWN_SIZE else entry.size,
        boxes=np.array([item.box for item in objects], np.float64).reshape(-1, 4),
        class_ids=np.array([indices[item.category] for item in objects], np.int64),
        area=np.array([item.area for item in objects], np.float64),
        crowd=np.array([item.crowd for item in objects], bool),
        header=header,
        size_is_labelled=entry.size != UNKNOWN_SIZE,
    )


def _read_json(path: Path) -> dict[str, list[Any]]:
    """Raises `InvalidInput` where the three lists are not in it."""
    try:
        content = json.loads(read_text(path))
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}.") from None
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{path} is not JSON: {error}.") from None
    except (ValueError, RecursionError):  # a number with thousands of digits, brackets in brackets without end
        raise InvalidInput(f"{path} is not JSON that anybody would write.") from None
    parts = ("images", "annotations", "categories")
    if other := recognise_json(content):
        raise InvalidInput(other.sentence(path))
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in parts):
        raise InvalidInput(f"{path} is not in COCO's format: it needs lists of images, annotations and categories.")
    return content


def _integer(value: Any) -> int:
    """Of an id or a side: some tools write 640.0."""
    if type(value) not in (int, float) or value != int(value):
        raise TypeError(f"{value!r} is no whole number")
    return int(value)

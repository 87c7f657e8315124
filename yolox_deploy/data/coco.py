"""Data sets in COCO's format: a JSON file for each split, and folders of images."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from runtimes.errors import InvalidInput

from .dataset import Dataset, LabelledImage, Splits
from .images import known_size

PREFIX = "instances_"


def coco_splits(root: Path) -> Splits:
    """The splits of `annotations/instances_<split>.json`, or of `annotations/<split>.json` where there are none.

    COCO's own folder holds other files beside these, such as captions. Empty where this is no such folder.
    """
    files = sorted((root / "annotations").glob("*.json"))
    files = [file for file in files if file.stem.startswith(PREFIX)] or files
    splits = {file.stem.removeprefix(PREFIX): file for file in files}
    return {split: partial(read_coco, root, split, file) for split, file in splits.items()}


def read_coco(root: Path, split: str, file: Path) -> Dataset:
    """The images that a file names, looked for in `<split>/`, `images/<split>/`, `images/` and the folder itself.

    Raises `InvalidInput` for what is not in COCO's format and images that are not there.
    """
    content = _read_json(file)
    try:
        categories = dict(sorted((_integer(entry["id"]), str(entry["name"])) for entry in content["categories"]))
        entries = {_integer(entry["id"]): entry for entry in content["images"]}
        names = [str(entry["file_name"]) for entry in entries.values()]
        if len(entries) != len(content["images"]) or len(set(categories.values())) != len(content["categories"]):
            raise ValueError("an image id or a category stands in it twice")
        objects = _by_image(content["annotations"], entries, categories)
        folder = _image_folder(root, split, file, names) if names else root
        indices = {number: index for index, number in enumerate(categories)}
        images = tuple(_labelled(entry, folder, objects[number], indices) for number, entry in entries.items())
    except InvalidInput:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(f"{file} is not in COCO's format: {error!r}.") from None
    return Dataset(file, images, categories)


def _by_image(
    annotations: Sequence[Any], images: dict[int, Any], categories: dict[int, str]
) -> defaultdict[int, list[Any]]:
    found: defaultdict[int, list[Any]] = defaultdict(list)
    for entry in annotations:
        box = entry["bbox"]
        fits = entry["image_id"] in images and entry["category_id"] in categories
        if not fits or len(box) != 4 or not np.isfinite(box).all():
            raise ValueError(f"annotation {entry['id']} does not fit")
        found[entry["image_id"]].append(entry)
    return found


def _image_folder(root: Path, split: str, file: Path, names: Sequence[str]) -> Path:
    folders = [root / split, root / "images" / split, root / "images", root]
    folder = next((folder for folder in folders if (folder / names[0]).exists()), None)
    if folder is None:
        raise InvalidInput(f"{names[0]} of {file.name} is in none of {', '.join(map(str, folders))}.")
    absent = [name for name in names if not (folder / name).exists()]
    if absent:
        raise InvalidInput(f"{len(absent)} images of {file.name} are not in {folder}, such as {absent[0]}.")
    return folder


def _labelled(entry: Any, folder: Path, objects: Sequence[Any], indices: dict[int, int]) -> LabelledImage:
    path = folder / entry["file_name"]
    known = entry.get("height") and entry.get("width")
    boxes = np.array([item["bbox"] for item in objects], np.float64).reshape(-1, 4)
    areas = [item.get("area", item["bbox"][2] * item["bbox"][3]) for item in objects]
    boxes[:, 2:] += boxes[:, :2]
    return LabelledImage(
        image_id=entry["id"],
        path=path,
        size=(int(entry["height"]), int(entry["width"])) if known else known_size(path),
        boxes=boxes,
        class_ids=np.array([indices[item["category_id"]] for item in objects], np.int64),
        area=np.array(areas, np.float64),
        crowd=np.array([item.get("iscrowd", 0) for item in objects], bool),
    )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot read {path}: {error}.") from None


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"the id {value!r} is not a number")
    return value

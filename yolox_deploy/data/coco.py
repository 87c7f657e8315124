"""Data sets in COCO's format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtimes.errors import InvalidInput

from .images import ImageFiles


@dataclass(frozen=True)
class CocoDataset:
    """Images with COCO annotations.

    annotations: the JSON file. folder: where the images lie. images: (id, file name) in the file's order. categories:
    id to name, in ascending order of the ids, which is the order of the class indices.
    """

    annotations: Path
    folder: Path
    images: tuple[tuple[int, str], ...]
    categories: dict[int, str]

    def __len__(self) -> int:
        return len(self.images)

    def read_images(self) -> ImageFiles:
        """Every image in order, BGR uint8, read when it is asked for."""
        return ImageFiles([self.folder / name for _, name in self.images])


def open_coco(root: Path) -> CocoDataset:
    """The data set in a folder that holds `annotations/instances_<split>.json` and the images.

    The images are looked for in `<split>/`, `images/<split>/`, `images/` and the folder itself. Raises `InvalidInput`
    where the folder is not such a data set.
    """
    files = sorted((root / "annotations").glob("instances_*.json"))
    if len(files) != 1:
        found = "no file" if not files else " and ".join(file.name for file in files[:3])
        raise InvalidInput(f"{root} must hold one annotations/instances_*.json; it has {found}.")
    content = _read_json(files[0])
    try:
        images = tuple((_integer(image["id"]), str(image["file_name"])) for image in content["images"])
        categories = {_integer(entry["id"]): str(entry["name"]) for entry in content["categories"]}
        known = {image_id for image_id, _ in images}
        for entry in content["annotations"]:
            if entry["image_id"] not in known or entry["category_id"] not in categories or len(entry["bbox"]) != 4:
                raise ValueError(f"annotation {entry['id']} does not fit")
        if len(known) != len(images) or len(set(categories.values())) != len(content["categories"]):
            raise ValueError("an image id or a category stands in it twice")
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{files[0]} is not in COCO's format: {error!r}.") from None
    if not images or not categories:
        raise InvalidInput(f"{files[0]} names no images or no categories.")
    split = files[0].stem.removeprefix("instances_")
    folders = [root / split, root / "images" / split, root / "images", root]
    folder = next((folder for folder in folders if (folder / images[0][1]).exists()), None)
    if folder is None:
        raise InvalidInput(f"{images[0][1]} of {files[0].name} is in none of {', '.join(map(str, folders))}.")
    absent = [name for _, name in images if not (folder / name).exists()]
    if absent:
        raise InvalidInput(f"{len(absent)} images of {files[0].name} are not in {folder}, such as {absent[0]}.")
    return CocoDataset(files[0], folder, images, dict(sorted(categories.items())))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot read {path}: {error}.") from None


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"the id {value!r} is not a number")
    return value

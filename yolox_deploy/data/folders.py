"""Where images and their label files lie, in layouts that have one label file for each image and no list of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runtimes.errors import InvalidInput
from yolox_deploy.console import warn

from .faults import counted
from .images import images_among, is_image

ALIASES = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
SPLITS = ("train", "val", "test")
JOINED = "trainval"  # VOC's list of both, which share their images with it by intention
ONE_SET = "all"  # the name of the only split of a data set that has none
IMAGE_FOLDERS = ("images", "jpegimages", "imgs", "img")
LABEL_FOLDERS = {".xml": ("annotations", "labels", "xml", "xmls"), ".txt": ("labels", "annotations")}
CLASS_LISTS = ("classes.txt", "_darknet.labels", "obj.names", "classes.names", "names.txt")


@dataclass(frozen=True)
class FolderSet:
    """A folder of images, and the folder of their label files, which may be the same."""

    images: Path
    labels: Path

    def label_file(self, image: Path, suffix: str) -> Path:
        """The label file of an image: its path below the folder of labels, with another suffix."""
        return (self.labels / image.absolute().relative_to(self.images.absolute())).with_suffix(suffix)

    def find_images(self) -> tuple[list[Path], list[Path]]:
        """Every image in the folder and the folders in it, sorted; and the files that one could take for images."""
        return images_among(path for path in self.images.rglob("*") if not _is_hidden(path.relative_to(self.images)))

    def find_labels(self, suffix: str) -> list[Path]:
        """Every label file, sorted."""
        found = (path for path in self.labels.rglob(f"*{suffix}") if path.name.lower() not in CLASS_LISTS)
        return sorted(path for path in found if path.is_file())


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def plain_name(name: str) -> str:
    """The name of a split without a year, and without synonyms: train for training, val for valid2017."""
    stem = re.sub(r"\d+$", "", name).lower()
    return ALIASES.get(stem, stem)


def list_folder(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the folders, sorted, and of the files in a folder: quick where there are a hundred thousand."""
    folders: list[str] = []
    files: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            (folders if entry.is_dir() else files).append(entry.name)
    return sorted(folders), files


def split_folders(folder: Path) -> list[Path]:
    """The folders in a folder that are named as splits are."""
    return [folder / name for name in list_folder(folder)[0] if plain_name(name) in SPLITS]


def find_folder(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The folder in a folder that has one of the names, in capitals or not; the first of them, where there are more."""
    there = {name.lower(): folder / name for name in reversed(list_folder(folder)[0])}
    return next((there[name] for name in names if name in there), None)


def folder_sets(root: Path, suffix: str) -> dict[str, FolderSet]:
    """The splits of a data set whose label files have this suffix; `ONE_SET` where it has none.

    Read are images/ beside a folder of labels, each with a folder for every split or without; a folder for every split
    that holds both; and label files beside the images. Empty where it is none of these. Raises `InvalidInput` where it
    is more than one, or images lie outside of the splits.
    """
    found = [sets for sets in (_two_folders(root, suffix), _split_folders(root, suffix), _one(root, suffix)) if sets]
    if len(found) > 1:
        first, second = (next(iter(sets.values())).images for sets in found[:2])
        raise InvalidInput(
            f"{root} holds two sets of images with {suffix} labels, in {first} and {second}: move one away."
        )
    return next(iter(found), {})


def _two_folders(root: Path, suffix: str) -> dict[str, FolderSet]:
    pair = _pair(root, suffix)
    if pair is None:
        return {}
    splits = split_folders(pair.images)
    if not splits:
        return {ONE_SET: pair}
    stray = next(_images_outside(pair.images, splits), None)
    if stray is not None:
        names = " and ".join(folder.name for folder in splits[:2])
        raise InvalidInput(f"{stray} is in none of the splits beside it ({names}): move it into one, or away.")
    if not any((pair.labels / folder.name).is_dir() for folder in splits):
        return _sharing_labels({folder.name: FolderSet(folder, pair.labels) for folder in splits}, suffix)
    sets = {folder.name: FolderSet(folder, pair.labels / folder.name) for folder in splits}
    for folder in split_folders(pair.labels):
        if folder.name not in sets and _holds_labels(folder, suffix):
            warn_left_out(root, folder, suffix)
    labelled = {split: part if _holds_labels(part.labels, suffix) else None for split, part in sets.items()}
    return _labelled(labelled, root, pair.images, suffix)


def _sharing_labels(sets: dict[str, FolderSet], suffix: str) -> dict[str, FolderSet]:
    """Splits whose label files lie in one folder. Raises `InvalidInput` where two images have one label file."""
    known: dict[Path, Path] = {}
    for part in sets.values():
        for image in part.find_images()[0]:
            file = part.label_file(image, suffix)
            if known.setdefault(file, image).parent != image.parent:
                raise InvalidInput(
                    f"{known[file]} and {image} are of one name, and share the labels {file}: rename one."
                )
    return sets


def _split_folders(root: Path, suffix: str) -> dict[str, FolderSet]:
    sets = {folder.name: _pair(folder, suffix) or _together(folder, suffix) for folder in split_folders(root)}
    return _labelled(sets, root, root, suffix) if any(sets.values()) else {}


def _labelled(sets: dict[str, FolderSet | None], root: Path, place: Path, suffix: str) -> dict[str, FolderSet]:
    """The splits, folders of a place, that have labels. One of images alone, such as a test split whose labels are kept
    back, is named."""
    for split, part in sets.items():
        if part is None:
            warn_left_out(root, place / split, suffix)
    return {split: part for split, part in sets.items() if part is not None}


def warn_left_out(root: Path, folder: Path, suffix: str) -> None:
    """Say that a folder of a data set is no split of it: it holds images alone, or label files alone."""
    files = [path for path in folder.rglob("*") if not _is_hidden(path.relative_to(folder))]
    images, labels = sum(map(is_image, files)), sum(path.suffix == suffix for path in files)
    has = counted(images, "image") if images or not labels else counted(labels, "label file")
    warn(f"{root}: left out: {folder.name} ({has}), which has no {'labels' if images or not labels else 'images'}.")


def _one(root: Path, suffix: str) -> dict[str, FolderSet]:
    found = _together(root, suffix)
    return {} if found is None else {ONE_SET: found}


def _pair(folder: Path, suffix: str) -> FolderSet | None:
    """A folder of images, or the images of the folder itself, beside a folder of labels; or one that holds both."""
    images, labels = find_folder(folder, IMAGE_FOLDERS), find_folder(folder, LABEL_FOLDERS[suffix])
    if images is None:
        if labels is None or not any(is_image(folder / name) for name in list_folder(folder)[1]):
            return None
        return FolderSet(folder, labels) if _holds_labels(labels, suffix) else None
    pairs = [FolderSet(images, place) for place in (labels, images) if place is not None]
    return next((pair for pair in pairs if _holds_labels(pair.labels, suffix)), None)


def _holds_labels(folder: Path, suffix: str) -> bool:
    return any(path.name.lower() not in CLASS_LISTS for path in folder.rglob(f"*{suffix}"))


def _together(folder: Path, suffix: str) -> FolderSet | None:
    """Images and label files of the same names in one folder."""
    files = list_folder(folder)[1]
    labels = {name.removesuffix(suffix) for name in files if name.endswith(suffix)}
    labelled = labels and any(path.stem in labels and is_image(path) for path in map(folder.joinpath, files))
    return FolderSet(folder, folder) if labelled else None


def _images_outside(folder: Path, inside: list[Path]) -> Iterator[Path]:
    """Images in a folder that are in none of some folders in it."""
    folders, files = list_folder(folder)
    yield from (path for path in map(folder.joinpath, files) if is_image(path))
    for path in map(folder.joinpath, folders):
        yield from () if path in inside else (image for image in path.rglob("*") if is_image(image))

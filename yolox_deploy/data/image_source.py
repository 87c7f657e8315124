"""The images that a path names: a file, a folder, a folder of folders, a pattern, or a split of a data set."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtimes.errors import InvalidInput

from .dataset import Splits
from .images import IMAGE_SUFFIXES, ImageFiles, find_images
from .open import default_split, find_split, find_splits

DATA_SUFFIXES = {".yaml", ".yml", ".json", ".data", ".txt"}  # of files that name the images of a data set


@dataclass(frozen=True)
class ImageSource:
    """Image files, at least one, sorted or in the order of their data set. name: where they are from, for messages."""

    paths: Sequence[Path]
    name: str

    def __len__(self) -> int:
        return len(self.paths)

    def read(self) -> ImageFiles:
        """Every image, BGR uint8, read when it is asked for."""
        return ImageFiles(self.paths)


def find_image_source(path: Path, preferred_split: str = "val") -> ImageSource:
    """The images at a path.

    A folder that holds images itself gives these. A data set in COCO's, Pascal VOC's or YOLO's layout gives the images
    of one split: the one after a colon, as in `coco:train`, else the preferred one, else the one that `open_dataset`
    takes. Any other folder gives the images in all folders below it, which is said on standard error. What is not
    there, but for a colon, may be a pattern (see `find_images`). Raises `InvalidInput` where no image is named.
    """
    root, split = split_of(path)
    if split is not None:
        return _of_split(root, find_splits(root), split)
    if not path.is_dir():
        is_data = path.is_file() and path.suffix.lower() in DATA_SUFFIXES
        return _preferred(path, find_splits(path), preferred_split) if is_data else _direct(path)
    if any(file.suffix.lower() in IMAGE_SUFFIXES for file in path.iterdir()):
        return _direct(path)
    try:
        found = find_splits(path)
    except InvalidInput as error:
        return _below(path, error)
    return _preferred(path, found, preferred_split)


def split_of(path: Path) -> tuple[Path, str | None]:
    """Path and split of `DATA:SPLIT`; the path and None for any other, such as `C:\\images` or a name with a colon."""
    root, _, split = str(path).rpartition(":")
    if path.exists() or not root or not split or set(split) & set("/\\*?") or not Path(root).exists():
        return path, None
    return Path(root), split


def train_split(data: Path, measured: Sequence[str]) -> Path | None:
    """The training split of a data set as `DATA:SPLIT`; None where it has none, or AP is measured on that.

    measured: names of the splits that AP is measured on; without any, the one that `open_dataset` takes.
    """
    found = find_splits(data)
    name = _of_kind(data, found, "train")
    used = [find_split(found, split, data) for split in measured] or [default_split(found, data)]
    return None if name is None or name in used else Path(f"{data}:{name}")


def _direct(path: Path) -> ImageSource:
    return ImageSource(find_images(path), str(path))


def _of_kind(path: Path, found: Splits, split: str) -> str | None:
    """The name under which a data set has a split; None where it has none, or several."""
    try:
        return find_split(found, split, path)
    except InvalidInput:
        return None


def _preferred(path: Path, found: Splits, split: str) -> ImageSource:
    """The preferred split where there is one of that kind, else the default."""
    return _of_split(path, found, _of_kind(path, found, split) or default_split(found, path))


def _of_split(path: Path, found: Splits, split: str) -> ImageSource:
    """The images of a split; what is wrong with its labels does not matter here."""
    name = find_split(found, split, path)
    return ImageSource([image.path for image in found[name]().images], f"{path}, split {name}")


def _below(folder: Path, why_no_data: InvalidInput) -> ImageSource:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    if not files:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InvalidInput(f"{folder} holds no images ({known}), nor do folders in it. {why_no_data}")
    folders = len({file.parent for file in files})
    print(
        f"note: {folder} holds no images itself and is read as no data set: {len(files)} images were found in"
        f" {folders} folders below it.",
        file=sys.stderr,
    )
    return ImageSource(files, f"{folder}, {folders} folders below it")

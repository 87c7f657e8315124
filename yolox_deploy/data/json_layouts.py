"""Layouts of COCO's JSON: COCO's own, Roboflow's, CVAT's, Label Studio's, and one file beside its images."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from runtimes.errors import InvalidInput

from .coco import PREFIX, coco_splits, read_coco
from .dataset import Splits
from .folders import ONE_SET, plain_name, split_folders
from .layout import Layout
from .unread import MOST_EXAMINED, is_coco, load_json, recognise_json

ROBOFLOW = "_annotations.coco.json"


def json_layouts(root: Path) -> list[Layout]:
    """Every layout of COCO's JSON in a folder. Raises `InvalidInput` where a split has more than one file."""
    found = [
        Layout("COCO's annotations/SPLIT.json", root / "annotations", _in_annotations(root)),
        Layout(f"COCO's SPLIT/{ROBOFLOW}, as Roboflow writes it", root, _in_split_folders(root)),
    ]
    beside = _beside_images(root)
    if beside:
        found.append(Layout(f"COCO's {beside[0].name}", beside[0], _splits(root, beside)))
    return [layout for layout in found if layout.splits]


def json_layout(file: Path) -> Layout:
    """A data set whose path is that of a JSON file: its images are beside it, or beside its folder `annotations`."""
    root = file.parent.parent if file.parent.name.lower() == "annotations" else file.parent
    return Layout("COCO's JSON", file, _splits(root, [file]))


def split_name(file: Path) -> str:
    """The split that a file is of, by its name."""
    return ONE_SET if file.name == ROBOFLOW else file.stem.removeprefix(PREFIX)


def _splits(root: Path, files: list[Path]) -> Splits:
    return {split_name(file): partial(read_coco, root, split_name(file), file, files) for file in files}


def _in_annotations(root: Path) -> Splits:
    """Without files that are plainly another tool's: `instances_` says that a file is COCO's, another name does not."""
    splits = coco_splits(root)
    files = {split: root / "annotations" / f"{split}.json" for split in splits}
    if not all(file.is_file() for file in files.values()):  # they are named instances_
        return splits
    examined = list(files.values())[:MOST_EXAMINED]
    others = [file for file in examined if recognise_json(load_json(file))]
    return (
        {} if len(others) == len(examined) else {split: splits[split] for split in splits if files[split] not in others}
    )


def _in_split_folders(root: Path) -> Splits:
    """`<split>/_annotations.coco.json`, or the one file in COCO's format in a folder that is named as a split is."""
    named = split_folders(root)
    folders = [*named, *(path.parent for path in sorted(root.glob(f"*/{ROBOFLOW}")) if path.parent not in named)]
    found = {folder: files for folder in folders if (files := _coco_files(folder))}
    for folder, files in found.items():
        if len(files) > 1:
            raise InvalidInput(f"{folder} holds {files[0].name} and {files[1].name}: keep one, or give its path.")
    every = [files[0] for files in found.values()]
    return {folder.name: partial(read_coco, folder, folder.name, files[0], every) for folder, files in found.items()}


def _beside_images(root: Path) -> list[Path]:
    """Files of the folder itself: those in COCO's format, or the only one, of which its reader says what is wrong."""
    found = _coco_files(root)
    files = sorted(root.glob("*.json"))
    if found or len(files) != 1 or recognise_json(load_json(files[0])):
        return found
    return files if plain_name(split_name(files[0])) in ("train", "val", "test", "result", ONE_SET) else []


def _coco_files(folder: Path) -> list[Path]:
    """Files in COCO's format; none where there are so many that each can only be of one image."""
    files = sorted(folder.glob("*.json"))
    return [file for file in files if is_coco(load_json(file))] if len(files) <= MOST_EXAMINED else []

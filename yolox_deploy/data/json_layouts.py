"""Layouts of COCO's JSON: COCO's own, Roboflow's, CVAT's, Label Studio's, and one file beside its images."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from runtimes.errors import InvalidInput

from .coco import PREFIX, coco_splits, read_coco
from .dataset import Splits
from .folders import ONE_SET, SPLITS, plain_name, split_folders, warn_left_out
from .layout import Layout
from .unread import MOST_EXAMINED, is_coco, is_meant_as_coco, load_json, recognise_json

ROBOFLOW = "_annotations.coco.json"
USUAL_NAMES = (*SPLITS, "result", "labels", ONE_SET)  # of files beside their images, without suffix and synonyms


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
    _say_without_file(root, {plain_name(split) for split in splits})
    files = {split: root / "annotations" / f"{split}.json" for split in splits}
    if not all(file.is_file() for file in files.values()):  # they are named instances_
        return splits
    examined = list(files.values())[:MOST_EXAMINED]
    others = [file for file in examined if recognise_json(load_json(file))]
    return (
        {} if len(others) == len(examined) else {split: splits[split] for split in splits if files[split] not in others}
    )


def _in_split_folders(root: Path) -> Splits:
    """`<split>/_annotations.coco.json`, or the one file in COCO's format in a folder that is named as a split is.

    Where one split has such a file, a file of that name in another is taken for its labels, whatever is in it: a
    damaged one is refused by its reader.
    """
    named = split_folders(root)
    folders = [*named, *(path.parent for path in sorted(root.glob(f"*/{ROBOFLOW}")) if path.parent not in named)]
    every_folder = {folder: _coco_files(folder) for folder in folders}
    names = sorted({file.name for files in every_folder.values() for file in files})
    found = {
        folder: there
        for folder, files in every_folder.items()
        if (there := files or [folder / name for name in names if (folder / name).is_file()])
    }
    for folder in named if found else []:
        if folder not in found:
            warn_left_out(root, folder, ".json")
    for folder, files in found.items():
        if len(files) > 1:
            raise InvalidInput(f"{folder} holds {files[0].name} and {files[1].name}: keep one, or give its path.")
    every = [files[0] for files in found.values()]
    return {folder.name: partial(read_coco, folder, folder.name, files[0], every) for folder, files in found.items()}


def _say_without_file(root: Path, splits: set[str]) -> None:
    """Name the folders of images that no file of annotations/ is of, where each file is of a split. splits: theirs."""
    if not splits or not splits <= set(SPLITS):
        return
    for place in (place for place in (root, root / "images") if place.is_dir()):
        for folder in split_folders(place):
            if plain_name(folder.name) not in splits:
                warn_left_out(root, folder, ".json")


def _beside_images(root: Path) -> list[Path]:
    """Files of the folder itself: those in COCO's format, or the only one, of which its reader says what is wrong."""
    files = sorted(root.glob("*.json"))
    usual = [file for file in files if plain_name(split_name(file)) in USUAL_NAMES]
    known = _coco_files(root)
    found = [file for file in files if file in known or (file in usual and is_meant_as_coco(load_json(file)))]
    if found or len(files) != 1 or recognise_json(load_json(files[0])):
        return found
    return usual


def _coco_files(folder: Path) -> list[Path]:
    """Files in COCO's format, and Roboflow's whatever is in it; of others none where there are so many that each can
    only be of one image."""
    files = sorted(folder.glob("*.json"))
    few = len(files) <= MOST_EXAMINED
    return [file for file in files if file.name == ROBOFLOW or (few and is_coco(load_json(file)))]

"""From a path to the layout of the data set there: every layout is looked for, and two are never chosen between."""

from __future__ import annotations

from pathlib import Path

from runtimes.errors import InvalidInput, UserError

from .folders import SPLITS, folder_sets
from .images import is_image
from .json_layouts import json_layout, json_layouts
from .layout import Layout
from .txt_layouts import SUFFIX as TXT
from .txt_layouts import check_yamls, data_layouts, txt_layouts, yaml_layouts
from .unread import recognise_file, recognise_folder
from .xml_layouts import xml_layouts
from .yolo_txt import yolo_splits
from .yolo_yaml import USUAL_NAMES

NAMED_BY = ("annotations", "imagesets")  # folders by whose path one layout of several is chosen
MOST_NAMED = 8  # files of a folder that is no data set
READ = (
    "Read are COCO's JSON (annotations/instances_SPLIT.json, SPLIT/_annotations.coco.json, or one file beside its"
    " images), Pascal VOC's XML (ImageSets/Main/SPLIT.txt, or an XML file beside each image or in Annotations) and"
    " YOLO's text files (data.yaml, obj.data, or images, labels and classes.txt)."
)


def find_layout(path: Path) -> Layout:
    """The layout of the data set at a path, a folder or a file that names one.

    Raises `InvalidInput` where there is none, with what is there instead, and where there are two, with both.
    """
    if not path.exists():
        raise InvalidInput(f"there is no data set {path}: the path does not exist.")
    found = _of_folder(path) if path.is_dir() else _of_file(path)
    if len(found) > 1:
        names = " and ".join(layout.name for layout in found[:2])
        paths = " or ".join(str(layout.path) for layout in found[:2] if layout.path != path)
        choice = f"give the path of one, {paths}" if paths else "move one away"
        raise InvalidInput(f"{path} is in more than one layout, {names}, which may differ: {choice}.")
    if found:
        return found[0]
    raise InvalidInput(_what_is_there(path))


def _of_folder(folder: Path) -> list[Layout]:
    if folder.name.lower() in NAMED_BY and (found := _by_its_path(folder)):
        return found
    check_yamls(folder)
    return _found(folder) or _yaml_at_fault(folder) or _by_its_path(folder)


def _found(folder: Path) -> list[Layout]:
    yamls = yaml_layouts(folder)
    if len(yamls) > 1:
        yamls = [layout for layout in yamls if layout.path.name in USUAL_NAMES] or yamls
    listed = [*yamls, *data_layouts(folder)]
    return [*json_layouts(folder), *xml_layouts(folder), *(listed or txt_layouts(folder))]


def _of_file(file: Path) -> list[Layout]:
    suffix = file.suffix.lower()
    if suffix == ".json":
        return [json_layout(file)]
    if suffix in (".yaml", ".yml"):
        return [Layout(f"YOLO's {file.name}", file, yolo_splits(file))]
    return _by_its_path(file)


def _yaml_at_fault(folder: Path) -> list[Layout]:
    """The only YAML file of a folder that is nothing else: its reader raises `InvalidInput`, and says what is wrong."""
    splits = yolo_splits(folder)
    return [Layout("YOLO's YAML", folder, splits)] if splits else []


def _by_its_path(path: Path) -> list[Layout]:
    """The layout that a file or folder names in the folder it is in: annotations/, classes.txt."""
    try:
        found = [*_found(path.parent), *txt_layouts(path.parent)]
    except (UserError, OSError):
        return []
    return list({layout.name: layout for layout in found if layout.path == path}.values())


def _what_is_there(path: Path) -> str:
    """A sentence for a path that is no data set."""
    known = None
    if path.is_dir():
        known = recognise_folder(path)
    elif found := recognise_file(path):
        known = found.sentence(path)
    return (
        known
        or f"{path} is not a data set: {_holds(path) if path.is_dir() else f'it is a file that names none. {READ}'}"
    )


def _holds(folder: Path) -> str:
    files = [file for file in sorted(folder.iterdir()) if not file.name.startswith(".")]
    if not files:
        return f"it is empty. {READ}"
    inner = next((file for file in files if file.is_dir() and _is_data_set(file)), None)
    if inner is not None:
        return f"it holds one, {inner}: give the path of that."
    if folder_sets(folder, TXT):
        yamls = yaml_layouts(folder.absolute().parent)
        way = f"give the path of {yamls[0].path}" if yamls else f"write {folder / 'classes.txt'} with a name a line"
        return f"it holds labels in YOLO's form, and no class names: {way}."
    if all(is_image(file) for file in files):
        return f"it holds {len(files)} images, and no labels. {READ}"
    names = ", ".join(file.name + "/" * file.is_dir() for file in files[:MOST_NAMED])
    return f"it holds {names}{' and more' if len(files) > MOST_NAMED else ''}. {READ}"


def _is_data_set(folder: Path) -> bool:
    if folder.name.lower() in SPLITS:
        return False
    try:
        return bool(_found(folder))
    except (UserError, OSError):
        return False

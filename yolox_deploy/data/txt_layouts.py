"""Layouts of YOLO's text files: its YAML, Darknet's and CVAT's lists, and folders with a list of classes."""

from __future__ import annotations

from functools import partial
from pathlib import Path, PureWindowsPath

from runtimes.errors import InvalidInput, UserError
from yolox_deploy.console import warn
from yolox_deploy.files import read_text

from .dataset import Splits
from .folders import CLASS_LISTS, SPLITS, folder_sets, plain_name
from .layout import Layout
from .names import FileNames
from .unread import load_json
from .yolo_txt import read_yolo, yolo_splits
from .yolo_yaml import USUAL_NAMES, YoloYaml, is_meant_as_data, read_yaml

SUFFIX = ".txt"
LIST_KEYS = ("train", "valid", "val", "test")  # of Darknet's .data


def yaml_layouts(root: Path) -> list[Layout]:
    """Every YAML file of a folder that describes a data set; others have nothing to do with it.

    Says where a list of classes beside it, which labelling tools leave, names others.
    """
    files = [file for file in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]) if _describes(file)]
    for file in files:
        if other := _other_classes(root, read_yaml(file).names):
            warn(f"{file}: its class names are taken; those of {other} are others.")
    return [Layout(f"YOLO's {file.name}", file, yolo_splits(file)) for file in files]


def check_yamls(root: Path) -> None:
    """Raise `InvalidInput` for a YAML file that is to describe the data set of a folder and does not: it would be left
    out in silence, where the folder is in another layout too."""
    meant = [file for file in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]) if is_meant_as_data(file)]
    for file in [file for file in meant if file.name in USUAL_NAMES] or meant:
        read_yaml(file)


def _other_classes(root: Path, names: tuple[str, ...]) -> Path | None:
    """A list of classes in the folder, or in its folder of labels, that names others."""
    for file in (folder / name for folder in (root, root / "labels") for name in CLASS_LISTS):
        try:
            if file.is_file() and class_list(file) != names:
                return file
        except (UserError, OSError):
            return file
    return None


def _describes(file: Path) -> bool:
    try:
        read_yaml(file)
    except (UserError, OSError):
        return False
    return True


def txt_layouts(root: Path) -> list[Layout]:
    """What has neither a YAML nor a .data file: Darknet's lists, else images and labels, with a list of classes beside.

    Raises `InvalidInput` for what contradicts itself.
    """
    return _lists(root) or _folders(root)


def data_layouts(root: Path) -> list[Layout]:
    """Every .data file of a folder that is one of Darknet's."""
    return [layout for file in sorted(root.glob("*.data")) if (layout := data_file_layout(file))]


def data_file_layout(file: Path) -> Layout | None:
    """Darknet's .data file: lines such as `train = data/train.txt`. None for what is no such file.

    Raises `InvalidInput` for files that it names and that are not there, for one that is cut short, and where train and
    valid are one list.
    """
    entries = _entries(file)
    names_lists = any(entries.get(key) for key in LIST_KEYS)
    if not entries.get("names") or not names_lists:
        if names_lists or file.name == "obj.data":
            missing = "names" if names_lists else "train"
            raise InvalidInput(f"{file} lacks the line `{missing} = FILE`, which Darknet's format needs.")
        return None
    names = class_list(_named(file, "names", entries))
    count = entries.get("classes", "")
    if count.isdecimal() and int(count) != len(names):
        raise InvalidInput(f"{file} says {count} classes, and {entries['names']} holds {len(names)} names: mend one.")
    lists = {key: _named(file, key, entries) for key in LIST_KEYS if entries.get(key)}
    first: dict[Path, str] = {}
    for key, path in lists.items():
        if path in first:
            raise InvalidInput(
                f"{file} names {entries[key]} as {first[path]} and as {key}, and nothing can be measured on what was"
                f" learned: remove the line {key}."
            )
        first[path] = key
    return Layout(f"Darknet's {file.name}", file, _listed(file, names, lists))


def _listed(file: Path, names: tuple[str, ...], lists: dict[str, Path]) -> Splits:
    yaml = YoloYaml(file, (file.parent,), names, {split: [str(path.absolute())] for split, path in lists.items()})
    return {split: partial(read_yolo, yaml, split) for split in lists}


def _entries(file: Path) -> dict[str, str]:
    """The `key = value` lines of a file; none of what is no text."""
    try:
        lines = read_text(file).splitlines()
    except (OSError, InvalidInput):
        return {}
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return {key.strip(): value.strip() for key, value in pairs}


def _named(file: Path, key: str, entries: dict[str, str]) -> Path:
    """A file that a .data file names by a path from Darknet's own folder, or from its own, or that is beside it."""
    folder, names = file.parent, FileNames()
    found = names.find(entries[key], [folder]) or names.find(PureWindowsPath(entries[key]).name, [folder])
    if found is None:
        raise InvalidInput(f"{file} names {entries[key]} as {key}, and {file.parent} holds no such file.")
    return found


def class_list(file: Path) -> tuple[str, ...]:
    """The class names of a text file, one a line. Raises `InvalidInput` where one is missing or comes twice."""
    names = [line.strip() for line in read_text(file).rstrip().splitlines()]
    if "" in names or not names:
        raise InvalidInput(
            f"{file} needs a class name in each line, and line {names.index('') + 1 if names else 1} is empty."
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInput(f"{file} names the class {twice!r} twice.")
    _check_notes(file, names)
    return tuple(names)


def _check_notes(file: Path, names: list[str]) -> None:
    """Label Studio's notes.json says which number each class has in the labels: its classes.txt may not."""
    notes = load_json(file.with_name("notes.json"))
    categories = notes.get("categories") if isinstance(notes, dict) else None
    if not isinstance(categories, list) or not all(isinstance(item, dict) for item in categories):
        return
    numbers = {item["name"]: item.get("id") for item in categories if isinstance(item.get("name"), str)}
    wrong = next((name for index, name in enumerate(names) if numbers.get(name, index) != index), None)
    if wrong is not None:
        raise InvalidInput(
            f"{file} and notes.json differ: {wrong!r} is class {names.index(wrong)} in one and {numbers[wrong]} in the"
            " other: sort classes.txt by the ids of notes.json."
        )


def _class_lists(folders: list[Path]) -> tuple[Path, tuple[str, ...]] | None:
    """The class names beside images and labels. Raises `InvalidInput` where two lists differ."""
    files = [folder / name for folder in dict.fromkeys(folders) for name in CLASS_LISTS if (folder / name).is_file()]
    files += [file for file in sorted(folders[0].glob("*.names")) if file not in files]
    found = [(file, class_list(file)) for file in files]
    other = next((file for file, names in found if names != found[0][1]), None)
    if other is not None:
        raise InvalidInput(f"{found[0][0]} and {other} do not name the same classes: keep the one of the labels.")
    return next(iter(found), None)


def _lists(root: Path) -> list[Layout]:
    """Lists of images that are named as splits are, beside a list of classes: Darknet's files without its .data."""
    files = {file.stem: file for file in sorted(root.glob("*.txt")) if plain_name(file.stem) in SPLITS}
    classes = _class_lists([root]) if files else None
    if classes is None:
        return []
    return [
        Layout(f"Darknet's {' and '.join(file.name for file in files.values())}", classes[0], _listed(*classes, files))
    ]


def _folders(root: Path) -> list[Layout]:
    sets = folder_sets(root, SUFFIX)
    if not sets:
        return []
    places = [place for part in sets.values() for place in (part.labels, part.labels.parent, part.images)]
    classes = _class_lists([root, *places])
    if classes is None:
        return []
    file, names = classes
    splits: Splits = {}
    for split, part in sets.items():
        label_file = partial(part.label_file, suffix=SUFFIX)
        others = {
            other.label_file(image, SUFFIX)
            for other in sets.values()
            if other is not part and other.labels == part.labels
            for image in other.find_images()[0]
        }
        entries = {split: [str(part.images.absolute())]}
        yaml = YoloYaml(file, (root,), names, entries, label_file=label_file, others=frozenset(others))
        splits[split] = partial(read_yolo, yaml, split)
    return [Layout(f"YOLO's labels with {file.name}", file, splits)]

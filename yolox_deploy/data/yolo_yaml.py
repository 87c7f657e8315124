"""The YAML file of YOLO's layout: which folders hold the images of each split, and the names of the classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtimes.errors import InvalidInput, MissingBackend, first_line
from yolox_deploy.files import read_text

from .faults import counted

SPLIT_KEYS = ("train", "training", "val", "valid", "validation", "test")
USUAL_NAMES = ("data.yaml", "dataset.yaml")


@dataclass(frozen=True)
class YoloYaml:
    """What the YAML says. roots: folders that paths in it may start from. splits: where the images of each are.
    points: how many key points each object has, and how many numbers each of them; None where it does not say.
    label_file: where the labels of an image are, in layouts that say so themselves. others: label files in the same
    folders that belong to the images of other splits. path: the first root, as it is written."""

    file: Path
    roots: tuple[Path, ...]
    names: tuple[str, ...]
    splits: dict[str, list[str]]
    points: tuple[int, int] | None = None
    label_file: Callable[[Path], Path] | None = None
    others: frozenset[Path] = frozenset()
    path: str = ""


def find_yaml(folder: Path) -> Path | None:
    files = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    usual = [file for file in files if file.name in USUAL_NAMES]
    if len(files) > 1 and len(usual) != 1:
        raise InvalidInput(f"{folder} holds {' and '.join(file.name for file in files[:3])}: give the path of one.")
    return next(iter(usual or files), None)


def is_meant_as_data(file: Path) -> bool:
    """Whether a YAML file is to describe a data set, sound or not: by its keys, or by its name where it has none."""
    usual = file.name in USUAL_NAMES
    try:
        content = _parse(file)
    except InvalidInput:
        return usual
    except (MissingBackend, OSError):
        return False
    if not isinstance(content, dict):
        return usual
    splits, names = not content.keys().isdisjoint(SPLIT_KEYS), "names" in content
    return (splits or names) if usual else (splits and names)


def read_yaml(file: Path) -> YoloYaml:
    """Raises `InvalidInput` for what is not such a file, `MissingBackend` without PyYAML."""
    content = _parse(file)
    written = _parse(file, as_text=True)
    if not isinstance(content, dict) or not (splits := {key: content[key] for key in SPLIT_KEYS if content.get(key)}):
        raise InvalidInput(f"{file} does not describe a data set: it needs train, val or test, and names.")
    entries = {key: [value] if isinstance(value, str) else value for key, value in splits.items()}
    for key, value in entries.items():
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InvalidInput(f"{file}: {key} must be a path or a list of paths.")
    folder = file.parent
    path = content.get("path") or "."
    if not isinstance(path, str):
        raise InvalidInput(f"{file}: path must be a folder.")
    names, count = _names(content.get("names"), written.get("names"), file), str(content.get("nc", ""))
    if count.isdecimal() and int(count) != len(names):
        raise InvalidInput(f"{file} says nc: {count}, and names holds {counted(len(names), 'name')}: mend one.")
    points = _points(content.get("kpt_shape"), file)
    return YoloYaml(file, (folder / path, folder), names, entries, points, path=path)


def _parse(file: Path, as_text: bool = False) -> Any:
    """as_text: numbers, yes and no as they are written."""
    try:
        import yaml
    except ImportError:
        raise MissingBackend("reading YOLO's layout needs PyYAML: pip install pyyaml") from None
    try:
        return yaml.load(read_text(file), yaml.BaseLoader if as_text else yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date in month 13; lists in lists in lists
        raise InvalidInput(f"{file} is not YAML: {first_line(error)}.") from None


def _names(value: Any, written: Any, file: Path) -> tuple[str, ...]:
    """From a list, or a dict whose keys are the class indices. written: the same as text, where yes is no True."""
    if isinstance(value, dict) and sorted(map(str, value)) == sorted(map(str, range(len(value)))):
        value = [name for _, name in sorted(value.items(), key=lambda item: int(item[0]))]
        written = [name for _, name in sorted(written.items(), key=lambda item: int(item[0]))]
    # Text or numbers: a list of lists of lists, each named once, is small in the file and endless as text.
    if not isinstance(value, list) or not value or not all(isinstance(name, (str, int, float)) for name in value):
        raise InvalidInput(f"{file}: names must be a list of class names, or a dict of them by number from 0.")
    names = tuple(written)
    if len(set(names)) != len(names):
        raise InvalidInput(f"{file}: a class stands in names twice.")
    return names


def _points(value: Any, file: Path) -> tuple[int, int] | None:
    """`kpt_shape`: how many key points an object has, and 2 or 3 numbers of each."""
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(type(number) is int for number in value):
        raise InvalidInput(f"{file}: kpt_shape must be two numbers, of key points and of numbers of each, as [17, 3].")
    if value[0] < 1 or value[1] not in (2, 3):
        raise InvalidInput(f"{file}: kpt_shape {value} must be 1 or more key points of 2 or 3 numbers.")
    return value[0], value[1]

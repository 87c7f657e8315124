"""Data sets in YOLO's layout, as Ultralytics reads it: a YAML file, folders of images, a text file for each image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runtimes.errors import InvalidInput, MissingBackend, first_line
from yolox_deploy.files import read_text

from .dataset import Dataset, LabelledImage, Splits, labelled_image
from .faults import Fault, once, sound
from .folders import CLASS_LISTS, find_file
from .images import IMAGE_SUFFIXES, known_size

SPLIT_KEYS = ("train", "training", "val", "valid", "validation", "test")
USUAL_NAMES = ("data.yaml", "dataset.yaml")
FURTHEST = 2.0  # coordinates are fractions of the image; beyond this they must be pixels

Object = tuple[int, list[float]]  # class index; left, top, right, bottom as fractions of the image


@dataclass(frozen=True)
class YoloYaml:
    """What the YAML says. roots: folders that paths in it may start from. splits: where the images of each are.

    label_file: where the labels of an image are, in layouts that say so themselves.
    """

    file: Path
    roots: tuple[Path, ...]
    names: tuple[str, ...]
    splits: dict[str, list[str]]
    label_file: Callable[[Path], Path] | None = None


def yolo_splits(path: Path) -> Splits:
    """The splits of a YAML file, or of the one in a folder. Empty where there is none."""
    file = _find_yaml(path) if path.is_dir() else path
    if file is None or file.suffix.lower() not in (".yaml", ".yml"):
        return {}
    yaml = read_yaml(file)
    return {split: partial(read_yolo, yaml, split) for split in yaml.splits}


def read_yaml(file: Path) -> YoloYaml:
    """Raises `InvalidInput` for what is not such a file, `MissingBackend` without PyYAML."""
    content = _parse(file)
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
    roots = folder / path, folder
    return YoloYaml(file, roots, _names(content.get("names"), file), entries)


def read_yolo(yaml: YoloYaml, split: str) -> Dataset:
    """One split. The category ids are the class indices plus 1.

    Raises `InvalidInput` for folders that are not there.
    """
    faults: list[Fault] = []
    paths = [path for entry in yaml.splits[split] for path in _images(yaml, entry, faults)]
    if not paths and not faults:
        raise InvalidInput(f"{yaml.file}: {split} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    each = once(((path, None) for path in paths), "image listed twice", yaml.file, faults)
    images = tuple(_labelled(number, path, yaml, faults) for number, path in enumerate(each, 1))
    return Dataset(yaml.file, images, dict(enumerate(yaml.names, 1)), (*faults, *_without_image(each, yaml)))


def _find_yaml(folder: Path) -> Path | None:
    files = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    usual = [file for file in files if file.name in USUAL_NAMES]
    if len(files) > 1 and len(usual) != 1:
        raise InvalidInput(f"{folder} holds {' and '.join(file.name for file in files[:3])}: give the path of one.")
    return next(iter(usual or files), None)


def _parse(file: Path) -> Any:
    try:
        import yaml
    except ImportError:
        raise MissingBackend("reading YOLO's layout needs PyYAML: pip install pyyaml") from None
    try:
        return yaml.safe_load(read_text(file))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date in month 13; lists in lists in lists
        raise InvalidInput(f"{file} is not YAML: {first_line(error)}.") from None


def _names(value: Any, file: Path) -> tuple[str, ...]:
    """From a list, or a dict whose keys are the class indices."""
    if isinstance(value, dict) and sorted(map(str, value)) == sorted(map(str, range(len(value)))):
        value = [name for _, name in sorted(value.items(), key=lambda item: int(item[0]))]
    # Text or numbers: a list of lists of lists, each named once, is small in the file and endless as text.
    if not isinstance(value, list) or not value or not all(isinstance(name, (str, int, float)) for name in value):
        raise InvalidInput(f"{file}: names must be a list of class names, or a dict of them by number from 0.")
    names = tuple(str(name) for name in value)
    if len(set(names)) != len(names):
        raise InvalidInput(f"{file}: a class stands in names twice.")
    return names


def _images(yaml: YoloYaml, entry: str, faults: list[Fault]) -> list[Path]:
    """The images of a folder and the folders in it, or of a text file that lists them."""
    tries = [root / name for root in yaml.roots for name in (entry, entry.removeprefix("../"))]  # as Ultralytics does
    place = next((path for path in tries if path.exists()), None)
    if place is None:
        raise InvalidInput(f"{yaml.file} names {entry}, and there is no {' or '.join(map(str, dict.fromkeys(tries)))}.")
    if place.is_dir():
        return sorted(path for path in place.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    lines = [line.strip() for line in read_text(place).splitlines() if line.strip()]
    return sound(partial(_listed, yaml, place), lines, faults)


def _listed(yaml: YoloYaml, file: Path, line: str) -> Path:
    path = next((path for folder in (file.parent, *yaml.roots) if (path := find_file(folder, line))), None)
    if path is None:
        raise Fault("missing image", line, f"{file} lists {line}, which does not exist.")
    return path


def label_file(image: Path) -> Path:
    """The same path with the last `images` folder replaced by `labels`; without one, beside the image."""
    head, images, tail = image.absolute().as_posix().rpartition("/images/")
    return Path(f"{head}/labels/{tail}" if images else tail).with_suffix(".txt")


def _without_image(images: Iterable[Path], yaml: YoloYaml) -> list[Fault]:
    """Label files in the folders of labels that no image belongs to."""
    if yaml.label_file is not None:
        files = {yaml.label_file(path) for path in images}
    else:
        files = {label_file(path) for path in images if "/images/" in path.absolute().as_posix()}
    there = {file for folder in {file.parent for file in files} for file in folder.glob("*.txt")}
    lone = sorted(file for file in there - files if file.name not in CLASS_LISTS)  # which labelling tools leave there
    return [Fault("label file without image", file.name, f"{file} has no image.") for file in lone]


def _labelled(number: int, path: Path, yaml: YoloYaml, faults: list[Fault]) -> LabelledImage:
    file = (yaml.label_file or label_file)(path)
    rows = [(row, line) for row, line in enumerate(_lines(file, faults), 1) if line.strip()]
    objects = sound(partial(_object, yaml, file), rows, faults)
    height, width = size = known_size(path)
    boxes = [[left * width, top * height, right * width, bottom * height] for _, (left, top, right, bottom) in objects]
    return labelled_image(number, path, size, boxes, [index for index, _ in objects])


def _lines(file: Path, faults: list[Fault]) -> list[str]:
    try:
        return read_text(file).splitlines() if file.exists() else []
    except InvalidInput as error:
        faults.append(Fault("broken annotation", file.name, str(error)))
        return []


def _object(yaml: YoloYaml, file: Path, numbered: tuple[int, str]) -> Object:
    """Class and centre x, y, width, height; or class and the corners of a polygon, which becomes its box."""
    row, line = numbered
    where, short = f"{file}:{row}", f"{file.name}:{row}"
    try:
        index, *numbers = map(float, line.split())
    except ValueError:
        index, numbers = math.nan, []
    if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
        needs = "class, centre x, centre y, width, height; or class and a polygon"
        raise Fault("broken annotation", short, f"{where} is not a label: {needs}.")
    if not all(map(math.isfinite, (index, *numbers))):
        raise Fault("coordinates that are no numbers", short, f"{where} is not a label of finite numbers.")
    if index not in range(len(yaml.names)):
        known = f"{yaml.file} names classes 0 to {len(yaml.names) - 1}"
        raise Fault("unknown category", short, f"{where} is of class {index:g}, and {known}.")
    if max(map(abs, numbers)) > FURTHEST:
        raise Fault("coordinates in pixels", short, f"{where} is not in fractions of the image, which lie in 0 to 1.")
    if len(numbers) > 4:
        return int(index), [min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])]
    x, y, width, height = numbers
    return int(index), [x - width / 2, y - height / 2, x + width / 2, y + height / 2]

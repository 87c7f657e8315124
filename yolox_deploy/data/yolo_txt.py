"""Data sets in YOLO's layout, as Ultralytics reads it: a YAML file, folders of images, a text file for each image."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from runtimes.errors import InvalidInput
from yolox_deploy.files import read_text

from .dataset import Dataset, LabelledImage, Splits, labelled_image, left_out_files
from .faults import Fault, once, sound
from .folders import CLASS_LISTS
from .images import IMAGE_SUFFIXES, Header, describe_left_out, images_among, read_headers
from .long_rows import LongRows
from .names import FileNames, leaves_folder
from .yolo_yaml import YoloYaml, find_yaml, read_yaml

FURTHEST = 2.0  # coordinates are fractions of the image; beyond this they must be pixels

Object = tuple[int, list[float]]  # class index; left, top, right, bottom as fractions of the image


def yolo_splits(path: Path) -> Splits:
    """The splits of a YAML file, or of the one in a folder. Empty where there is none."""
    file = find_yaml(path) if path.is_dir() else path
    if file is None or file.suffix.lower() not in (".yaml", ".yml"):
        return {}
    yaml = read_yaml(file)
    return {split: partial(read_yolo, yaml, split) for split in yaml.splits}


def read_yolo(yaml: YoloYaml, split: str) -> Dataset:
    """One split. The category ids are the class indices plus 1.

    Raises `InvalidInput` for folders that are not there.
    """
    faults, names = list[Fault](), FileNames()
    paths = [path for entry in yaml.splits[split] for path in _images(yaml, entry, names, faults)]
    if not paths and not any(fault.rule.refused for fault in faults):
        others = [Path(fault.place) for fault in faults if fault.kind == "file that is no image"]
        but = f", but {describe_left_out(others)}" if others else ""
        raise InvalidInput(f"{yaml.file}: {split} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}){but}.")
    each = list(once(((path, None) for path in paths), "image listed twice", yaml.file, faults))
    files = {path: _find_labels((yaml.label_file or label_file)(path), names, faults) for path in each}
    rows, headers, images = LongRows(yaml.file), read_headers(each), []
    shared = _sharing(files, faults)
    for number, (path, header) in enumerate(zip(each, headers, strict=True), 1):
        if path not in shared:
            images.append(_labelled(number, path, files[path], header, yaml, rows, faults))
    faults += [*names.take_faults(), *_without_image(files, yaml), *rows.faults()]
    return Dataset(yaml.file, tuple(images), dict(enumerate(yaml.names, 1)), tuple(faults))


def _find_labels(file: Path, names: FileNames, faults: list[Fault]) -> Path:
    """The file of this name, or the one that is spelled alike; where there is none, the name."""
    try:
        return names.find(file.name, [file.parent]) or file
    except Fault as fault:
        faults.append(fault.with_traceback(None))
        return file


def _sharing(files: Mapping[Path, Path], faults: list[Fault]) -> set[Path]:
    """The images that have one label file together: it can be that of one of them alone."""
    images = defaultdict(list)
    for path, file in files.items():
        images[file].append(path)
    several = {file: paths for file, paths in images.items() if len(paths) > 1 and file.exists()}
    for file, paths in several.items():
        sentence = f"{paths[0]} and {paths[1]} share their labels, {file}: rename one, with its label file."
        faults.append(Fault("two images of one name", paths[0].stem, sentence))
    return {path for paths in several.values() for path in paths}


def _images(yaml: YoloYaml, entry: str, names: FileNames, faults: list[Fault]) -> list[Path]:
    """The images of a folder and the folders in it, or of a text file that lists them."""
    place = _find_place(yaml, entry, names)
    if place.is_dir():
        inside = (path for path in place.rglob("*") if not _is_hidden(path.parent.relative_to(place)))
        images, others = images_among(inside)
        faults += left_out_files(others)
        return images
    lines = [line.strip() for line in read_text(place).splitlines() if line.strip()]
    return sound(partial(_listed, yaml, place, names), lines, faults)


def _find_place(yaml: YoloYaml, entry: str, names: FileNames) -> Path:
    """The folder, or list, that a YAML file names; of a path of another machine, its end that exists here.

    Raises `InvalidInput` where there is none, and where the end is that of another split's path too.
    """
    entry = entry.replace("\\", "/")
    tries = [root / name for root in yaml.roots for name in (entry, entry.removeprefix("../"))]  # as Ultralytics does
    if exact := next((path for path in tries if path.exists()), None):
        return exact
    whole = _whole(yaml, entry)
    place = names.find(whole, yaml.roots, Path.exists) if leaves_folder(whole) else None
    if place is None:
        raise InvalidInput(f"{yaml.file} names {entry}, and there is no {' or '.join(map(str, dict.fromkeys(tries)))}.")
    guess = FileNames()
    for other in (other.replace("\\", "/") for others in yaml.splits.values() for other in others):
        there = guess.find(_whole(yaml, other), yaml.roots, Path.exists) if other != entry else None
        if there is not None and (there in (place, *place.parents) or place in there.parents):
            raise InvalidInput(f"{yaml.file} names {entry} and {other}: here both would be in {min(there, place)}.")
    return place


def _whole(yaml: YoloYaml, entry: str) -> str:
    """A path of the YAML file with the one that it starts from."""
    return entry if leaves_folder(entry) or yaml.path in ("", ".", "./") else f"{yaml.path}/{entry}"


def _is_hidden(folder: Path) -> bool:
    return any(part.startswith(".") for part in folder.parts)


def _listed(yaml: YoloYaml, file: Path, names: FileNames, line: str) -> Path:
    folders = (file.parent, *yaml.roots)
    below = line.replace("\\", "/").removeprefix("data/")  # of Darknet's own folder, where its lists start
    path = names.find(line, folders) or names.find(below, folders)
    if path is None:
        near = names.similar(line, folders)
        raise Fault("missing image", line, f"{file} lists {line}, which does not exist{near}.")
    return Path(os.path.normpath(path))  # so that `a/../b` is `b`


def label_file(image: Path) -> Path:
    """The same path with the last `images` folder replaced by `labels`, in any letter case; without one, beside the
    image."""
    path = image.absolute().with_suffix(".txt")
    folder = _images_folder(path)
    if folder is None:
        return path
    places = [folder.with_name(name) for name in ("labels", "Labels", "LABELS")]
    return next((place for place in places if place.is_dir()), places[0]) / path.relative_to(folder)


def _images_folder(path: Path) -> Path | None:
    """The last folder above a path that is called `images`, in any letter case."""
    return next((folder for folder in path.parents if folder.name.lower() == "images"), None)


def _without_image(files: Mapping[Path, Path], yaml: YoloYaml) -> list[Fault]:
    """Label files in the folders of labels that no image belongs to. files: those that belong to one."""
    known = yaml.label_file is not None
    mine = {file for path, file in files.items() if known or _images_folder(path.absolute())}
    there = {file for folder in {file.parent for file in mine} for file in folder.glob("*.txt")}
    lone = sorted(
        file for file in there - mine - yaml.others if file.name not in CLASS_LISTS
    )  # which labelling tools leave there
    return [Fault("label file without image", file.name, f"{file} has no image.") for file in lone]


def _labelled(
    number: int, path: Path, file: Path, header: Header, yaml: YoloYaml, longer: LongRows, faults: list[Fault]
) -> LabelledImage:
    rows = [(row, line) for row, line in enumerate(_lines(file, faults), 1) if line.strip()]
    objects = sound(partial(_object, yaml, file, longer), rows, faults)
    height, width = header.size
    boxes = [[left * width, top * height, right * width, bottom * height] for _, (left, top, right, bottom) in objects]
    return labelled_image(number, path, header.size, boxes, [index for index, _ in objects], header)


def _lines(file: Path, faults: list[Fault]) -> list[str]:
    try:
        return read_text(file).splitlines() if file.exists() else []
    except InvalidInput as error:
        faults.append(Fault("broken annotation", file.name, str(error)))
        return []


def _object(yaml: YoloYaml, file: Path, longer: LongRows, numbered: tuple[int, str]) -> Object:
    """Class and centre x, y, width, height, with key points where the YAML says so; or class and the corners of a
    polygon, which becomes its box."""
    row, line = numbered
    where, short = f"{file}:{row}", f"{file.name}:{row}"
    try:
        index, *numbers = map(float, line.split())
    except ValueError:
        index, numbers = math.nan, []
    if yaml.points is not None:
        keyed = 4 + yaml.points[0] * yaml.points[1]
        if len(numbers) not in (4, keyed):
            needs = f"with the key points that {yaml.file.name} names, class and {keyed} numbers, or 4 of a box alone"
            raise Fault("broken annotation", short, f"{where} is not a label: {needs}.")
    elif len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
        raise Fault("broken annotation", short, f"{where} is not a label: {_needed(len(numbers))}.")
    if not all(map(math.isfinite, (index, *numbers))):
        raise Fault("coordinates that are no numbers", short, f"{where} is not a label of finite numbers.")
    if index not in range(len(yaml.names)):
        known = f"{yaml.file} names classes 0 to {len(yaml.names) - 1}"
        first = "; do the labels count from 1?" if index == len(yaml.names) else ""
        raise Fault("unknown category", short, f"{where} is of class {index:g}, and {known}{first}.")
    coordinates = numbers[:4] if yaml.points is not None else numbers
    if max(map(abs, coordinates)) > FURTHEST:
        units = "percent or pixels" if max(coordinates) <= 100 else "pixels"
        sentence = f"{where} is not in fractions of the image, which lie in 0 to 1, but in {units}."
        raise Fault("coordinates in pixels", short, sentence)
    if len(coordinates) > 4:
        longer.add(short, numbers)
        return int(index), [min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])]
    x, y, width, height = coordinates
    return int(index), [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def _needed(count: int) -> str:
    """What a row of so many numbers, besides its class, could have been meant as."""
    needs = "class, centre x, centre y, width, height; or class and a polygon"
    if count == 5:
        return f"{needs}; a sixth number may be the confidence of a prediction, and no label has one"
    if count > 5 and (count - 4) % 3 == 0:
        return f"{needs}; for {(count - 4) // 3} key points, the YAML needs kpt_shape: [{(count - 4) // 3}, 3]"
    return needs

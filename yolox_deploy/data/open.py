"""From a path to a data set, in whichever layout of three formats it is."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from runtimes.cores import usable_cores
from runtimes.errors import InvalidInput
from yolox_deploy.console import warn
from yolox_deploy.progress import progress_bar

from .class_names import class_difference
from .dataset import Dataset, Splits, check_evaluable, check_inside
from .faults import RULES, Fault
from .folders import ALIASES, JOINED, plain_name
from .images import UNKNOWN_SIZE, describe_left_out, read_image
from .layouts import find_layout
from .set_checks import set_faults, size_faults, with_headers


def open_dataset(path: Path, splits: Sequence[str] = (), skip_unreadable: bool = False) -> Dataset:
    """The splits of a data set, as one: a folder or file in one of the layouts that docs/data.md names.

    `val` also finds `val2017`, `valid` and `validation`, and so for the others. Without names, it is the only split
    there is, else `val`, else `test`. Raises `InvalidInput` for whatever is wrong with it; with `skip_unreadable`,
    images that cannot be opened are left out and named instead.
    """
    found = find_splits(path)
    names = [find_split(found, split, path) for split in splits] or [default_split(found, path)]
    dataset = join([_refuse(checked(found[name]()), path) for name in dict.fromkeys(names)], path)
    unreadable = [image.path for image in dataset.images if image.header and image.header.size == UNKNOWN_SIZE]
    return without_images(dataset, unreadable, skip_unreadable)


def open_evaluable(path: Path, splits: Sequence[str] = (), read_all: bool = False) -> Dataset:
    """`open_dataset`, of data that AP is to be measured on: refused without boxes. read_all: every image is read, too,
    and refused where it cannot be."""
    dataset = check_evaluable(open_dataset(path, splits))
    if read_all:
        check_readable(dataset)
    return dataset


def checked(dataset: Dataset) -> Dataset:
    """The data set, whose faults are also those of its images' sizes and of all its labels together."""
    dataset = with_headers(dataset)
    faults = [*dataset.faults, *size_faults(dataset), *set_faults(dataset)]
    try:
        check_inside(dataset)
    except Fault as fault:
        faults.append(fault.with_traceback(None))
    return replace(dataset, faults=tuple(faults))


def _refuse(dataset: Dataset, path: Path) -> Dataset:
    """Raise `InvalidInput` for the first entry that is wrong; say once what is left out or odd, without harm."""
    refused = [fault for fault in dataset.faults if fault.rule.refused]
    if refused:
        others = f"; `yolox-deploy data {path}` lists {len(refused) - 1} more, at least" if len(refused) > 1 else ""
        raise InvalidInput(f"{str(refused[0]).removesuffix('.')}{others}.")
    for sentence in warnings_of(dataset, path):
        warn(sentence)
    return dataset


def warnings_of(dataset: Dataset, path: Path) -> list[str]:
    """What should be known of a data set that is used nevertheless: a line for each kind of fault."""
    sentences = []
    for kind, count in Counter(fault.kind for fault in dataset.faults).items():
        places = [fault.place for fault in dataset.faults if fault.kind == kind]
        if kind == "file that is no image":
            sentences.append(f"{path}: left out: {describe_left_out(list(map(Path, places)))}.")
            continue
        which = places[0] if count == 1 else f"{count}, such as {places[0]}"
        sentences.append(f"{dataset.source}: {kind}: {which}; {RULES[kind].action}.")
    return sentences


def check_readable(dataset: Dataset) -> None:
    """Raise `InvalidInput` where an image cannot be read whole. Reads all of them, which shows a progress bar."""
    without_images(dataset, unreadable(dataset), skip=False)


def decodable(dataset: Dataset) -> Dataset:
    """The data set without the images that cannot be read whole, which are named. Reads all of them."""
    return without_images(dataset, unreadable(dataset), skip=True)


def unreadable(dataset: Dataset) -> list[Path]:
    """The images that cannot be read whole. Reads all of them, on all cores, and shows a progress bar on a terminal."""
    paths = list(dict.fromkeys(image.path for image in dataset.images))
    with ThreadPoolExecutor(usable_cores()) as pool:
        found = progress_bar(pool.map(_is_readable, paths), total=len(paths), unit="image", desc="reading")
        return [path for path, readable in zip(paths, found, strict=True) if not readable]


def _is_readable(path: Path) -> bool:
    try:
        read_image(path)
    except InvalidInput:
        return False
    return True


def without_images(dataset: Dataset, unreadable: Sequence[Path], skip: bool) -> Dataset:
    """Leave images out, and say so. Raises `InvalidInput` where that was not asked for, or none are left."""
    if unreadable and not skip:
        many = f" {len(unreadable)} such files are in {dataset.source};" if len(unreadable) > 1 else ""
        first = f"{unreadable[0]} is not an image that can be read whole"
        raise InvalidInput(f"{first};{many} --skip-unreadable trains without them.")
    for path in unreadable:
        print(f"left out: {path} is not an image that can be read.", file=sys.stderr, flush=True)
    gone = set(unreadable)
    return replace(dataset, images=tuple(image for image in dataset.images if image.path not in gone))


def find_splits(path: Path) -> Splits:
    """Every split of the data set at a path. Raises `InvalidInput` where there is none, or more than one data set."""
    return find_layout(path).splits


def find_split(found: Splits, split: str, path: Path) -> str:
    """The name under which a data set has a split."""
    meant = [split] if split in found else [name for name in found if plain_name(name) == ALIASES.get(split, split)]
    if not meant and plain_name(split) in ("train", "val") and (divided := split_to_divide(list(found))):
        output = _beside(path)
        raise InvalidInput(
            f"{path} has no split {split!r}, only {', '.join(found)}: `yolox-deploy data {shlex.quote(str(path))}"
            f" --split 0.8 --output {output}` divides {divided} into train and val, for --data {output}."
        )
    if len(meant) != 1:
        problem = f"more than one split {split!r}" if meant else f"no split {split!r}"
        raise InvalidInput(f"{path} has {problem}; name one of {', '.join(found)}.")
    return meant[0]


def split_to_divide(names: Sequence[str]) -> str | None:
    """The split of which train and val can be made: the training images, else the only one; None where there is a val
    beside others."""
    plain = {plain_name(name): name for name in names}
    if len(names) > 1 and "val" in plain:
        return None
    return plain.get("train") or plain.get(JOINED) or (names[0] if len(names) == 1 else None)


def _beside(path: Path) -> str:
    """A folder that is not in the data set, as its name is typed."""
    folder, here = (path if path.is_dir() else path.parent).resolve(), Path.cwd()
    return "mine" if folder not in (here, *here.parents) else shlex.quote(str(folder.with_name("mine")))


def default_split(found: Splits, path: Path) -> str:
    if len(found) == 1:
        return next(iter(found))
    plain = {plain_name(name) for name in found}
    return find_split(found, "val" if "val" in plain or "test" not in plain else "test", path)


def join(parts: Sequence[Dataset], source: Path) -> Dataset:
    """One data set from several, whose images are numbered anew if two have the same id."""
    first, *others = parts
    if not others:
        return first
    other = next((other for other in others if other.categories != first.categories), None)
    if other is not None:
        names = class_difference(first.source.stem, first.class_names, other.source.stem, other.class_names)
        raise InvalidInput(f"{first.source} and {other.source} do not have the same classes: {names}.")
    images = tuple(image for part in parts for image in part.images)
    if len({image.path for image in images}) != len(images):
        raise InvalidInput(f"the splits of {source} that are to be joined have images in common.")
    if len({image.image_id for image in images}) != len(images):
        images = tuple(replace(image, image_id=number) for number, image in enumerate(images, 1))
    return Dataset(source, images, first.categories, tuple(fault for part in parts for fault in part.faults))

"""Divide a data set without a validation split into train and val, and write it in COCO's format."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runtimes.errors import InvalidInput
from runtimes.json_file import json_text
from yolox_deploy.files import new_folder, write_text
from yolox_deploy.progress import progress_bar

from .class_names import listed
from .coco import PREFIX
from .dataset import Dataset, LabelledImage, check_trainable, lie_outside, training_labels
from .faults import counted
from .folders import JOINED, plain_name
from .image_checks import ImageFile
from .open import split_to_divide

LABELLED = -1  # stands for a class of all images that have boxes, so that both parts get some


@dataclass(frozen=True)
class Division:
    """The splits of a data set that is to be written. warnings: what is not as asked, or left out, a sentence each."""

    splits: dict[str, Dataset]
    warnings: tuple[str, ...]


def divide(datasets: Mapping[str, Dataset], files: Mapping[Path, ImageFile], fraction: float, seed: int) -> Division:
    """Divide the training images, or the only ones, into train and val; other splits stay as they are.

    fraction: the share of the images that is to be in train. An image whose content is in several splits stays in one:
    test before val before train. Raises `InvalidInput` where train and val cannot be made.
    """
    divided = split_to_divide(list(datasets))
    kept = {name: part for name, part in datasets.items() if name != divided and plain_name(name) != JOINED}
    splits = {plain_name(name): part for name, part in kept.items()}
    if len({plain_name(name) for name in datasets}) != len(datasets):
        every = ", ".join(datasets)
        raise InvalidInput(f"two of the splits {every} are of one name without their numbers: move one away.")
    warnings = []
    if divided is not None:
        rest, shared = _without(datasets[divided], list(splits.values()), files)
        warnings += _said(shared, divided)
        train, val = _parts(rest, files, fraction, seed)
        warnings += _missing_classes(train, val)
        splits = {"train": train, "val": val, **splits}
    elif not {"train", "val"} <= set(splits):
        raise InvalidInput(f"the splits {', '.join(datasets)} hold no training images: which are to be divided?")
    else:
        warnings.append(f"{' and '.join(kept)} stay as they are, since there is a val: --split divides what has none.")
        for name, others in (("val", ["test"]), ("train", ["val", "test"])):
            splits[name], shared = _without(splits[name], [splits[other] for other in others if other in splits], files)
            warnings += _said(shared, name)
    for part in (splits["train"], splits["val"]):
        check_trainable(part)
    return Division(splits, tuple(warnings))


def _without(
    dataset: Dataset, others: Sequence[Dataset], files: Mapping[Path, ImageFile]
) -> tuple[Dataset, list[LabelledImage]]:
    """A data set without the images whose content is in others, and these."""
    there = {files[image.path].digest for other in others for image in other.images}
    shared = [image for image in dataset.images if files[image.path].digest in there]
    rest = tuple(image for image in dataset.images if files[image.path].digest not in there)
    if not rest:
        raise InvalidInput(f"every image of {dataset.source} is in another split too.")
    return replace(dataset, images=rest), shared


def _said(shared: Sequence[LabelledImage], name: str) -> list[str]:
    if not shared:
        return []
    return [
        f"{name}: left out, since another split has the same: {counted(len(shared), 'image')}, such as"
        f" {shared[0].path.name}."
    ]


def _parts(dataset: Dataset, files: Mapping[Path, ImageFile], fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """train and val: the same for a seed, whatever the order and the names of the files. Equal images stay together."""
    groups: dict[str, list[LabelledImage]] = {}
    for image in dataset.images:
        groups.setdefault(files[image.path].digest, []).append(image)
    classes = {digest: _classes(images) for digest, images in groups.items()}
    if sum(LABELLED in found for found in classes.values()) < 2:
        raise InvalidInput(
            f"{dataset.source} has fewer than two different images with boxes: train and val need one each."
        )

    def rank(digest: str) -> tuple[bool, str]:
        """At random; images with boxes outside of them last: val takes the first."""
        outside = any(lie_outside(image).any() for image in groups[digest])
        return outside, hashlib.sha256(f"{seed}:{digest}".encode()).hexdigest()

    chosen = _choose({digest: len(groups[digest]) for digest in sorted(groups, key=rank)}, classes, 1 - fraction)
    train, val = (
        tuple(image for image in dataset.images if (files[image.path].digest in chosen) == in_val)
        for in_val in (False, True)
    )
    return replace(dataset, images=train), replace(dataset, images=val)


def _classes(images: Sequence[LabelledImage]) -> set[int]:
    """The classes that can be learned from images, with `LABELLED` if there are any."""
    found = {int(index) for image in images for index in training_labels(image)[:, 4]}
    return found | {LABELLED} if found else found


def _choose(sizes: Mapping[str, int], classes: Mapping[str, set[int]], share: float) -> set[str]:
    """Which groups of images are to be in val, by their order: about `share` of the images.

    Each class keeps a group in train, which counts most: a class that is not learned cannot be measured either. Then
    each has one in val, the rarest before the others, where there is room. Where every group is the only one of a
    class, val takes that of which the fewest are lost: it needs boxes.
    """
    count = sum(sizes.values())
    room = min(max(round(count * share), 1), count - 1)
    holders: dict[int, list[str]] = {}
    for group in sizes:
        for index in classes[group]:
            holders.setdefault(index, []).append(group)
    in_train = {index: len(groups) for index, groups in holders.items()}
    chosen: set[str] = set()

    def lost(group: str) -> int:
        """How many classes train would have no more of."""
        return sum(in_train[index] == 1 for index in classes[group])

    def take(groups: Iterable[str]) -> None:
        """Put the first of some groups into val, if there is any."""
        nonlocal room
        for group in itertools.islice(groups, 1):
            chosen.add(group)
            room -= sizes[group]
            in_train.update({index: in_train[index] - 1 for index in classes[group]})

    for groups in (holders[index] for index in sorted(holders, key=lambda index: (len(holders[index]), index))):
        if chosen.isdisjoint(groups):
            take(group for group in groups if sizes[group] <= room and not lost(group))
    if chosen.isdisjoint(holders[LABELLED]):
        take(sorted((group for group in holders[LABELLED] if sizes[group] <= room), key=lost))
    for group in sizes:
        if group not in chosen and sizes[group] <= room and not lost(group):
            take([group])
    return chosen


def _missing_classes(train: Dataset, val: Dataset) -> list[str]:
    """Classes that can be measured in no image of val, or are learned from none of train."""
    learned, measured = _classes(train.images), _classes(val.images)
    warnings = []
    for name, indices in (("train", measured - learned), ("val", learned - measured)):
        names = [train.class_names[index] for index in sorted(indices)]
        if names:
            classes = counted(len(names), "class")
            warnings.append(f"{name} has no boxes of {classes} with too few images: {listed(names)}.")
    return warnings


def write_division(division: Division, folder: Path) -> None:
    """Write train/, val/ and annotations/ into a new folder, which is complete or not there.

    Images are hard links to the source's, else copies: the source stays as it is.
    """
    with new_folder(folder, "--output") as part:
        for split, dataset in division.splits.items():
            _write_split(part, split, dataset)


def _write_split(root: Path, split: str, dataset: Dataset) -> None:
    (root / split).mkdir()
    names = unique_names([image.path for image in dataset.images])
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image, name in zip(progress_bar(dataset.images, unit="image", desc=f"writing {split}"), names, strict=True):
        _link(image.path, root / split / name)
        height, width = image.size
        images.append({"id": image.image_id, "file_name": name, "height": height, "width": width})
        for (left, top, right, bottom), index, area, crowd in zip(
            image.boxes.tolist(), image.class_ids.tolist(), image.area.tolist(), image.crowd.tolist(), strict=True
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image.image_id,
                    "category_id": dataset.category_ids[index],
                    "bbox": [left, top, right - left, bottom - top],
                    "area": area,
                    "iscrowd": int(crowd),
                }
            )
    categories = [{"id": number, "name": name} for number, name in dataset.categories.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_text(root / "annotations" / f"{PREFIX}{split}.json", json_text(content))


def unique_names(paths: Sequence[Path]) -> list[str]:
    """The names of files, for one folder: with those of the folders that they are in where two are the same, also on
    systems that take no notice of capitals."""
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        parts = path.absolute().parts[1:]
        longer = ("_".join(parts[-depth:]) for depth in range(1, len(parts) + 1))
        numbered = (f"{number}_{path.name}" for number in range(len(paths)))
        name = next(name for name in (*longer, *numbered) if name.casefold() not in taken)
        taken.add(name.casefold())
        names.append(name)
    return names


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or a system that has no links
        shutil.copyfile(source, target)

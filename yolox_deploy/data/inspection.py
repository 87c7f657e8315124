"""The data doctor: reads every split, label and image, goes on where training would stop, and says all that is odd."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from runtimes.errors import InvalidInput

from .box_checks import box_faults, box_sizes, class_counts, class_faults, full_mosaics
from .class_names import class_difference
from .dataset import Dataset, check_trainable, training_labels
from .faults import Fault
from .folders import JOINED, plain_name
from .image_checks import ImageFile, examine, image_faults, shared_images
from .images import UNKNOWN_SIZE
from .open import find_splits
from .report import SIZES, Contents, DataReport, SplitReport, Spread, findings
from .set_checks import set_faults, with_headers


@dataclass(frozen=True)
class Inspection:
    """report: what was found. usable: each split, with the images that can be read and are as large as their labels
    say; a split of which nothing can be used is not in it. files: what reading each image file showed."""

    report: DataReport
    usable: dict[str, Dataset]
    files: Mapping[Path, ImageFile]


def inspect(path: Path, size: tuple[int, int]) -> Inspection:
    """Inspect every split of the data set at `path`. size: (height, width) of the network input. Shows a progress bar.

    Raises `InvalidInput` only where there is no data set.
    """
    read = {name: _read(split) for name, split in find_splits(path).items()}
    datasets = {name: dataset for name, dataset in read.items() if isinstance(dataset, Dataset)}
    files = examine([image.path for dataset in datasets.values() for image in dataset.images])
    usable = {name: part for name, dataset in datasets.items() if (part := _usable(dataset, files))}
    reports = []
    for name, dataset in read.items():
        if isinstance(dataset, Fault):
            reports.append(SplitReport(name, "", None, findings([dataset])))
            continue
        faults = [*dataset.faults, *image_faults(dataset, files, size), *_across(name, datasets, files)]
        if name in usable:
            faults += [*set_faults(usable[name]), *box_faults(usable[name], size), *_training_faults(name, usable)]
        contents = _contents(usable[name], size) if name in usable else None
        reports.append(SplitReport(name, str(dataset.source), contents, findings(faults)))
    return Inspection(DataReport(str(path), size, tuple(reports)), usable, files)


def _read(split: Callable[[], Dataset]) -> Dataset | Fault:
    try:
        return with_headers(split())
    except InvalidInput as error:
        return Fault("split that cannot be read", str(error))


def _usable(dataset: Dataset, files: Mapping[Path, ImageFile]) -> Dataset | None:
    """Without the images that cannot be read or have another size than their labels; None where none are left."""
    good = [image for image in dataset.images if files[image.path].size == image.size != UNKNOWN_SIZE]
    return replace(dataset, images=tuple(good)) if good else None


def _across(name: str, datasets: Mapping[str, Dataset], files: Mapping[Path, ImageFile]) -> list[Fault]:
    """What a split has in common with those before it, and should not; or has not, and should."""
    before = list(datasets)[: list(datasets).index(name)]
    faults = []
    if before and datasets[name].class_names != datasets[before[0]].class_names:
        names = class_difference(name, datasets[name].class_names, before[0], datasets[before[0]].class_names)
        faults.append(Fault("other classes than another split", f"{name} than {before[0]}: {names}"))
    for other in before:
        if JOINED not in (name, other):
            faults += shared_images(datasets[name], other, datasets[other].images, files)
    return faults


def _training_faults(name: str, usable: Mapping[str, Dataset]) -> list[Fault]:
    learned = next((usable[other] for other in usable if plain_name(other) == "train"), None)
    faults = class_faults(usable[name], learned, plain_name(name) in ("val", "test"))
    try:
        check_trainable(usable[name])
    except Fault as fault:
        faults.append(fault)
    return faults


def _contents(dataset: Dataset, size: tuple[int, int]) -> Contents:
    heights, widths = np.array([image.size for image in dataset.images], np.float64).T
    sizes = box_sizes(dataset, size)
    counts = np.histogram(sizes, [*SIZES.values(), np.inf])[0].tolist()
    return Contents(
        images=len(dataset),
        boxes=len(sizes),
        heights=_spread(heights),
        widths=_spread(widths),
        aspects=_spread(widths / heights),
        boxes_per_image=_spread(np.array([len(training_labels(image)) for image in dataset.images], np.float64)),
        classes=class_counts(dataset),
        box_sizes=dict(zip(SIZES, counts, strict=True)),
        full_mosaics=full_mosaics(dataset),
    )


def _spread(values: np.ndarray) -> Spread:
    return Spread(float(values.min()), float(np.median(values)), float(values.max()))

"""Data sets in Pascal VOC's format: lists of names for the splits, and an XML file for each image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from xml.etree import ElementTree

from runtimes.errors import InvalidInput
from yolox_deploy.files import read_text

from .dataset import Dataset, LabelledImage, Splits, labelled_image
from .images import IMAGE_SUFFIXES, known_size


@dataclass(frozen=True)
class Annotation:
    """One XML file. size: (height, width), None where it does not say. boxes: left, top, right, bottom, from 0."""

    size: tuple[int, int] | None
    names: list[str]
    boxes: list[list[float]]


@dataclass(frozen=True)
class VocFolder:
    """A data set of which every split is read together, so that all number the classes alike: sorted, from 1.

    lists: the file of each split.
    """

    root: Path
    lists: dict[str, Path]

    def read(self, split: str) -> Dataset:
        """Raises `InvalidInput` for annotations that cannot be read and images that are not there.

        Objects that are marked as difficult count as any other, as in the official training code.
        """
        stems = self._stems[split]
        paths = _image_paths(self.root / "JPEGImages")
        absent = [stem for stem in stems if stem not in paths]
        if absent:
            raise InvalidInput(
                f"{len(absent)} images of {self.lists[split]} are not in JPEGImages, such as {absent[0]}."
            )
        images = tuple(self._labelled(number, paths[stem]) for number, stem in enumerate(stems, 1))
        return Dataset(self.lists[split], images, dict(enumerate(self._classes, 1)))

    def _labelled(self, number: int, path: Path) -> LabelledImage:
        found = self._annotations[path.stem]
        class_ids = [self._classes.index(name) for name in found.names]
        return labelled_image(number, path, found.size or known_size(path), found.boxes, class_ids)

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        return {
            split: list(dict.fromkeys(line.split()[0] for line in read_text(file).splitlines() if line.strip()))
            for split, file in self.lists.items()
        }

    @cached_property
    def _annotations(self) -> dict[str, Annotation]:
        stems = {stem for stems in self._stems.values() for stem in stems}
        return {stem: read_annotation(self.root / "Annotations" / f"{stem}.xml") for stem in sorted(stems)}

    @cached_property
    def _classes(self) -> list[str]:
        return sorted({name for annotation in self._annotations.values() for name in annotation.names})


def voc_splits(root: Path) -> Splits:
    """The splits of `ImageSets/Main/<split>.txt`. Empty where this is no such folder.

    VOC's own folder also has lists for one class, such as `cat_train.txt` beside `train.txt`; these are no splits.
    """
    files = {file.stem: file for file in sorted((root / "ImageSets" / "Main").glob("*.txt"))}
    class_lists = tuple(f"_{name}" for name in files)
    folder = VocFolder(root, {name: file for name, file in files.items() if not name.endswith(class_lists)})
    return {split: partial(folder.read, split) for split in folder.lists}


def read_annotation(file: Path) -> Annotation:
    """VOC counts pixels from 1, hence 1 less. Source: yolox/data/datasets/voc.py, `AnnotationTransform`."""
    tree = _read_xml(file)
    names, boxes = [], []
    for number, item in enumerate(tree.findall("object"), 1):
        names.append((item.findtext("name") or "").strip())
        try:
            box = [float(item.findtext(f"bndbox/{side}", "")) - 1 for side in ("xmin", "ymin", "xmax", "ymax")]
        except ValueError:
            box = [math.nan]
        if not names[-1] or not all(map(math.isfinite, box)):
            raise InvalidInput(f"{file}: object {number} needs a name and a bndbox with xmin, ymin, xmax and ymax.")
        boxes.append(box)
    sides = [tree.findtext(f"size/{side}", "").strip() for side in ("height", "width")]
    known = all(side.isdecimal() and int(side) for side in sides)  # some tools write 0
    return Annotation((int(sides[0]), int(sides[1])) if known else None, names, boxes)


def _read_xml(file: Path) -> ElementTree.Element:
    """Entities, which can make a small file huge, can only be declared in a DOCTYPE."""
    try:
        text = read_text(file)
    except OSError as error:
        raise InvalidInput(f"cannot read {file}: {error.strerror}.") from None
    if "<!DOCTYPE" in text:
        raise InvalidInput(f"{file} holds a DOCTYPE, which no annotation needs: remove it.")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InvalidInput(f"{file} is not XML: {error}.") from None


def _image_paths(folder: Path) -> dict[str, Path]:
    """By the name without suffix."""
    if not folder.is_dir():
        raise InvalidInput(f"there is no folder {folder}, where VOC keeps the images.")
    return {file.stem: file for file in sorted(folder.iterdir()) if file.suffix.lower() in IMAGE_SUFFIXES}

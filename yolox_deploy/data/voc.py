"""Data sets in Pascal VOC's format: lists of names for the splits, and an XML file for each image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from xml.etree import ElementTree

from runtimes.errors import InvalidInput
from yolox_deploy.files import read_text

from .dataset import Dataset, LabelledImage, Splits, labelled_image
from .faults import Fault, once, sound
from .images import IMAGE_SUFFIXES, known_size


@dataclass(frozen=True)
class Annotation:
    """One XML file. size: (height, width), None where it does not say. boxes: left, top, right, bottom, from 0.

    faults: objects that are left out.
    """

    size: tuple[int, int] | None
    names: list[str]
    boxes: list[list[float]]
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class VocFolder:
    """A data set of which every split is read together, so that all number the classes alike: sorted, from 1.

    lists: the file of each split.
    """

    root: Path
    lists: dict[str, Path]

    def read(self, split: str) -> Dataset:
        """Raises `InvalidInput` where there is no folder of images.

        Objects that are marked as difficult count as any other, as in the official training code.
        """
        file, faults = self.lists[split], list[Fault]()
        stems = list(once(((stem, None) for stem in self._stems[split]), "image listed twice", file, faults))
        paths = self._image_paths(stems, faults)
        found = sound(partial(self._labelled, paths, file), enumerate(stems, 1), faults)
        read = [self._annotations[stem] for stem in stems]
        faults += [fault for annotation in read if isinstance(annotation, Annotation) for fault in annotation.faults]
        self._check_others(stems, faults)
        return Dataset(file, tuple(found), dict(enumerate(self._classes, 1)), tuple(faults))

    def _labelled(self, paths: dict[str, Path], file: Path, numbered: tuple[int, str]) -> LabelledImage:
        number, stem = numbered
        if stem not in paths:
            raise Fault("missing image", stem, f"JPEGImages lacks {stem}, which {file} names.")
        found, path = self._annotations[stem], paths[stem]
        if isinstance(found, Fault):
            raise found
        class_ids = [self._classes.index(name) for name in found.names]
        return labelled_image(number, path, found.size or known_size(path), found.boxes, class_ids)

    def _check_others(self, stems: Sequence[str], faults: list[Fault]) -> None:
        """The classes of every split are those of all: an annotation that cannot be read may hide one."""
        for stem in self._annotations.keys() - set(stems):
            found = self._annotations[stem]
            if isinstance(found, Fault):
                place = f"{stem}.xml of another split, which may name other classes"
                faults.append(Fault(found.kind, place, str(found)))
                return

    def _image_paths(self, stems: Sequence[str], faults: list[Fault]) -> dict[str, Path]:
        """By the name without suffix."""
        folder = self.root / "JPEGImages"
        if not folder.is_dir():
            raise InvalidInput(f"there is no folder {folder}, where VOC keeps the images.")
        wanted = set(stems)
        files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in IMAGE_SUFFIXES]
        named = [(file.stem, file) for file in files if file.stem in wanted]
        return once(named, "two images of one name", folder, faults)

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        return {
            split: [line.split()[0] for line in read_text(file).splitlines() if line.strip()]
            for split, file in self.lists.items()
        }

    @cached_property
    def _annotations(self) -> dict[str, Annotation | Fault]:
        """Of all splits: what each file says, or why it cannot be read."""
        stems = {stem for stems in self._stems.values() for stem in stems}
        return {stem: _annotation_or_fault(self._annotation_file(stem)) for stem in sorted(stems)}

    def _annotation_file(self, stem: str) -> Path:
        return self.root / "Annotations" / f"{stem}.xml"

    @cached_property
    def _classes(self) -> list[str]:
        return sorted(
            {name for found in self._annotations.values() if isinstance(found, Annotation) for name in found.names}
        )


def voc_splits(root: Path) -> Splits:
    """The splits of `ImageSets/Main/<split>.txt`. Empty where this is no such folder.

    VOC's own folder also has lists for one class, such as `cat_train.txt` beside `train.txt`; these are no splits.
    """
    files = {file.stem: file for file in sorted((root / "ImageSets" / "Main").glob("*.txt"))}
    class_lists = tuple(f"_{name}" for name in files)
    folder = VocFolder(root, {name: file for name, file in files.items() if not name.endswith(class_lists)})
    return {split: partial(folder.read, split) for split in folder.lists}


def _annotation_or_fault(file: Path) -> Annotation | Fault:
    try:
        return read_annotation(file)
    except Fault as fault:
        return fault.with_traceback(None)
    except InvalidInput as error:
        return Fault("broken annotation", file.name, str(error))


def read_annotation(file: Path) -> Annotation:
    """VOC counts pixels from 1, hence 1 less. Source: yolox/data/datasets/voc.py, `AnnotationTransform`.

    Raises `InvalidInput` for what is no such file; single objects that are wrong stand in its faults.
    """
    tree = _read_xml(file)
    faults: list[Fault] = []
    objects = sound(partial(_object, file), enumerate(tree.findall("object"), 1), faults)
    sides = [tree.findtext(f"size/{side}", "").strip() for side in ("height", "width")]
    known = all(side.isdecimal() and len(side) < 10 and int(side) for side in sides)  # some tools write 0
    size = (int(sides[0]), int(sides[1])) if known else None
    return Annotation(size, [name for name, _ in objects], [box for _, box in objects], tuple(faults))


def _object(file: Path, numbered: tuple[int, ElementTree.Element]) -> tuple[str, list[float]]:
    number, item = numbered
    place, name = f"{file.name}, object {number}", (item.findtext("name") or "").strip()
    needs = f"{file}: object {number} needs a name and a bndbox with xmin, ymin, xmax and ymax, finite numbers."
    texts = [item.findtext(f"bndbox/{side}", "").strip() for side in ("xmin", "ymin", "xmax", "ymax")]
    if not name or not all(texts):
        raise Fault("broken annotation", place, needs)
    try:
        box = [float(text) - 1 for text in texts]
    except ValueError:
        box = [math.nan]
    if not all(map(math.isfinite, box)):
        raise Fault("coordinates that are no numbers", place, needs)
    return name, box


def _read_xml(file: Path) -> ElementTree.Element:
    """Entities, which can make a small file huge, can only be declared in a DOCTYPE."""
    if not file.is_file():
        raise Fault("missing label file", file.name, f"there is no {file}, the labels of an image that is listed.")
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

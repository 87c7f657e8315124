"""Data sets in Pascal VOC's format: lists of names for the splits, and an XML file for each image."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from xml.etree import ElementTree

from runtimes.errors import InvalidInput
from runtimes.json_file import check_regular
from yolox_deploy.files import decode_text, read_text

from .dataset import Dataset, LabelledImage, Splits, labelled_image, left_out_files
from .faults import Fault, once, sound
from .images import Header, images_among, is_image, read_headers
from .names import FileNames

FLAG = re.compile(r"\s+(-1|0|1)$")
DECLARATION = re.compile(rb"""\s*<\?xml[^>]*?\bencoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]*)["']""")
UTF_16_STARTS = {b"<\0?\0": "utf-16-le", b"\0<\0?": "utf-16-be"}


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
        found = sound(partial(self._image_path, file), stems, faults)
        faults += self._names.take_faults() + left_out_files(self._others_of(split))
        headers = read_headers([path for _, path in found])
        numbers = {stem: number for number, stem in enumerate(stems, 1)}
        entries = [(numbers[stem], stem, path, header) for (stem, path), header in zip(found, headers, strict=True)]
        images = sound(self._labelled, entries, faults)
        read = [self._annotations[stem] for stem in stems]
        faults += [fault for annotation in read if isinstance(annotation, Annotation) for fault in annotation.faults]
        self._check_others(stems, faults)
        return Dataset(file, tuple(images), dict(enumerate(self._classes, 1)), tuple(faults))

    def _image_path(self, file: Path, stem: str) -> tuple[str, Path]:
        paths = self._images_of(stem)
        if not paths:
            near = self._names.similar(stem, [self._folder])
            raise Fault("missing image", stem, f"JPEGImages lacks {stem}, which {file} names{near}.")
        if len(paths) > 1:
            both = f"{paths[0].name} and {paths[1].name}"
            sentence = f"{file} names {stem}, which may be {both} of {self._folder}: rename one, with its label file."
            raise Fault("two images of one name", stem, sentence)
        return stem, paths[0]

    def _labelled(self, entry: tuple[int, str, Path, Header]) -> LabelledImage:
        number, stem, path, header = entry
        found = self._annotations[stem]
        if isinstance(found, Fault):
            raise found
        class_ids = [self._classes.index(name) for name in found.names]
        return labelled_image(
            number, path, found.size or header.size, found.boxes, class_ids, header, size_is_labelled=bool(found.size)
        )

    def _check_others(self, stems: Sequence[str], faults: list[Fault]) -> None:
        """The classes of every split are those of all: an annotation that cannot be read may hide one."""
        for stem in self._annotations.keys() - set(stems):
            found = self._annotations[stem]
            if isinstance(found, Fault):
                place = f"{stem}.xml of another split, which may name other classes"
                faults.append(Fault(found.kind, place, str(found)))
                return

    @property
    def _folder(self) -> Path:
        return self.root / "JPEGImages"

    def _images_of(self, name: str) -> list[Path]:
        """The images of a name without suffix: one, but where their suffixes differ."""
        return self._names.find_stem(name, self._folder, is_image)

    @cached_property
    def _names(self) -> FileNames:
        if not self._folder.is_dir():
            raise InvalidInput(f"there is no folder {self._folder}, where VOC keeps the images.")
        return FileNames()

    def _others_of(self, split: str) -> list[Path]:
        """Files beside the images that are none, which belong to every split."""
        return self._others

    @cached_property
    def _others(self) -> list[Path]:
        return images_among(self._folder.iterdir())[1]

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        return {split: self._listed(file) for split, file in self.lists.items()}

    def _listed(self, file: Path) -> list[str]:
        """The names in a list, as the files are spelled. A class list has 1, 0 or -1 after each."""
        lines = [line.strip() for line in read_text(file).splitlines() if line.strip()]
        flags = [FLAG.search(line) for line in lines]
        names = []
        for line, flag in zip(lines, flags, strict=True):
            short = line[: flag.start()] if flag else line
            if flag and self._spelled(line):
                if all(flags) and self._spelled(short):
                    raise InvalidInput(f"{file} names {line}, which may be the image {line}, or {short} with a flag.")
                short = line
            names.append(self._spelled(short) or short)
        return names

    def _spelled(self, name: str) -> str:
        """The name as the image is spelled; empty where there is none."""
        try:
            found = self._images_of(name)
        except Fault:  # of two images, which is said where they are read
            return name
        return found[0].relative_to(self._folder).with_suffix("").as_posix() if found else ""

    @cached_property
    def _annotations(self) -> dict[str, Annotation | Fault]:
        """Of all splits: what each file says, or why it cannot be read."""
        stems = {stem for stems in self._stems.values() for stem in stems}
        return {stem: self._annotation(stem) for stem in sorted(stems)}

    def _annotation(self, stem: str) -> Annotation | Fault:
        try:
            return read_annotation(self._annotation_file(stem))
        except Fault as fault:
            return fault.with_traceback(None)
        except InvalidInput as error:
            return Fault("broken annotation", f"{stem}.xml", str(error))

    def _annotation_file(self, stem: str) -> Path:
        folder, name = self.root / "Annotations", f"{stem}.xml"
        return self._names.find(name, [folder]) or folder / name

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


def read_annotation(file: Path) -> Annotation:
    """VOC counts pixels from 1, hence 1 less. Source: yolox/data/datasets/voc.py, `AnnotationTransform`.

    Raises `InvalidInput` for what is no such file; single objects that are wrong stand in its faults.
    """
    tree = _read_xml(file)
    if tree.tag.lower() != "annotation":
        raise InvalidInput(f"{file} is no annotation of Pascal VOC: its root is <{tree.tag}>, not <annotation>.")
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
    check_regular(file)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {file}: {error.strerror}.") from None
    text = decode_text(content, file, _declared_encoding(content, file))
    if "<!DOCTYPE" in text:
        raise InvalidInput(f"{file} holds a DOCTYPE, which no annotation needs: remove it.")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InvalidInput(f"{file} is not XML: {error}.") from None


def _declared_encoding(content: bytes, file: Path) -> str:
    """By XML's own rules; the parser itself knows few encodings. Source: XML 1.0, appendix F."""
    start = next((encoding for start, encoding in UTF_16_STARTS.items() if content.startswith(start)), "")
    declared = DECLARATION.match(content)
    encoding = "utf-8" if declared is None else declared[1].decode("ascii").lower()
    if start or encoding.startswith(("utf-16", "utf-32", "ucs", "iso-10646")):
        return start or "utf-8"  # of two bytes a letter, the declaration could not have been read
    encoding = "gb18030" if encoding in ("gb2312", "gbk") else encoding  # which holds both
    try:
        "".encode(encoding)
    except (LookupError, UnicodeError):
        raise InvalidInput(f"{file} says that its encoding is {encoding}, which is none: save it in UTF-8.") from None
    return encoding

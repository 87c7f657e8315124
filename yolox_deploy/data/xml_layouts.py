"""Layouts of Pascal VOC's XML: VOC's own with lists, and those without: Roboflow's, labelImg's, Label Studio's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from .dataset import Dataset
from .faults import Fault
from .folders import FolderSet, folder_sets
from .layout import Layout
from .voc import VocFolder, voc_splits

SUFFIX = ".xml"


@dataclass(frozen=True)
class XmlFolders(VocFolder):
    """A data set without lists: the images of a split are those in its folder, and each needs its XML file.

    The path of an image, without suffix, is what VOC's lists would call it. lists: folders of labels, for messages.
    """

    sets: dict[str, FolderSet]

    def read(self, split: str) -> Dataset:
        """As from a list; XML files that no image belongs to are left out, and named."""
        dataset = super().read(split)
        part = self.sets[split]
        lone = [file for file in part.find_labels(SUFFIX) if file not in self._claimed]
        faults = [Fault("label file without image", file.name, f"{file} has no image.") for file in lone]
        return replace(dataset, faults=(*dataset.faults, *faults))

    def _annotation_file(self, stem: str) -> Path:
        file = self._label_files[stem]
        return self._names.find(file.name, [file.parent]) or file

    @cached_property
    def _claimed(self) -> set[Path]:
        """The label files of the images of all splits, whose folders of labels may be one."""
        return {self._annotation_file(stem) for stem in self._annotations}

    @property
    def _folder(self) -> Path:
        return self.root

    def _images_of(self, name: str) -> list[Path]:
        return self._by_stem[name]

    def _others_of(self, split: str) -> list[Path]:
        return self._found[split][1]

    @cached_property
    def _found(self) -> dict[str, tuple[list[Path], list[Path]]]:
        return {split: part.find_images() for split, part in self.sets.items()}

    @cached_property
    def _images(self) -> dict[str, list[Path]]:
        return {split: images for split, (images, _) in self._found.items()}

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in (path for paths in self._images.values() for path in paths):
            found.setdefault(_stem(path), []).append(path)
        return found

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        return {split: list(dict.fromkeys(map(_stem, paths))) for split, paths in self._images.items()}

    @cached_property
    def _label_files(self) -> dict[str, Path]:
        return {
            _stem(path): part.label_file(path, SUFFIX)
            for split, part in self.sets.items()
            for path in self._images[split]
        }


def _stem(image: Path) -> str:
    return image.with_suffix("").as_posix()


def xml_layouts(root: Path) -> list[Layout]:
    """VOC's own layout; else that of XML files which no list names. Raises `InvalidInput` where two such are mixed."""
    splits = voc_splits(root)
    if splits:
        return [Layout("Pascal VOC's ImageSets/Main/SPLIT.txt", root / "ImageSets", splits)]
    sets = folder_sets(root, SUFFIX)
    if not sets:
        return []
    folder = XmlFolders(root, {split: part.labels for split, part in sets.items()}, sets)
    labels = next(iter(sets.values())).labels
    place = labels.parent if labels.name in sets else root if labels.parent.name in sets else labels
    return [
        Layout("Pascal VOC's XML, a file for each image", place, {split: partial(folder.read, split) for split in sets})
    ]

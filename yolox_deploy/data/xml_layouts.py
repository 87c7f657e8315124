"""Layouts of Pascal VOC's XML: VOC's own with lists, and those without: Roboflow's, labelImg's, Label Studio's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from .dataset import Dataset
from .faults import Fault, once
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
        known = {part.label_file(image, SUFFIX) for image in self._images[split]}
        lone = [file for file in part.find_labels(SUFFIX) if file not in known and self._is_label(file)]
        faults = [Fault("label file without image", file.name, f"{file} has no image.") for file in lone]
        return replace(dataset, faults=(*dataset.faults, *faults))

    def _is_label(self, file: Path) -> bool:
        """Whether no other split has it: their folders may be one."""
        return not any(file == self._label_files.get(stem) for stem in self._annotations)

    def _annotation_file(self, stem: str) -> Path:
        return self._label_files[stem]

    def _image_paths(self, stems: Sequence[str], faults: list[Fault]) -> dict[str, Path]:
        wanted = set(stems)
        named = [(stem, path) for paths in self._images.values() for path in paths if (stem := _stem(path)) in wanted]
        return once(named, "two images of one name", self.root, faults)

    @cached_property
    def _images(self) -> dict[str, list[Path]]:
        return {split: part.find_images() for split, part in self.sets.items()}

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
    place = labels.parent if labels.name in sets else labels
    return [
        Layout("Pascal VOC's XML, a file for each image", place, {split: partial(folder.read, split) for split in sets})
    ]

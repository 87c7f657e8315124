"""Images with their labels, fitted to the input once and kept: in memory, on disk, or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, overload

import numpy as np

from runtimes.errors import InvalidInput
from runtimes.preprocess import Image
from yolox_deploy.files import replacing
from yolox_deploy.progress import progress_bar

from .augment import Sample, fit
from .dataset import LabelledImage, training_labels
from .images import read_image

Cache = Literal["none", "ram", "disk"]
GIB = 2**30


class SampleStore(Sequence[Sample]):
    """Training images, fitted into `size` (height, width), with their labels. Reading one raises `InvalidInput`."""

    def __init__(self, images: Sequence[LabelledImage], size: tuple[int, int]) -> None:
        self.images, self.size = images, size
        self.labelled = [index for index, image in enumerate(images) if len(training_labels(image))]
        self._kept: dict[int, Image | Path] = {}

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        kept = self._kept.get(index)
        image = self._read(index) if kept is None else np.load(kept) if isinstance(kept, Path) else kept
        return Sample(image, self._labels(index))

    def keep(self, cache: Cache, limit_gib: float, folder: Path) -> int:
        """Keep as many images as fit below the limit; returns how many. On disk, they stay in `folder`.

        To be called before worker processes start, which then share what is in memory.
        """
        room = limit_gib * GIB
        if cache == "none":
            return 0
        for index in progress_bar(range(len(self)), unit="image", desc=f"cache ({cache})"):
            file = folder / f"{self._key(index)}.npy"
            kept = _load(file) if cache == "disk" else None
            try:
                image = self._read(index) if kept is None else kept
            except InvalidInput:  # said when it is drawn
                continue
            room -= image.nbytes
            if room < 0:
                break
            if cache == "disk" and kept is None:
                with replacing(file) as part:
                    np.save(part, image)
            self._kept[index] = file if cache == "disk" else image
        return len(self._kept)

    def _key(self, index: int) -> str:
        """Another one when the file or the size is another."""
        path = self.images[index].path
        stat = path.stat()
        return hashlib.sha256(f"{path.absolute()} {stat.st_mtime_ns} {stat.st_size} {self.size}".encode()).hexdigest()

    def _read(self, index: int) -> Image:
        labelled = self.images[index]
        image = read_image(labelled.path)
        if image.shape[:2] != labelled.size:
            raise InvalidInput(
                f"{labelled.path} has {image.shape[0]} rows and {image.shape[1]} columns, its labels are of"
                f" {labelled.size[0]} and {labelled.size[1]}: one of them was turned or resized."
            )
        return fit(Sample(image, np.zeros((0, 5), np.float32)), self.size).image

    def _labels(self, index: int) -> np.ndarray:
        """Of the fitted image."""
        labels = training_labels(self.images[index])
        height, width = self.images[index].size
        labels[:, :4] *= min(self.size[0] / height, self.size[1] / width)
        return labels


def _load(file: Path) -> Image | None:
    """A kept image; None where there is none, or where it did not reach the disk before the power went."""
    try:
        image: Image = np.load(file)
    except (OSError, ValueError, EOFError):
        return None
    return image

"""From a labelled data set to batches that are augmented, in worker processes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.utils.data
from torch import Tensor

from runtimes.errors import InvalidInput
from yolox_deploy.training.recipe import Augmentation

from .augment import AffineRange, Sample, affine, colour_and_mirror, to_input
from .dataset import MAX_LABELS
from .mosaic import mixup, mosaic
from .store import SampleStore
from .stream import Draw, Stream


@dataclass(frozen=True)
class Batch:
    """images: (N, H, W, 3) uint8, BGR. labels: N of (n, 5) float32: class index, centre x, y, width, height in pixels
    of the input. unreadable: what was wrong with images that are missing."""

    images: Tensor
    labels: list[Tensor]
    unreadable: tuple[str, ...] = ()

    def pin_memory(self) -> Batch:
        """For the data loader: copies to a GPU need not wait then."""
        return Batch(self.images.pin_memory(), [rows.pin_memory() for rows in self.labels], self.unreadable)


class TrainingSet(torch.utils.data.Dataset[Sample | InvalidInput]):
    """Augmented images of `size` (height, width), each a pure function of the seed and its draw.

    An image that cannot be read comes as the error itself: raised in a worker process, it would lose its sentence. With
    `skip_unreadable`, the next image stands in for it.
    """

    def __init__(
        self,
        store: SampleStore,
        size: tuple[int, int],
        augmentation: Augmentation,
        seed: int,
        skip_unreadable: bool = False,
    ) -> None:
        self.store, self.size, self.augmentation, self.seed = store, size, augmentation, seed
        self.skip_unreadable = skip_unreadable
        self.affine = AffineRange(
            augmentation.rotation, augmentation.mosaic_scale, augmentation.shear, augmentation.translation
        )

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, draw: Draw) -> Sample | InvalidInput:
        random = np.random.default_rng([self.seed, 1, draw.position])
        try:
            if draw.plain or random.random() >= self.augmentation.mosaic:
                sample = self._read(draw.index)
            else:
                sample = self._mosaic(draw.index, random)
        except InvalidInput as error:
            return error
        changed = colour_and_mirror(sample, random, self.augmentation.hsv, self.augmentation.flip)
        return to_input(changed, self.size)

    def _read(self, index: int) -> Sample:
        for number in range(index, index + len(self.store)):
            try:
                return self.store[number % len(self.store)]
            except InvalidInput as error:
                if not self.skip_unreadable:
                    raise
                print(f"left out: {error}", file=sys.stderr, flush=True)
        raise InvalidInput("none of the images can be read.")

    def _mosaic(self, index: int, random: np.random.Generator) -> Sample:
        indices = [index, *random.integers(0, len(self.store), 3).tolist()]
        sample = mosaic([self._read(number) for number in indices], self.size, random)
        sample = affine(sample, self.size, self.affine.matrix(self.size, random))
        if len(sample.labels) and random.random() < self.augmentation.mixup:
            other = self._read(self.store.labelled[int(random.integers(len(self.store.labelled)))])
            sample = mixup(sample, other, self.augmentation.mixup_scale, self.augmentation.flip, random)
        return sample


def collate(samples: Sequence[Sample | InvalidInput]) -> Batch:
    """One batch; without images, where one of them could not be read."""
    unreadable = tuple(str(sample) for sample in samples if not isinstance(sample, Sample))
    if unreadable:
        return Batch(torch.empty(0), [], unreadable)
    sound = [sample for sample in samples if isinstance(sample, Sample)]
    images = torch.from_numpy(np.stack([sample.image for sample in sound]))
    return Batch(images, [_centre_form(sample) for sample in sound])


def _centre_form(sample: Sample) -> Tensor:
    """(n, 5): class index, centre x, y, width, height."""
    labels = torch.from_numpy(sample.labels[:MAX_LABELS])
    corners, sides = labels[:, :2], labels[:, 2:4] - labels[:, :2]
    return torch.cat([labels[:, 4:], corners + sides / 2, sides], dim=1)


def make_loader(
    dataset: TrainingSet, stream: Stream, workers: int, pin_memory: bool = False
) -> torch.utils.data.DataLoader[Batch]:
    """Batches in the stream's order, whatever the number of worker processes (0: in this one)."""
    return torch.utils.data.DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_sampler=stream,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
    )


def _start_worker(worker: int) -> None:
    cv2.setNumThreads(0)  # the processes share the cores already
    # Ctrl-C, and the end that a cluster announces, go to all processes, and are for the training process to take.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

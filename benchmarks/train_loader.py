"""python -m benchmarks.train_loader: augmented images a second, ours against a loader written as the official one is.

Both run in this process, on the same images from memory, in turn: compare the ratio. Ours delivers bytes, which become
floats on the device; its third row does that on the processor, as the official one does. The means of what comes out
stand beside it, since a loader that does less is no faster. Prints a Markdown table and ends with one JSON line.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median

import cv2
import numpy as np
import torch

from runtimes.json_file import json_text
from yolox_deploy.console import run
from yolox_deploy.data.loader import Batch as LoaderBatch
from yolox_deploy.data.loader import TrainingSet, collate
from yolox_deploy.data.open import open_dataset
from yolox_deploy.data.store import SampleStore
from yolox_deploy.data.stream import Draw
from yolox_deploy.model.variants import VariantName
from yolox_deploy.progress import progress_bar
from yolox_deploy.training.engine import to_device
from yolox_deploy.training.recipe import recipe_for

from .plain_loader import PlainAugmentation

BATCH = 8


@dataclass(frozen=True)
class TrainLoaderConfig:
    """Time the loader on a data set."""

    data: Path
    """Data set: a folder or a YAML."""
    split: tuple[str, ...] = ("train",)
    """Splits of it."""
    model: VariantName = "yolox-s"
    """Whose recipe: yolox-s has mixup, yolox-nano has none."""
    batches: int = 60
    """Batches of 8 images."""


@dataclass(frozen=True)
class Figures:
    """images_per_second, and of what comes out: mean pixel, labels an image, mean root of the boxes' area in pixels."""

    loader: str
    images_per_second: float
    pixel: float
    labels: float
    side: float

    def __str__(self) -> str:
        return (
            f"| {self.loader} | {self.images_per_second:.0f} | {self.pixel:.1f} | {self.labels:.2f} | {self.side:.1f} |"
        )


HEADER = "| loader | images/s | mean pixel | labels an image | mean side of a box, px |\n|---|---|---|---|---|"

Batch = tuple[torch.Tensor, list[torch.Tensor]]  # images, and the labels of each: class, centre x, y, width, height


def plain_batch(dataset: PlainAugmentation, number: int) -> Batch:
    """float32, as the network takes them."""
    samples = [dataset[(number * BATCH + index) % len(dataset.store)] for index in range(BATCH)]
    images = torch.from_numpy(np.stack([image for image, _ in samples]))
    return images, [torch.from_numpy(labels[labels[:, 3] > 0]) for _, labels in samples]


def our_batch(dataset: TrainingSet, number: int) -> Batch:
    """Bytes, as our loader delivers them."""
    positions = range(number * BATCH, (number + 1) * BATCH)
    batch = collate([dataset[Draw(position % len(dataset), position, False)] for position in positions])
    return batch.images, batch.labels


def our_floats(dataset: TrainingSet, number: int) -> Batch:
    """Ours made float32, channels-last: what the training does on the device, a GPU if there is one."""
    images, labels = our_batch(dataset, number)
    return to_device(LoaderBatch(images, labels), torch.device("cpu"), channels_last=True)


def measure(loaders: dict[str, Callable[[int], Batch]], batches: int) -> list[Figures]:
    seconds: dict[str, list[float]] = {name: [] for name in loaders}
    found: dict[str, list[tuple[float, list[float]]]] = {name: [] for name in loaders}
    for number in progress_bar(range(batches), unit="batch"):
        for name, load in loaders.items():
            start = time.perf_counter()
            images, labels = load(number)
            seconds[name].append(time.perf_counter() - start)
            rows = torch.cat(labels)
            found[name].append((float(images.float().mean()), (rows[:, 3] * rows[:, 4]).sqrt().tolist()))
    return [
        Figures(
            name,
            BATCH / median(seconds[name]),
            mean(pixel for pixel, _ in found[name]),
            mean(len(sides) for _, sides in found[name]) / BATCH,
            mean(side for _, sides in found[name] for side in sides),
        )
        for name in loaders
    ]


def command(config: TrainLoaderConfig) -> None:
    cv2.setNumThreads(0)
    random.seed(0)
    np.random.seed(0)
    recipe = recipe_for(config.model)
    store = SampleStore(open_dataset(config.data, config.split).images, recipe.input_size)
    store.keep("ram", 8, Path())
    ours = TrainingSet(store, recipe.input_size, recipe.augmentation, seed=0)
    plain = PlainAugmentation(store, recipe.input_size, recipe.augmentation)
    loaders = {
        "as the official one": lambda number: plain_batch(plain, number),
        "ours": lambda number: our_batch(ours, number),
        "ours, made float32 too": lambda number: our_floats(ours, number),
    }
    rows = measure(loaders, config.batches)
    print(HEADER)
    for row in rows:
        print(row)
    ratios = [row.images_per_second / rows[0].images_per_second for row in rows]
    print(f"\nours: {ratios[1]:.2f}x, with the conversion to float32 {ratios[2]:.2f}x")
    print(json_text({"model": config.model, "ratios": ratios, "rows": [asdict(row) for row in rows]}))


def main(arguments: list[str] | None = None) -> int:
    return run("python -m benchmarks.train_loader", TrainLoaderConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

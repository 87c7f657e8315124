"""Pictures of a data set: samples as the network sees them, the boxes of each class, how large they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from yolox_deploy.figures import new_figure, save_figure
from yolox_deploy.files import replacing
from yolox_deploy.model.variants import STRIDES
from yolox_deploy.training.pictures import MOST, batch_picture

from .augment import Sample, to_input
from .dataset import Dataset, training_labels
from .images import read_image

MOST_BARS = 40  # classes
COLOURS = ("#4477aa", "#ee7733", "#228833", "#aa3377", "#bbbbbb")


def write_samples(dataset: Dataset, size: tuple[int, int], path: Path) -> None:
    """Up to 12 images, evenly chosen from those with boxes, fitted into an input of `size`, with their boxes."""
    labelled = [image for image in dataset.images if len(training_labels(image))] or dataset.images
    count = min(len(labelled), MOST)
    chosen = [labelled[number * len(labelled) // count] for number in range(count)]
    samples = [to_input(Sample(read_image(image.path), training_labels(image)), size) for image in chosen]
    labels = [_centre_form(sample.labels) for sample in samples]
    picture = batch_picture(np.stack([sample.image for sample in samples]), labels, dataset.class_names)
    with replacing(path) as part:
        cv2.imwrite(str(part), picture, [cv2.IMWRITE_JPEG_QUALITY, 88])


def _centre_form(labels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(n, 5): class index, centre x, y, width, height."""
    sides = labels[:, 2:4] - labels[:, :2]
    return np.concatenate([labels[:, 4:], labels[:, :2] + sides / 2, sides], axis=1)


def plot_classes(counts: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """Boxes of each class in every split, the most frequent on top. counts: of each split, of each class."""
    totals = Counter[str]()
    for own in counts.values():
        totals.update(own)
    most = [name for name, _ in totals.most_common()]
    shown = most if len(most) <= MOST_BARS else [*most[: MOST_BARS // 2], *most[-MOST_BARS // 2 :]]
    figure = new_figure(8, 1.2 + 0.2 * len(shown) * max(len(counts), 2) / 2)
    axes, thick = figure.subplots(), 0.8 / len(counts)
    for number, (split, own) in enumerate(counts.items()):
        places = np.arange(len(shown)) + (number - (len(counts) - 1) / 2) * thick
        colour = COLOURS[number % len(COLOURS)]
        axes.barh(places, [own.get(name, 0) for name in shown], thick, label=split, color=colour)
    axes.set_yticks(range(len(shown)), shown)
    axes.set_xscale("symlog", linthresh=10)  # classes differ a thousandfold
    part = f", the {MOST_BARS // 2} most and least frequent of {len(most)}" if len(shown) < len(most) else ""
    axes.set(xlabel="boxes", title=f"classes{part}", ylim=(len(shown) - 0.5, -0.5))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
    save_figure(figure, path)


def plot_box_sizes(sizes: Mapping[str, Sequence[float]], side: int, path: Path) -> None:
    """How many boxes are how large, in each split. sizes: roots of areas in pixels of the input; side: its longer."""
    figure = new_figure(8, 4)
    axes, edges = figure.subplots(), np.geomspace(1, side, 41)
    for number, (split, roots) in enumerate(sizes.items()):
        values = np.clip(roots, edges[0], edges[-1])
        weights = np.full(len(values), 100 / max(len(values), 1))
        axes.hist(
            values, edges, weights=weights, histtype="step", linewidth=1.8, label=split, color=COLOURS[number % 5]
        )
    axes.set_xscale("log")
    for stride in STRIDES:
        axes.axvline(stride, color="0.5", linestyle=":", linewidth=1)
        axes.annotate(f"stride {stride}", (stride, 0.98), xycoords=("data", "axes fraction"), rotation=90, va="top")
    axes.set_xticks([2**power for power in range(side.bit_length())])
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.minorticks_off()
    axes.set(xlabel="root of a box's area, px of the network input", ylabel="% of the split's boxes", xlim=(1, side))
    axes.set_title("sizes of boxes")
    axes.grid(color="0.9")
    axes.legend(frameon=False)
    save_figure(figure, path)

"""Curves of a training, as PNG. Needs matplotlib, and no display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yolox_deploy.drawing import class_colour
from yolox_deploy.figures import new_figure, save_figure

from .confusion import Matrix
from .history import EpochRecord

MOST_CLASSES = 12  # with a curve each
MOST_NUMBERS = 20  # classes whose cells have room for a number
LIGHT = {"color": "0.9", "linewidth": 0.8}


def plot_curves(history: Sequence[EpochRecord], best_epoch: int, tail_epoch: int, path: Path) -> None:
    """Loss parts, AP and learning rate over epochs. tail_epoch: the first without augmentation."""
    figure = new_figure(12, 4)
    losses, accuracy, rate = figure.subplots(1, 3)
    epochs = [record.epoch for record in history]
    for name in history[0].losses:
        losses.plot(epochs, [record.losses[name] for record in history], label=name)
    measured = [record for record in history if record.figures]
    for name in ("AP", "AP50", "AP75"):
        values = [100 * record.figures[name] for record in measured if record.figures]
        accuracy.plot([record.epoch for record in measured], values, marker=".", label=name)
    best = next((record.figures["AP"] for record in measured if record.figures and record.epoch == best_epoch), None)
    if best is not None:
        best *= 100
        accuracy.plot([best_epoch], [best], "o", color="0.2", fillstyle="none", markersize=10)
        accuracy.annotate(f"{best:.1f}", (best_epoch, best), xytext=(0, -18), textcoords="offset points", ha="center")
    accuracy.set_ylim(0, 100)
    rate.plot(epochs, [record.learning_rate for record in history], label="learning rate")
    for axes, title in ((losses, "loss"), (accuracy, "AP on validation data, points"), (rate, "learning rate")):
        if epochs[0] < tail_epoch <= epochs[-1]:
            axes.axvline(tail_epoch, color="0.6", linestyle=":", label="no augmentation")
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.grid(**LIGHT)
        axes.legend(frameon=False)
    save_figure(figure, path)


def plot_precision_recall(precision: npt.NDArray[np.float64], names: Sequence[str], path: Path) -> None:
    """precision: (101, C), of IoU 0.5 at recall 0.00 to 1.00, -1 where a class has no objects."""
    figure = new_figure(6.5, 5)
    axes, recall = figure.subplots(), np.linspace(0, 1, 101)
    present = [index for index in range(len(names)) if precision[0, index] >= 0]
    means = {index: float(precision[:, index].mean()) for index in present}
    shown = sorted(present, key=lambda index: -means[index])
    if len(shown) > MOST_CLASSES:
        shown = shown[:3] + shown[-3:]
    for index in shown:
        label = f"{names[index]}: AP50 {100 * means[index]:.1f}"
        axes.plot(recall, precision[:, index], color=_colour(index), linewidth=1, label=label)
    if present:
        mean = precision[:, present].mean(axis=1)
        axes.plot(recall, mean, color="0.1", linewidth=2.5, label=f"mean: AP50 {100 * mean.mean():.1f}")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title="precision and recall, IoU 0.5")
    axes.grid(**LIGHT)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def plot_confusion(matrix: Matrix, names: Sequence[str], path: Path) -> None:
    """Each row as shares of the true class."""
    labels = [*names, "background"]
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = min(3 + 0.45 * len(labels), 20)
    figure = new_figure(side + 1, side)
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="detected", ylabel="true", title="confusion, score 0.25, IoU 0.45")
    if len(names) <= MOST_NUMBERS:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            ink = "white" if shares[row, column] > 0.5 else "0.2"
            text = f"{shares[row, column]:.2f}"
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
    figure.colorbar(picture, fraction=0.046)
    save_figure(figure, path)


def _colour(index: int) -> tuple[float, float, float]:
    blue, green, red = class_colour(index)
    return red / 255, green / 255, blue / 255

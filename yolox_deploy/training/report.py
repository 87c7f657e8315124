"""What is left of a training to look at: figures, curves and pictures."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from exporters.torch_runtime import TorchRuntime
from runtimes.detector import Detector
from runtimes.json_file import json_text
from runtimes.preprocess import Image
from yolox_deploy.categories import common_classes, match_categories
from yolox_deploy.console import is_installed
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.evaluate import detect_all
from yolox_deploy.evaluator import coco_evaluation, points
from yolox_deploy.files import replacing, write_text

from .confusion import confusion_matrix
from .history import EpochRecord
from .pictures import predictions_picture
from .plots import plot_confusion, plot_curves, plot_precision_recall


@dataclass(frozen=True)
class Results:
    """`results.json`: the best weights of a training, measured once more at its end. AP as fractions; seconds of the
    training alone, without evaluation."""

    variant: str
    class_names: tuple[str, ...]
    best_epoch: int
    epochs: int
    figures: dict[str, float]
    ap_by_class: dict[str, float]
    seconds: float
    device: str
    options: dict[str, Any]
    versions: dict[str, str]

    def __str__(self) -> str:
        best = f"AP {points(self.figures['AP'])}, AP50 {points(self.figures['AP50'])}"
        return f"{self.variant}: {best} (epoch {self.best_epoch} of {self.epochs}), {self.seconds / 60:.1f} minutes"

    def to_json(self) -> str:
        return json_text(asdict(self), indent=2, default=str) + "\n"


def write_report(
    folder: Path,
    detector: Detector,
    dataset: Dataset,
    history: Sequence[EpochRecord],
    best_epoch: int,
    tail_epoch: int,
    options: dict[str, Any],
) -> Results:
    """Detect in the whole data set with the best weights, and write everything to look at into the folder.

    tail_epoch: the first without augmentation. options: of the training, for the record.
    """
    categories = match_categories(detector.spec, dataset)
    found = detect_all(detector, dataset, 8)
    evaluation = coco_evaluation(dataset, found, categories)
    results = Results(
        variant=detector.spec.name,
        class_names=dataset.class_names,
        best_epoch=best_epoch,
        epochs=len(history),
        figures=asdict(evaluation.figures),
        ap_by_class={one.name: one.AP for one in evaluation.classes if one.objects},
        seconds=sum(record.seconds for record in history),
        device=str(detector.runtime.device) if isinstance(detector.runtime, TorchRuntime) else "",
        options=options,
        versions={"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    )
    write_text(folder / "results.json", results.to_json())
    write_picture(folder / "predictions.jpg", predictions_picture(dataset, found, detector.spec.class_names))
    if is_installed("matplotlib"):
        plot_curves(history, best_epoch, tail_epoch, folder / "curves.png")
        names = [one.name for one in evaluation.classes]
        plot_precision_recall(evaluation.precision[0], names, folder / "precision_recall.png")
        common, counted = common_classes(dataset, found, categories)
        matrix = confusion_matrix(common.images, counted, range(len(names)), len(names))
        plot_confusion(matrix, names, folder / "confusion.png")
    else:
        print("curves are left out: pip install matplotlib")
    return results


def write_picture(path: Path, picture: Image) -> None:
    content = cv2.imencode(path.suffix, picture, [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    with replacing(path) as part:
        part.write_bytes(content.tobytes())  # which says when the disk is full; cv2.imwrite does not

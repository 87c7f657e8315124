"""python -m yolox_deploy.evaluate: COCO's twelve figures of an artifact or a checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from tqdm import tqdm

from runtimes.detections import Detections
from runtimes.detector import Detector
from runtimes.errors import InvalidInput
from runtimes.spec import ModelSpec

from .console import require, run
from .data.dataset import Dataset
from .data.open import open_dataset
from .evaluator import CocoFigures, coco_evaluation
from .options import ForeignOptions, InputSize, Json, check_positive, check_thresholds, open_artifact

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")


@dataclass(frozen=True)
class EvaluateConfig:
    """COCO's twelve AP and AR figures of an artifact or a checkpoint."""

    model: Annotated[Path, tyro.conf.Positional]
    """Artifact (its folder, or the model file in it) or checkpoint (.pth)."""
    data: Path
    """Data set: a COCO or Pascal VOC folder, or a folder or YAML in YOLO's layout."""
    split: str | None = None
    """Split of the data to measure on; unset, the only one, val or test."""
    score_threshold: float = 0.001
    """Detections below it are not counted."""
    nms_threshold: float | None = None
    """IoU over which two boxes of a class are one; unset, 0.65."""
    input_size: InputSize = None
    """Height and width of the network input; of checkpoints, and of third-party files that take any size."""
    batch: int = 1
    """Images at a time, where the model takes any number."""
    threads: int | None = None
    """Threads of the backend for one image; unset, the cores there are, shared out between the streams."""
    streams: int | None = None
    """Images (or batches) that are worked on at a time; unset, one for each core, 8 at most. A checkpoint takes one."""
    device: str = "cpu"
    """Where a checkpoint runs: cpu, cuda, mps."""
    json: Json = None
    """File for the figures as JSON, {"AP", "AP50", ...} as fractions; "-" is standard output, which then holds nothing
    else."""
    foreign: Annotated[ForeignOptions, tyro.conf.arg(name="foreign ONNX")] = field(default_factory=ForeignOptions)


def evaluate(detector: Detector, dataset: Dataset, batch: int = 1) -> CocoFigures:
    """Detect in every image of the data set and measure against its annotations. Shows a progress bar.

    Raises `InvalidInput` where the classes of model and data set do not fit.
    """
    categories = match_categories(detector.spec, dataset)
    return coco_evaluation(dataset, detect_all(detector, dataset, batch), categories).figures


def detect_all(detector: Detector, dataset: Dataset, batch: int = 1) -> list[Detections]:
    """The detections in every image of the data set, in its order, not clipped to it. Shows a progress bar.

    AP is measured on boxes as the network gives them, as the official evaluation does.
    """
    detector = Detector(detector.runtime, detector.score_threshold, _own_nms(detector), detector.streams, clip=False)
    images = tqdm(dataset.read_images(), unit="image", desc=f"detecting ({detector.spec.name})")
    return list(detector.detect_stream(images, batch))


def _own_nms(detector: Detector) -> float | None:
    """The NMS threshold that a detector was given; that of NMS in the graph cannot be."""
    return None if detector.spec.nms else detector.nms_threshold


def match_categories(spec: ModelSpec, dataset: Dataset) -> tuple[int, ...]:
    """The data set's category id of each of the model's classes, by name: orders and ids may differ.

    A model whose classes have no names ("class 0", ...) is matched by order, ascending in category id.
    """
    ids = {name: number for number, name in dataset.categories.items()}
    if all(name in ids for name in spec.class_names):
        return tuple(ids[name] for name in spec.class_names)
    unnamed = all(name == f"class {index}" for index, name in enumerate(spec.class_names))
    if unnamed and len(ids) == spec.num_classes:
        return tuple(dataset.categories)
    unknown = next(name for name in spec.class_names if name not in ids)
    raise InvalidInput(
        f"{spec.name} has {spec.num_classes} classes, one of them {unknown!r}, which is not among the"
        f" {len(ids)} categories of {dataset.source}."
    )


def open_model(config: EvaluateConfig) -> Detector:
    """The detector for an artifact or a checkpoint."""
    if config.model.suffix not in CHECKPOINT_SUFFIXES:
        if config.device != "cpu":
            raise InvalidInput("--device is for checkpoints.")
        return open_artifact(
            config.model,
            config.foreign,
            config.score_threshold,
            config.nms_threshold,
            config.threads,
            config.streams,
            config.input_size,
        )
    if config.streams is not None:
        raise InvalidInput("--streams is for artifacts.")
    require("torch")
    from .model.open import open_checkpoint

    return Detector(
        open_checkpoint(config.model, config.foreign, config.input_size, config.device, config.threads),
        config.score_threshold,
        config.nms_threshold,
    )


def command(config: EvaluateConfig) -> dict[str, Any]:
    require("hotcoco")
    check_thresholds(score_threshold=config.score_threshold, nms_threshold=config.nms_threshold)
    check_positive(batch=config.batch, threads=config.threads, streams=config.streams)
    dataset = open_dataset(config.data, () if config.split is None else (config.split,))
    with open_model(config) as detector:
        for warning in detector.warnings:
            print(f"warning: {warning}", file=sys.stderr, flush=True)
        figures = evaluate(detector, dataset, config.batch)
        warnings = list(detector.warnings)
    print(figures)
    return {**asdict(figures), "warnings": warnings} if warnings else asdict(figures)


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy evaluate", EvaluateConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""python -m yolox_deploy.evaluate: COCO's twelve metrics of an artifact or a checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from runtimes.detections import Detections
from runtimes.detector import Detector
from runtimes.errors import InvalidInput
from runtimes.load import is_checkpoint
from runtimes.preprocess import Image

from .categories import Categories, check_classes, common_classes, match_categories
from .console import require, run, warn
from .data.dataset import Dataset
from .data.open import open_evaluable
from .evaluator import CocoFigures, class_table, coco_evaluation
from .files import check_output_file
from .model_argument import FirstModel, ModelOption, find_model, one_model
from .options import Json, ModelOptions, check_positive, check_thresholds, open_artifact
from .progress import progress_bar
from .results import write_results

NO_AP = 0.001
NO_AP_ADVICE = "AP is about 0: see whether --preprocessing, --class-names and the data are those of the training."

TYPE_NEXT = "yolox-deploy evaluate MODEL --data PATH, with an artifact, a checkpoint or a variant's name"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """COCO's twelve AP and AR metrics of an artifact or a checkpoint.

    Classes are matched by name. Those that model and data have in common are counted, and what is left out is said.
    """

    model: FirstModel = ""
    """Artifact (its folder, or the model file in it), checkpoint, or a variant's name for the official weights."""
    weights: ModelOption = ()
    """The same as MODEL."""
    data: Path
    """Data set in a layout of COCO, Pascal VOC, YOLO, Darknet, labelImg, CVAT, Label Studio or Roboflow: its folder, or
    the file that describes it."""
    split: str | None = None
    """Split of the data to measure on; unset, the only one, val or test."""
    score_threshold: float = 0.001
    """Detections below it are not counted."""
    nms_threshold: float | None = None
    """IoU over which two boxes of a class are one; unset, 0.65."""
    batch: int = 1
    """Images at a time, where the model takes any number."""
    threads: int | None = None
    """Threads of the backend for one image; unset, the cores there are, shared out between the streams."""
    streams: int | None = None
    """Images (or batches) that are worked on at a time; unset, one for each core, 8 at most. A checkpoint takes one."""
    device: str = "cpu"
    """Where a checkpoint runs: cpu, cuda, mps."""
    per_class: bool = False
    """Print a table of each class too; --json always has it."""
    detections: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File for the detections in COCO's results format (JSON), with the data's own image and category ids: pycocotools
    gives the same AP."""
    json: Json = None
    """File for JSON, {"AP", "AP50", ..., "images", "classes": [{"name", "category_id", "images", "objects", "AP",
    "AP50"}], "warnings"}; AP and AR as fractions, 0 to 1, and -1 where there are no such objects, as COCO has it
    (printed: points, 0 to 100, and "-"). "-" is standard output, which then holds nothing else."""
    foreign: Annotated[ModelOptions, tyro.conf.arg(name="third-party files")] = field(default_factory=ModelOptions)


def evaluate(detector: Detector, dataset: Dataset, batch: int = 1) -> CocoFigures:
    """Detect in every image of the data set and measure against its annotations. Shows a progress bar.

    Only the classes that model and data have in common are counted. Raises `InvalidInput` where there is nothing to
    measure; see `match_categories`.
    """
    categories = match_categories(detector.spec, dataset)
    return coco_evaluation(dataset, detect_all(detector, dataset, batch), categories).figures


def detect_all(detector: Detector, dataset: Dataset, batch: int = 1) -> list[Detections]:
    """The detections in every image of the data set, in its order, not clipped to it. Shows a progress bar.

    AP is measured on boxes as the network gives them, as the official evaluation does.
    """
    detector = Detector(detector.runtime, detector.score_threshold, _own_nms(detector), detector.streams, clip=False)
    images = progress_bar(dataset.read_images(), unit="image", desc=f"detecting ({detector.spec.name})")
    return list(detector.detect_stream(images, batch))


def _own_nms(detector: Detector) -> float | None:
    """The NMS threshold that a detector was given; that of NMS in the graph cannot be."""
    return None if detector.spec.nms else detector.nms_threshold


def write_detections(path: Path, dataset: Dataset, found: Sequence[Detections], categories: Categories) -> None:
    """Write detections in COCO's results format, with the image and category ids of the data set.

    Those of classes that the data set does not have are left out. pycocotools' AP of the file is that of `evaluate`,
    for the same categories (its `params.catIds`).
    """
    common, found = common_classes(dataset, found, categories)
    image_ids = [image.image_id for image in common.images]
    write_results(path, zip(found, image_ids, strict=True), common.category_ids, common.class_names)


def open_model(config: EvaluateConfig, model: Path, images: Sequence[Image] = ()) -> Detector:
    """The detector for an artifact or a checkpoint, whose batch norms are checked on some of the images."""
    if not is_checkpoint(model):
        if config.device != "cpu":
            raise InvalidInput("--device is for checkpoints.")
        config.foreign.network.refuse_for(model)
        return open_artifact(
            model,
            config.foreign,
            config.score_threshold,
            config.nms_threshold,
            config.threads,
            config.streams,
        )
    if config.streams is not None:
        raise InvalidInput("--streams is for artifacts.")
    require("torch")
    from .model.open import open_checkpoint

    runtime = open_checkpoint(model, config.foreign, config.foreign.input_size, config.device, config.threads, images)
    detector = Detector(runtime, config.score_threshold, config.nms_threshold)
    detector.warnings = runtime.notes
    return detector


def command(config: EvaluateConfig) -> dict[str, Any]:
    require("hotcoco")
    check_thresholds(score_threshold=config.score_threshold, nms_threshold=config.nms_threshold)
    check_positive(batch=config.batch, threads=config.threads, streams=config.streams)
    if config.detections is not None:
        check_output_file(config.detections, "--detections")
    model = find_model(one_model(config.model, *config.weights, type_next=TYPE_NEXT))
    dataset = open_evaluable(config.data, () if config.split is None else (config.split,))
    with open_model(config, model, dataset.read_images()) as detector:
        for warning in detector.warnings:
            warn(warning)
        warnings = (*detector.warnings, *check_classes(detector.spec, dataset))
        categories = match_categories(detector.spec, dataset)
        found = detect_all(detector, dataset, config.batch)
    evaluation = coco_evaluation(dataset, found, categories)
    if 0 <= evaluation.figures.AP < NO_AP:
        warnings = (*warnings, warn(NO_AP_ADVICE))
    print(f"{evaluation.figures}\nAP and AR in points, 0 to 100, on {len(dataset)} images of {dataset.source}")
    if config.per_class:
        print(class_table(evaluation.classes))
    if config.detections is not None:
        write_detections(config.detections, dataset, found, categories)
        print(f"detections: {config.detections}")
    return {
        **asdict(evaluation.figures),
        "images": len(dataset),
        "classes": [asdict(one) for one in evaluation.classes],
        "warnings": list(warnings),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy evaluate", EvaluateConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""yolox-deploy export: from a checkpoint to artifacts that are proven to detect what it detects."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from exporters.options import ExportOptions, GraphOptions, TensorRTOptions
from runtimes.errors import InvalidInput
from runtimes.foreign import Preprocessing
from runtimes.preprocess import Image
from runtimes.spec import GraphNMS, ModelSpec, Precision

from .console import require, run
from .data.images import ImageFiles, find_images
from .data.open import open_dataset
from .data.shapes import shapes_images
from .files import check_output_folder
from .model.download import official_weights
from .model.trained_with import NetworkOptions
from .model.variants import VariantName
from .options import VARIANT, ClassNames, Images, InputSize, Json, check_positive

if TYPE_CHECKING:
    from .jobs import Jobs
    from .model.open import TrainedModel

Target = Literal["onnx", "openvino", "ncnn", "trt", "trt-rtx", "web"]

GENERATED_IMAGES = 8

# Their graphs end before the box decoding; the runtime decodes the few boxes that pass the threshold.
RAW_TARGETS = {"ncnn"}

TENSORRT_TARGETS = {"trt", "trt-rtx"}


@dataclass(frozen=True)
class ExportConfig:
    """Write a model for a runtime, proven to detect what the checkpoint detects.

    The artifact is a folder OUTPUT/<name>-<target>-<precision>/ with the model file, spec.json and parity.json.
    It is written only if the file, loaded afresh, gives the detections of the PyTorch model.
    """

    model: Annotated[VariantName | None, VARIANT] = None
    """Which YOLOX: yolox-nano, -tiny, -s, -m, -l, -x or -darknet53. Without --weights, the official weights are
    downloaded; with it, the file must hold this one."""
    weights: Path | None = None
    """Checkpoint: official .pth, mmdetection 2.x or 3.x."""
    target: tuple[Target, ...] = ("onnx",)
    """What to export to."""
    precision: tuple[Precision, ...] = ("fp32",)
    """Number format. Each target is written in each of them."""
    output: Path = Path("artifacts")
    """Folder to write the artifact's folder into."""
    overwrite: bool = False
    """Replace an artifact of the same name, once the new one is proven."""
    input_size: InputSize = None
    """Of the network input, multiples of 32; unset, the checkpoint's or variant's own (416 or 640 square)."""
    batch: Annotated[int | Literal["dynamic"], tyro.conf.arg(metavar="N|dynamic")] = 1
    """Images at a time: a number, or dynamic for any."""
    verify_images: Images = None
    """Prove parity on the images in this folder; unset, on generated ones."""
    calibration: Images = None
    """int8: folder of images like those that the model will see; at most 128 are used. Unset, generated ones."""
    data: Path | None = None
    """Measure the AP of every artifact, and of the checkpoint, on this data set: COCO, Pascal VOC or YOLO's layout."""
    split: str | None = None
    """Split of --data to measure on; unset, the only one, val or test."""
    max_ap_drop: float | None = None
    """With --data: points of AP that may be lost. An int8 artifact that loses more gets more layers in float."""
    name: str | None = None
    """Name of the model in the artifact; unset, the variant's."""
    class_names: ClassNames = None
    """Class names: "coco", or a text file with one name a line; unset, the checkpoint's, or COCO's where it has 80."""
    preprocessing: Preprocessing | None = None
    """How the model was trained: official (BGR, 0..255) or legacy (release 0.0.1: RGB, ImageNet mean and std); unset,
    what the checkpoint says, else official."""
    num_classes: int | None = None
    """Refuse weights with another number of classes."""
    seeded: bool = False
    """Untrained weights from a fixed seed, to try the tool chain (yolox-nano, if no --model)."""
    dry_run: bool = False
    """Check everything that can be known, say what would be written, and write nothing."""
    json: Json = None
    """File for JSON, {"artifacts": [{"target", "precision", "folder", "passed", "error", "bytes", "seconds", "parity",
    ...}], "warnings"}; "-" is standard output, which then holds nothing else."""
    network: Annotated[NetworkOptions, tyro.conf.arg(name="checkpoint")] = field(default_factory=NetworkOptions)
    graph: GraphOptions = field(default_factory=GraphOptions)
    tensorrt: Annotated[TensorRTOptions, tyro.conf.arg(name="TensorRT")] = field(default_factory=TensorRTOptions)


def open_trained(config: ExportConfig) -> TrainedModel:
    """The model to export: seeded, from a file, or downloaded."""
    from .model.checkpoint import read_checkpoint
    from .model.open import describe
    from .model.seeded import seeded_model

    checkpoint = None
    if config.seeded:
        if config.weights is not None:
            raise InvalidInput("--seeded and --weights exclude each other.")
        if config.network.given:
            raise InvalidInput(
                "--activation and --batch-norm-eps are for checkpoints: leave out one of them or --seeded."
            )
        model = seeded_model(config.model or "yolox-nano", config.num_classes or 80)
    else:
        checkpoint = read_checkpoint(config.weights or download(config.model, config.dry_run))
        checkpoint.require(config.model, config.num_classes)
        if config.weights is None:  # of the official weights, all is known
            checkpoint = replace(checkpoint, trained_with=checkpoint.full)
        checkpoint = checkpoint.with_options(config.network.with_input(config.preprocessing))
        model = checkpoint.build()
    name = config.name or (f"{model.variant}-seeded" if config.seeded else model.variant)
    return describe(model, checkpoint, name, config.input_size, config.class_names, config.preprocessing)


def download(variant: VariantName | None, dry_run: bool) -> Path:
    if variant is None:
        raise InvalidInput("say what to export: --model NAME for official weights, --weights FILE for your own.")
    return official_weights(variant, dry_run)


def artifact_spec(reference: ModelSpec, config: ExportConfig, target: Target, precision: Precision) -> ModelSpec:
    """What the artifact will promise."""
    graph, raw = config.graph, target in RAW_TARGETS
    return replace(
        reference,
        batch=None if config.batch == "dynamic" else config.batch,
        precision=precision,
        decoded=graph.decode and not raw,
        uint8_input=graph.uint8_input and not raw,
        nms=GraphNMS(graph.nms_score_threshold, graph.nms_threshold) if graph.nms else None,
        topk=graph.topk,
    )


def verification_images(folder: Path | None) -> Sequence[Image]:
    return shapes_images(GENERATED_IMAGES) if folder is None else ImageFiles(find_images(folder))


def check(config: ExportConfig) -> None:
    """Raise for what can be known to be wrong before any work."""
    require("torch", "onnx", "onnxruntime", "onnxscript", "onnxsim")
    check_output_folder(config.output, "--output")
    check_positive(
        num_classes=config.num_classes,
        topk=config.graph.topk,
        batch=None if config.batch == "dynamic" else config.batch,
    )
    if config.input_size is not None and any(side % 32 for side in config.input_size):
        raise InvalidInput(f"--input-size {config.input_size[0]} {config.input_size[1]}: both must be multiples of 32.")
    if not config.target:
        raise InvalidInput("--target names nothing to export to.")
    if not config.precision:
        raise InvalidInput("--precision names nothing to export in.")
    if config.graph.nms and not config.graph.decode:
        raise InvalidInput("--nms works on decoded boxes; leave out --no-decode.")
    if (config.graph.nms or config.graph.topk) and RAW_TARGETS & set(config.target):
        raise InvalidInput("--nms and --topk work on decoded boxes, which ncnn leaves to the runtime: leave ncnn out.")
    if config.max_ap_drop is not None and config.data is None:
        raise InvalidInput("--max-ap-drop needs labelled images: --data DIR.")
    if config.max_ap_drop is not None and not 0 <= config.max_ap_drop <= 100:
        raise InvalidInput(f"--max-ap-drop is in points of AP, 0 to 100, and cannot be {config.max_ap_drop}.")
    if config.split is not None and config.data is None:
        raise InvalidInput("--split is for labelled images: --data PATH.")
    if config.data is not None:
        require("hotcoco")
    if config.calibration is not None and "int8" not in config.precision:
        raise InvalidInput("--calibration is for --precision int8.")
    if config.tensorrt != TensorRTOptions() and not set(config.target) & TENSORRT_TARGETS:
        raise InvalidInput("TensorRT's options are for --target trt and trt-rtx.")
    if config.graph.nms and config.data is not None:
        raise InvalidInput("--data measures AP from score 0.001 on, which --nms drops: leave out one of them.")
    if config.name is not None and Path(config.name).name != config.name:
        raise InvalidInput(f"--name becomes a folder's name; {config.name!r} cannot.")


def plan(config: ExportConfig) -> Jobs:
    """What is to be written, all of it checked. Raises for what can be known to be wrong; writes nothing."""
    check(config)
    from exporters.artifact import artifact_folder
    from exporters.replacement import present
    from exporters.targets import EXPORTERS
    from exporters.torch_runtime import TorchRuntime

    from .accuracy import AccuracyCheck
    from .evaluate import match_categories
    from .int8 import calibration_images
    from .jobs import Jobs

    targets = {target: EXPORTERS[target]() for target in config.target}
    images = verification_images(config.verify_images)
    splits = () if config.split is None else (config.split,)
    dataset = None if config.data is None else open_dataset(config.data, splits)
    calibration = calibration_images(config.calibration) if "int8" in config.precision else ()
    trained = open_trained(config)
    if not config.seeded:  # seeded weights were trained on nothing
        trained = trained.checked(images)
        trained.say()
    if dataset is not None:
        match_categories(trained.spec, dataset)
    specs = [
        (target, artifact_spec(trained.spec, config, target, precision))
        for target in dict.fromkeys(config.target)
        for precision in dict.fromkeys(config.precision)
    ]
    options = ExportOptions(config.graph.opset, calibration, tensorrt=config.tensorrt)
    for target, spec in specs:
        targets[target].check(spec, options)
        folder = artifact_folder(config.output, spec, target, only_look=config.dry_run)
        if present(folder) is not None and not config.overwrite:
            raise InvalidInput(f"{folder} exists already: --overwrite replaces it, --name NAME writes beside it.")
    if "web" in config.target:  # last, since it may be downloaded
        from .web_runtime import web_options

        options = replace(options, web=web_options(config.dry_run))
    reference = TorchRuntime(trained.model, trained.spec)
    accuracy = AccuracyCheck(reference, dataset, config.max_ap_drop) if dataset is not None else None
    return Jobs(trained.model, trained.spec, config.output, images, options, accuracy, tuple(specs), trained.notes)


def command(config: ExportConfig) -> dict[str, Any]:
    jobs = plan(config)
    if config.dry_run:
        print(jobs)
        return {"dry_run": True, "artifacts": jobs.planned(), "warnings": list(jobs.notes)}
    return jobs.write_all()


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy export", ExportConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

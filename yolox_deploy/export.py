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
from runtimes.spec import Precision

from .artifact_spec import RAW_TARGETS, artifact_spec
from .console import require, run
from .data.open import open_evaluable
from .files import check_output_folder
from .model.trained_with import NetworkOptions
from .model.variants import VariantName
from .model_argument import FirstModel, find_checkpoint, variant_and_weights
from .options import VARIANT, ClassNames, Images, InputSize, Json, check_positive
from .verification import VERIFY_COUNT

if TYPE_CHECKING:
    from .jobs import Jobs
    from .model.open import TrainedModel

Target = Literal["onnx", "openvino", "ncnn", "trt", "trt-rtx", "web"]

TYPE_NEXT = "yolox-deploy export MODEL, with a checkpoint or a variant's name (official weights)"
TENSORRT_TARGETS = {"trt", "trt-rtx"}


@dataclass(frozen=True)
class ExportConfig:
    """Write a model for a runtime, proven to detect what the checkpoint detects.

    The artifact is a folder OUTPUT/<name>-<target>-<precision>/ with the model file, spec.json and parity.json.
    It is written only if the file, loaded afresh, gives the detections of the PyTorch model.
    """

    source: Annotated[FirstModel, tyro.conf.arg(metavar="[MODEL]")] = ""
    """What to export: a checkpoint (official, mmdetection's, of `train`), the folder of a training (its best.pth), or a
    variant's name (official weights, downloaded once)."""
    model: Annotated[VariantName | None, VARIANT] = None
    """Which YOLOX: yolox-nano, -tiny, -s, -m, -l, -x or -darknet53; a checkpoint must hold this one."""
    weights: Path | None = None
    """Checkpoint; the same as MODEL."""
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
    """Compare with the checkpoint on these images: a folder, or a data set, of which DATA:SPLIT names a split (unset,
    val). Unset, on those of --data, else of --calibration, else on generated ones."""
    verify_count: int = VERIFY_COUNT
    """At most so many of them, those first on which the checkpoint detects something."""
    calibration: Images = None
    """int8: images like those that the model will see, a folder or a data set (DATA:SPLIT; unset, train); at most 128
    are used. Unset, the training split of --data, else --verify-images, else generated ones."""
    data: Path | None = None
    """Measure the AP of every artifact, and of the checkpoint, on this data set (see `evaluate`)."""
    split: str | None = None
    """Split of --data to measure on; unset, the only one, val or test."""
    max_ap_drop: float | None = None
    """With --data: points of AP (0 to 100) that may be lost. int8 that loses more gets more layers in float."""
    name: str | None = None
    """Name of the model in the artifact; unset, the variant's."""
    class_names: ClassNames = None
    """Class names: "coco", a text file with one name a line, or the names themselves with commas between them; unset,
    the checkpoint's, or COCO's where it has 80."""
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
    ...}], "verification", "calibration", "warnings"}; "-" is standard output, which then holds nothing else."""
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
        checkpoint = read_checkpoint(config.weights or find_checkpoint(str(config.model), config.dry_run))
        checkpoint.require(config.model, config.num_classes)
        if config.weights is None:  # of the official weights, all is known
            checkpoint = replace(checkpoint, trained_with=checkpoint.full)
        checkpoint = checkpoint.with_options(config.network.with_input(config.preprocessing))
        model = checkpoint.build()
    name = config.name or (f"{model.variant}-seeded" if config.seeded else model.variant)
    return describe(model, checkpoint, name, config.input_size, config.class_names, config.preprocessing)


def check(config: ExportConfig) -> None:
    """Raise for what can be known to be wrong before any work."""
    require("torch", "onnx", "onnxruntime", "onnxscript", "onnxsim")
    check_output_folder(config.output, "--output")
    check_positive(
        num_classes=config.num_classes,
        topk=config.graph.topk,
        verify_count=config.verify_count,
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
    type_next = "" if config.seeded else TYPE_NEXT
    variant, weights = variant_and_weights(config.source, config.model, config.weights, config.dry_run, type_next)
    config = replace(config, source="", model=variant, weights=weights)
    from exporters.artifact import artifact_folder
    from exporters.replacement import present
    from exporters.targets import EXPORTERS
    from exporters.torch_runtime import TorchRuntime

    from .accuracy import AccuracyCheck
    from .categories import check_classes
    from .export_images import chosen_to_verify, find_export_images
    from .jobs import Jobs

    targets = {target: EXPORTERS[target]() for target in config.target}
    splits = () if config.split is None else (config.split,)
    dataset = None if config.data is None else open_evaluable(config.data, splits, read_all=config.dry_run)
    given, calibration = find_export_images(config, dataset)
    trained = open_trained(config)
    if not config.seeded:  # seeded weights were trained on nothing
        trained = trained.checked(given.real)
        trained.say()
    warnings = () if dataset is None else check_classes(trained.spec, dataset)
    batch = None if config.batch == "dynamic" else config.batch
    specs = [
        (target, artifact_spec(trained.spec, config.graph, batch, target, precision))
        for target in dict.fromkeys(config.target)
        for precision in dict.fromkeys(config.precision)
    ]
    images = () if calibration is None else calibration.images
    options = ExportOptions(config.graph.opset, images, tensorrt=config.tensorrt)
    for target, spec in specs:
        targets[target].check(spec, options)
        folder = artifact_folder(config.output, spec, target, only_look=config.dry_run)
        if present(folder) is not None and not config.overwrite:
            raise InvalidInput(f"{folder} exists already: --overwrite replaces it, --name NAME writes beside it.")
    if "web" in config.target:  # last, since it may be downloaded
        from .web_runtime import web_options

        options = replace(options, web=web_options(config.dry_run))
    reference = TorchRuntime(trained.model, trained.spec)
    accuracy = AccuracyCheck(reference, dataset, config.max_ap_drop, warnings) if dataset is not None else None
    if not config.dry_run:
        given = chosen_to_verify(config, given, reference)
    return Jobs(
        model=trained.model,
        spec=trained.spec,
        output=config.output,
        verification=given,
        verify_count=config.verify_count,
        calibration=calibration,
        options=options,
        accuracy=accuracy,
        specs=tuple(specs),
        notes=(*trained.notes, *warnings),
    )


def command(config: ExportConfig) -> dict[str, Any]:
    jobs = plan(config)
    if config.dry_run:
        print(jobs)
        return {"dry_run": True, "artifacts": jobs.planned(), **jobs.images_used()}
    return jobs.write_all()


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy export", ExportConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""python -m yolox_deploy.export: from a checkpoint to artifacts that are proven to detect what it detects."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tqdm import tqdm

from runtimes.errors import InvalidInput
from runtimes.foreign import Preprocessing
from runtimes.preprocess import Image
from runtimes.spec import GraphNMS, ModelSpec

from .console import require, run
from .data.images import ImageFiles, find_images
from .data.shapes import shapes_images
from .files import check_output_folder
from .model.download import official_weights
from .model.variants import VariantName
from .options import check_positive

if TYPE_CHECKING:
    from .model.open import TrainedModel

Target = Literal["onnx"]
Precision = Literal["fp32"]

GENERATED_IMAGES = 8


@dataclass(frozen=True)
class ExportConfig:
    """Write a model for a runtime, proven to detect what the checkpoint detects.

    The artifact is a folder OUTPUT/<name>-<target>-<precision>/ with the model file, spec.json and parity.json.
    It is written only if the file, loaded afresh, gives the detections of the PyTorch model.
    """

    model: VariantName | None = None
    """Which YOLOX. Without --weights, the official weights are downloaded; with it, the file must hold this one."""
    weights: Path | None = None
    """Checkpoint: official .pth, mmdetection 2.x or 3.x."""
    target: tuple[Target, ...] = ("onnx",)
    """What to export to."""
    precision: Precision = "fp32"
    """Number format of the weights and the computation."""
    input_size: tuple[int, int] | None = None
    """Height and width of the network input, multiples of 32; unset, the variant's own (416 or 640 square)."""
    batch: int | Literal["dynamic"] = 1
    """Images at a time: a number, or dynamic for any."""
    output: Path = Path("artifacts")
    """Folder to write the artifact's folder into."""
    overwrite: bool = False
    """Replace an artifact of the same name, once the new one is proven."""
    name: str | None = None
    """Name of the model in the artifact; unset, the variant's."""
    decode: bool = True
    """Decode boxes in the graph. Without it, the output is that of the official exporter's default."""
    uint8_input: bool = False
    """Take images as (N, H, W, 3) uint8, and convert them in the graph."""
    nms: bool = False
    """Non-maximum suppression in the graph: the output becomes (M, 7) rows of image, box, confidence, class."""
    nms_score_threshold: float = 0.25
    """With --nms: detections below it are dropped."""
    nms_threshold: float = 0.65
    """With --nms: IoU over which two boxes of a class are one."""
    opset: Literal[17, 18, 19, 20, 21, 22] = 17
    """ONNX operator set."""
    num_classes: int | None = None
    """Refuse weights with another number of classes."""
    class_names: str | None = None
    """Class names: "coco", or a text file with one name a line; unset, the checkpoint's, or COCO's where it has 80."""
    preprocessing: Preprocessing = "official"
    """How the model was trained: official (BGR, 0..255) or legacy (release 0.0.1: RGB, ImageNet mean and std)."""
    verify_images: Path | None = None
    """Prove parity on the images in this folder; unset, on generated ones."""
    seeded: bool = False
    """Untrained weights from a fixed seed, to try the tool chain without a checkpoint (yolox-nano, if no --model)."""


def open_trained(config: ExportConfig) -> TrainedModel:
    """The model to export: seeded, from a file, or downloaded."""
    from .model.checkpoint import read_checkpoint
    from .model.open import describe
    from .model.seeded import seeded_model

    checkpoint = None
    if config.seeded:
        if config.weights is not None:
            raise InvalidInput("--seeded and --weights exclude each other.")
        model = seeded_model(config.model or "yolox-nano", config.num_classes or 80)
    else:
        checkpoint = read_checkpoint(config.weights or download(config.model))
        checkpoint.require(config.model, config.num_classes)
        model = checkpoint.build()
    name = config.name or (f"{model.variant}-seeded" if config.seeded else model.variant)
    return describe(model, checkpoint, name, config.input_size, config.class_names, config.preprocessing)


def download(variant: VariantName | None) -> Path:
    if variant is None:
        raise InvalidInput("say what to export: --model NAME for official weights, --weights FILE for your own.")
    return official_weights(variant)


def artifact_spec(reference: ModelSpec, config: ExportConfig) -> ModelSpec:
    """What the artifact will promise."""
    return replace(
        reference,
        batch=None if config.batch == "dynamic" else config.batch,
        precision=config.precision,
        decoded=config.decode,
        uint8_input=config.uint8_input,
        nms=GraphNMS(config.nms_score_threshold, config.nms_threshold) if config.nms else None,
    )


def verification_images(folder: Path | None) -> Sequence[Image]:
    return shapes_images(GENERATED_IMAGES) if folder is None else ImageFiles(find_images(folder))


def command(config: ExportConfig) -> None:
    require("torch", "onnx", "onnxruntime", "onnxscript", "onnxsim")
    from exporters.artifact import artifact_folder, write_artifact
    from exporters.options import ExportOptions

    check_output_folder(config.output, "--output")
    check_positive(num_classes=config.num_classes, batch=None if config.batch == "dynamic" else config.batch)
    if not config.target:
        raise InvalidInput("--target names nothing to export to.")
    if config.nms and not config.decode:
        raise InvalidInput("--nms works on decoded boxes; leave out --no-decode.")
    if config.name is not None and Path(config.name).name != config.name:
        raise InvalidInput(f"--name becomes a folder's name; {config.name!r} cannot.")
    images = verification_images(config.verify_images)
    trained = open_trained(config)
    spec = artifact_spec(trained.spec, config)
    for target in config.target:
        folder = artifact_folder(config.output, spec, target)
        if folder.exists() and not config.overwrite:
            raise InvalidInput(f"{folder} exists already: --overwrite replaces it, --name NAME writes beside it.")
    for target in config.target:
        height, width = spec.input_size
        print(f"{spec.name} -> {target} {spec.precision}, {height}x{width}, batch {config.batch}", flush=True)
        artifact = write_artifact(
            trained.model, spec, target, config.output, images, ExportOptions(config.opset), progress=comparing
        )
        print(f"{artifact.report}\n{artifact.model}")
        if artifact.report.detections == 0:
            print(
                "note: nothing was detected, so only tensors were compared;"
                " --verify-images DIR with images of your own objects proves more."
            )


def comparing(images: Sequence[Image]) -> Iterable[Image]:
    bar: Iterable[Image] = tqdm(images, unit="image", desc="comparing")
    return bar


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy export", ExportConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

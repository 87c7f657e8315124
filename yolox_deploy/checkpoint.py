"""yolox-deploy checkpoint: what a checkpoint holds, and conversion between formats."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from runtimes.errors import InvalidInput
from runtimes.foreign import Preprocessing
from runtimes.preprocess import Image
from runtimes.spec import is_name

from .console import require, run, warn
from .data.image_source import find_image_source
from .data.images import ImageFiles
from .files import check_output_file
from .model.trained_with import PREPROCESSING_WORDS, WORDS, NetworkOptions
from .model_argument import FirstModel, ModelOption, find_checkpoint, one_model
from .options import Images, Json, default_class_names

if TYPE_CHECKING:
    from .model.checkpoint import Checkpoint


TYPE_NEXT = "yolox-deploy checkpoint FILE, with a checkpoint or a variant's name"


@dataclass(frozen=True)
class CheckpointConfig:
    """Say what a checkpoint holds; convert it to the official format, mmdetection's or safetensors."""

    file: FirstModel = ""
    """Checkpoint: official .pth, mmdetection 2.x or 3.x, .safetensors; or a variant's name for the official weights."""
    weights: ModelOption = ()
    """The same as FILE."""
    convert: Literal["official", "mmdet", "safetensors"] | None = None
    """Convert to this format: the first two without loss, safetensors with the weights in float16."""
    output: Path | None = None
    """File to write the conversion to."""
    overwrite: bool = False
    """Replace OUTPUT, if it is there."""
    images: Images = None
    """Folder of images of what the model detects: see on some of them whether its batch norms fit activation, eps and
    preprocessing, and what would. Cannot see BGR taken for RGB, nor small differences."""
    preprocessing: Preprocessing | None = None
    """How the model was trained: official (BGR, 0..255) or legacy (release 0.0.1: RGB, ImageNet mean and std); unset,
    what the file says, else official. With --convert, noted in OUTPUT."""
    network: Annotated[NetworkOptions, tyro.conf.arg(name="checkpoint")] = field(default_factory=NetworkOptions)
    json: Json = None
    """File for what it holds as JSON, {"variant", "num_classes", "class_names", "activation", "batch_norm_eps",
    "preprocessing", "assumed", "warnings", "parameters", "gflops", "norm_check", ...}; "-" is standard output, which
    then holds nothing else."""


def facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint holds, and what that takes to compute. input_size: (height, width) of the work in GFLOPs."""
    import torch

    from .model.flops import count_gflops, count_parameters
    from .model.variants import VARIANTS
    from .model.yolox import YOLOX

    side = VARIANTS[checkpoint.variant].input_size
    height, width = checkpoint.input_size or (side, side)
    full = checkpoint.full
    with torch.device("meta"):
        model = YOLOX(checkpoint.variant, checkpoint.num_classes, full.activation)
    return {
        "variant": checkpoint.variant,
        "num_classes": checkpoint.num_classes,
        "class_names": checkpoint.class_names or default_class_names(checkpoint.num_classes)[0],
        "names_in_file": bool(checkpoint.class_names),
        "format": checkpoint.source,
        "weights": checkpoint.weights,
        "activation": full.activation,
        "batch_norm_eps": full.batch_norm_eps,
        "preprocessing": full.preprocessing,
        "assumed": [name for name in full.given if name not in checkpoint.trained_with.given],
        "warnings": list(checkpoint.notes),
        "finite": checkpoint.first_not_finite() is None,
        "parameters": count_parameters(model),
        "gflops": count_gflops(model, height, width),
        "input_size": (height, width),
        "sha256": checkpoint.sha256,
    }


def describe(found: dict[str, Any]) -> str:
    """The facts, a line each."""
    names = found["class_names"]
    origin = "" if found["names_in_file"] else " (not in the file; COCO's where there are 80)"
    plain = [name if is_name(name) else ascii(name) for name in names]  # some would steer the terminal
    shown = ", ".join(plain[:5]) + (", ..." if len(plain) > 5 else "")
    assumed = {name: " (assumed: the file does not say)" if name in found["assumed"] else "" for name in found}
    lines = {
        "variant": found["variant"],
        "classes": f"{found['num_classes']}: {shown}{origin}",
        "format": found["format"],
        "weights": found["weights"] + ("" if found["finite"] else "; some are NaN or infinite"),
        "parameters": f"{found['parameters']:,}",
        "GFLOPs": "{:.2f} at {}x{}".format(found["gflops"], *found["input_size"]),
        "activation": WORDS[found["activation"]] + assumed["activation"],
        "batch-norm eps": f"{found['batch_norm_eps']:g}" + assumed["batch_norm_eps"],
        "preprocessing": PREPROCESSING_WORDS[found["preprocessing"]] + assumed["preprocessing"],
        "sha256": found["sha256"],
    }
    rows = [(f"{name:<15} ", str(value)) for name, value in lines.items()]
    return "\n".join(textwrap.fill(text, 80, initial_indent=name, subsequent_indent=" " * 16) for name, text in rows)


def command(config: CheckpointConfig) -> dict[str, Any]:
    require("torch")
    from .model.checkpoint import read_checkpoint, save_checkpoint

    file = one_model(config.file, *config.weights, type_next=TYPE_NEXT)
    if (config.convert is None) != (config.output is None):
        formats = "official|mmdet|safetensors"
        raise InvalidInput(f"--convert and --output go together: --convert {formats} --output FILE.")
    if config.convert == "safetensors" and config.output is not None and config.output.suffix.lower() != ".safetensors":
        raise InvalidInput(f"{config.output} must end in .safetensors, which is how it is known when it is read.")
    if config.output is not None:
        check_output_file(config.output, "--output")
        if config.output.exists() and not config.overwrite:
            raise InvalidInput(f"{config.output} exists already: --overwrite replaces it, or choose another --output.")
    images = None if config.images is None else ImageFiles(find_image_source(config.images).paths)
    options = config.network.with_input(config.preprocessing)
    checkpoint = read_checkpoint(find_checkpoint(file)).with_options(options)
    found = facts(checkpoint)
    print(describe(found))
    for note in checkpoint.notes:
        warn(note)
    norms = None if images is None else check_images(checkpoint, images)
    if config.convert is not None and config.output is not None:
        save_checkpoint(checkpoint, config.output, config.convert)
        print(f"wrote {config.output} in the {config.convert} format")
    return {**found, "converted": config.output, "norm_check": norms}


def check_images(checkpoint: Checkpoint, images: Sequence[Image]) -> dict[str, Any]:
    """See whether the batch norms fit what comes in, and print how well each network and input does."""
    from .model.norm_check import check_norms
    from .model.open import describe as trained

    found = trained(checkpoint.build(), checkpoint)
    check = check_norms(found.model, found.spec, images, thorough=True)
    print(check.table())
    if not check:
        warn(f"{checkpoint.path}: {check}.")
    return check.to_json()


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy checkpoint", CheckpointConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

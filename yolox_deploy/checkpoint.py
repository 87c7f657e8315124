"""yolox-deploy checkpoint: what a checkpoint holds, and conversion between formats."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from runtimes.errors import InvalidInput
from runtimes.spec import is_name

from .console import require, run
from .files import check_output_file
from .model_argument import FirstModel, ModelOption, find_checkpoint, one_model
from .options import Json, default_class_names

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
    json: Json = None
    """File for what it holds as JSON, {"variant", "num_classes", "class_names", "parameters", "gflops", ...}; "-" is
    standard output, which then holds nothing else."""


def facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint holds, and what that takes to compute. input_size: (height, width) of the work in GFLOPs."""
    import torch

    from .model.flops import count_gflops, count_parameters
    from .model.variants import VARIANTS
    from .model.yolox import YOLOX

    side = VARIANTS[checkpoint.variant].input_size
    height, width = checkpoint.input_size or (side, side)
    with torch.device("meta"):
        model = YOLOX(checkpoint.variant, checkpoint.num_classes)
    return {
        "variant": checkpoint.variant,
        "num_classes": checkpoint.num_classes,
        "class_names": checkpoint.class_names or default_class_names(checkpoint.num_classes)[0],
        "names_in_file": bool(checkpoint.class_names),
        "format": checkpoint.source,
        "weights": checkpoint.weights,
        "finite": checkpoint.first_not_finite() is None,
        "parameters": count_parameters(model),
        "gflops": count_gflops(model, height, width),
        "input_size": (height, width),
        "sha256": checkpoint.sha256,
    }


def describe(found: dict[str, Any]) -> str:
    """The facts, a line each."""
    from .model.blocks import BATCH_NORM_EPS

    names = found["class_names"]
    origin = "" if found["names_in_file"] else " (not in the file; COCO's where there are 80)"
    plain = [name if is_name(name) else ascii(name) for name in names]  # some would steer the terminal
    shown = ", ".join(plain[:5]) + (", ..." if len(plain) > 5 else "")
    lines = {
        "variant": found["variant"],
        "classes": f"{found['num_classes']}: {shown}{origin}",
        "format": found["format"],
        "weights": found["weights"] + ("" if found["finite"] else "; some are NaN or infinite"),
        "parameters": f"{found['parameters']:,}",
        "GFLOPs": "{:.2f} at {}x{}".format(found["gflops"], *found["input_size"]),
        "normalisation": "none, BGR 0..255 (not in the file; for release 0.0.1, export --preprocessing legacy)",
        "batch-norm eps": f"{BATCH_NORM_EPS} (not in the file; the same for every YOLOX)",
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
    checkpoint = read_checkpoint(find_checkpoint(file))
    found = facts(checkpoint)
    print(describe(found))
    if config.convert is not None and config.output is not None:
        save_checkpoint(checkpoint, config.output, config.convert)
        print(f"wrote {config.output} in the {config.convert} format")
    return {**found, "converted": config.output}


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy checkpoint", CheckpointConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

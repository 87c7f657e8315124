"""python -m yolox_deploy.checkpoint: what a checkpoint holds, and conversion between formats."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from runtimes.errors import InvalidInput

from .console import require, run
from .files import check_output_file
from .options import default_class_names

if TYPE_CHECKING:
    from .model.checkpoint import Checkpoint


@dataclass(frozen=True)
class CheckpointConfig:
    """Say what a checkpoint holds; convert it to the official format, mmdetection's or safetensors."""

    file: Annotated[Path, tyro.conf.Positional]
    """Checkpoint: official .pth, mmdetection 2.x or 3.x, .safetensors."""
    convert: Literal["official", "mmdet", "safetensors"] | None = None
    """Convert to this format: the first two without loss, safetensors with the weights in float16."""
    output: Path | None = None
    """File to write the conversion to."""


def describe(checkpoint: Checkpoint) -> str:
    """What a checkpoint holds, a line a fact."""
    import torch

    from .model.blocks import BATCH_NORM_EPS
    from .model.flops import count_gflops, count_parameters
    from .model.variants import VARIANTS
    from .model.yolox import YOLOX

    side = VARIANTS[checkpoint.variant].input_size
    height, width = checkpoint.input_size or (side, side)
    with torch.device("meta"):
        model = YOLOX(checkpoint.variant, checkpoint.num_classes)
    names = checkpoint.class_names or default_class_names(checkpoint.num_classes)[0]
    origin = "" if checkpoint.class_names else " (not in the file; COCO's where there are 80)"
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    facts = {
        "variant": checkpoint.variant,
        "classes": f"{checkpoint.num_classes}: {shown}{origin}",
        "format": checkpoint.source,
        "weights": checkpoint.weights,
        "parameters": f"{count_parameters(model):,}",
        "GFLOPs": f"{count_gflops(model, height, width):.2f} at {height}x{width}",
        "normalisation": "none, BGR 0..255 (not in the file; for release 0.0.1, export --preprocessing legacy)",
        "batch-norm eps": f"{BATCH_NORM_EPS} (not in the file; the same for every YOLOX)",
        "sha256": checkpoint.sha256,
    }
    return "\n".join(f"{name:<15} {value}" for name, value in facts.items())


def command(config: CheckpointConfig) -> None:
    require("torch")
    from .model.checkpoint import read_checkpoint, save_checkpoint

    if (config.convert is None) != (config.output is None):
        formats = "official|mmdet|safetensors"
        raise InvalidInput(f"--convert and --output go together: --convert {formats} --output FILE.")
    if config.convert == "safetensors" and config.output is not None and config.output.suffix != ".safetensors":
        raise InvalidInput(f"{config.output} must end in .safetensors, which is how it is known when it is read.")
    if config.output is not None:
        check_output_file(config.output, "--output")
        if config.output.exists():
            raise InvalidInput(f"{config.output} exists already; choose another --output.")
    checkpoint = read_checkpoint(config.file)
    print(describe(checkpoint))
    if config.convert is not None and config.output is not None:
        save_checkpoint(checkpoint, config.output, config.convert)
        print(f"wrote {config.output} in the {config.convert} format")


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy checkpoint", CheckpointConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

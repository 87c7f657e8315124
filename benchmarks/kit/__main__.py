"""yolox-deploy kit: every intermediate result of detecting, in files, for runtimes in other languages.

    yolox-deploy kit my_yolox.pth --output kit
    yolox-deploy kit-score kit RESULTS

Written from a checkpoint or an artifact. The kit of one model in two artifacts can be scored against each other: a kit
is its own results.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from exporters.kit.manifest import Kit
from exporters.kit.steps import Settings
from exporters.kit.writing import IMAGES, SEED, write_kit
from runtimes.errors import InvalidInput
from runtimes.json_file import json_text
from yolox_deploy.console import run
from yolox_deploy.data.shapes import shapes_images
from yolox_deploy.files import check_output_folder
from yolox_deploy.model_argument import FirstModel, ModelOption, find_model, one_model
from yolox_deploy.options import Json, ModelOptions, check_thresholds

from ..reference import check_wanted, open_reference

TYPE_NEXT = "yolox-deploy kit MODEL --output FOLDER, with a checkpoint, an artifact or a variant's name"


@dataclass(frozen=True, kw_only=True)
class KitConfig:
    """Write what each step from image to detections leaves, so that a runtime in any language can be checked by it."""

    model: FirstModel = ""
    """Checkpoint, artifact without NMS or TopK in its graph, or a variant's name for the official weights."""
    weights: ModelOption = ()
    """The same as MODEL."""
    output: Path
    """Folder to write; it must be empty or not exist."""
    score_threshold: float = 0.01
    """Candidates below it are dropped."""
    nms_threshold: float = 0.65
    """IoU over which two boxes of a class are one."""
    json: Json = None
    """File for the summary as JSON, {"kit", "model", "steps", "rows"}; "-" is standard output, which then holds nothing
    else."""
    foreign: Annotated[ModelOptions, tyro.conf.arg(name="third-party files")] = field(default_factory=ModelOptions)


def check(config: KitConfig) -> None:
    """Raise for what can be known to be wrong before any work."""
    check_thresholds(score_threshold=config.score_threshold, nms_threshold=config.nms_threshold)
    if config.score_threshold == 0:
        raise InvalidInput("--score-threshold must be over 0: with it, every anchor is a candidate.")
    check_output_folder(config.output, "--output")
    if config.output.exists() and any(config.output.iterdir()):
        raise InvalidInput(f"{config.output} is not empty: name a new folder.")


def summary(kit: Kit) -> dict[str, Any]:
    """How many rows each list holds, by case."""
    counts = {
        case: {step: entry["files"][step]["shape"][0] for step in ("candidates", "nms")}
        for case, entry in kit.cases.items()
    }
    return {"kit": str(kit.folder), "model": kit.settings.spec.name, "steps": kit.settings.steps, "rows": counts}


def command(config: KitConfig) -> dict[str, Any]:
    check(config)
    model = find_model(one_model(config.model, *config.weights, type_next=TYPE_NEXT))
    check_wanted(config.foreign, [model])
    runtime = open_reference(model, config.foreign)
    settings = Settings(runtime.spec, config.score_threshold, config.nms_threshold)
    part = config.output.absolute().with_name(f".{config.output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        kit = write_kit(runtime, settings, shapes_images(IMAGES, SEED), part)
        part.replace(config.output)
    finally:
        runtime.close()
        shutil.rmtree(part, ignore_errors=True)
    content = {**summary(kit), "kit": str(config.output)}
    for name, rows in content["rows"].items():
        print(f"{name}: {rows['candidates']} candidates, {rows['nms']} after NMS")
    if not any(rows["nms"] for name, rows in content["rows"].items() if name != "made"):
        print("note: the model finds nothing in the images; a lower --score-threshold would test more.")
    print(json_text(content))
    return content


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy kit", KitConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

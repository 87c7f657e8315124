"""python -m yolox_deploy.data: what is wrong with a data set, and what is in it, before a training."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import tyro

from runtimes.errors import InvalidInput
from yolox_deploy.console import require, run, warn
from yolox_deploy.files import check_new_folder, check_output_folder, write_text
from yolox_deploy.json_output import NotPassed
from yolox_deploy.model.variants import VARIANTS, VariantName
from yolox_deploy.options import VARIANT, InputSize, Json

from .box_checks import box_sizes
from .charts import plot_box_sizes, plot_classes, write_samples
from .division import divide, write_division
from .faults import counted
from .inspection import Inspection, inspect


@dataclass(frozen=True)
class DataConfig:
    """Say what is wrong with a data set, and what is in it, before a training. Reads all labels and images.

    Exits with 1 where training would refuse the data. With --split, writes a data set with train and val.
    """

    data: Annotated[Path, tyro.conf.Positional]
    """Data set: a folder or file in one of the layouts of COCO, Pascal VOC or YOLO; docs/data.md lists them."""
    model: Annotated[VariantName, VARIANT] = "yolox-s"
    """Which YOLOX to train: yolox-nano, -tiny, -s, -m, -l, -x or -darknet53. Boxes are measured in its input."""
    input_size: InputSize = None
    """Height and width of the network input; unset, the model's own."""
    output: Path | None = None
    """Folder for report.json, sample pictures with boxes, and charts of classes and sizes; with --split, the new data
    set."""
    split: Annotated[float | None, tyro.conf.arg(metavar="FRACTION")] = None
    """Divide a data set that has no validation split, and write it to --output in COCO's format: this share of the
    images into train, such as 0.8, the others into val."""
    seed: int = 0
    """Another seed divides it otherwise."""
    json: Json = None
    """File for the report as JSON, {"trainable", "data", "input_size", "splits", with --split also "written"}; "-" is
    standard output, which then holds nothing else."""


def write(inspection: Inspection, folder: Path) -> None:
    """The report and its pictures into a folder."""
    report, usable = inspection.report, inspection.usable
    write_text(folder / "report.json", report.to_json())
    for name, dataset in usable.items():
        write_samples(dataset, report.input_size, folder / f"samples_{name}.jpg")
    if usable:
        classes = {split.name: split.contents.classes for split in report.splits if split.contents is not None}
        plot_classes(classes, folder / "classes.png")
        sizes = {name: box_sizes(dataset, report.input_size).tolist() for name, dataset in usable.items()}
        plot_box_sizes(sizes, max(report.input_size), folder / "box_sizes.png")


def silence_opencv() -> None:
    """What it would print about broken files stands in the report. The function has moved with OpenCV 5."""
    set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
    set_level(0)


def command(config: DataConfig) -> dict[str, Any]:
    size = config.input_size or (VARIANTS[config.model].input_size,) * 2
    if min(size) <= 0 or any(side % 32 for side in size):
        raise InvalidInput(f"--input-size {size[0]} {size[1]}: both must be multiples of 32.")
    if config.split is not None:
        check_division(config)
    elif config.output is not None:
        require("matplotlib")
        check_output_folder(config.output, "--output")
    silence_opencv()
    inspection = inspect(config.data, size)
    report = inspection.report
    print(report)
    if config.output is not None and config.split is None:
        write(inspection, config.output)
    if not report:
        faults = counted(report.refused, "fault")
        raise NotPassed(f"training would refuse this data: {faults} to be mended.", report.to_dict())
    if config.output is None or config.split is None:
        return report.to_dict()
    return {**report.to_dict(), "written": write_new(inspection, config.output, config.split, config.seed)}


def check_division(config: DataConfig) -> None:
    """Raise `InvalidInput`, before any work, for what --split cannot do."""
    if config.split is not None and not 0 < config.split < 1:
        raise InvalidInput(
            f"--split {config.split:g}: the share of the images for train, between 0 and 1, such as 0.8."
        )
    if config.seed < 0:
        raise InvalidInput(f"--seed cannot be negative, as {config.seed} is.")
    if config.output is None:
        raise InvalidInput("--split needs --output, the folder for the new data set.")
    check_new_folder(config.output, "--output")
    source = (config.data if config.data.is_dir() else config.data.parent).resolve()
    if source in (config.output.resolve(), *config.output.resolve().parents):
        raise InvalidInput(
            f"--output {config.output} is in the data set {source}, which is not changed: another place."
        )


def write_new(inspection: Inspection, folder: Path, fraction: float, seed: int) -> dict[str, Any]:
    """Divide what was inspected, write it, and say what was written."""
    division = divide(inspection.usable, inspection.files, fraction, seed)
    for warning in division.warnings:
        warn(warning)
    write_division(division, folder)
    counts = {name: len(dataset) for name, dataset in division.splits.items()}
    written = [f"{name} {counted(count, 'image')}" for name, count in counts.items()]
    print(f"\n{folder}: {', '.join(written)}.")
    return {"output": str(folder), "images": counts, "seed": seed, "warnings": list(division.warnings)}


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy data", DataConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

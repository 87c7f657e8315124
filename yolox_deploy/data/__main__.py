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
from yolox_deploy.console import require, run
from yolox_deploy.files import check_output_folder, write_text
from yolox_deploy.json_output import NotPassed
from yolox_deploy.model.variants import VARIANTS, VariantName
from yolox_deploy.options import VARIANT, InputSize, Json

from .box_checks import box_sizes
from .charts import plot_box_sizes, plot_classes, write_samples
from .inspection import Inspection, inspect


@dataclass(frozen=True)
class DataConfig:
    """Say what is wrong with a data set, and what is in it, before a training. Reads all labels and images.

    Exits with 1 where training would refuse the data.
    """

    data: Annotated[Path, tyro.conf.Positional]
    """Data set: a COCO or Pascal VOC folder, or a folder or YAML in YOLO's layout."""
    model: Annotated[VariantName, VARIANT] = "yolox-s"
    """Which YOLOX to train: yolox-nano, -tiny, -s, -m, -l, -x or -darknet53. Boxes are measured in its input."""
    input_size: InputSize = None
    """Height and width of the network input; unset, the model's own."""
    output: Path | None = None
    """Folder for report.json, sample pictures with boxes, and charts of classes and sizes."""
    json: Json = None
    """File for the report as JSON, {"trainable", "data", "input_size", "splits"}; "-" is standard output, which then
    holds nothing else."""


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
    if config.output is not None:
        require("matplotlib")
        check_output_folder(config.output, "--output")
    silence_opencv()
    inspection = inspect(config.data, size)
    report = inspection.report
    print(report)
    if config.output is not None:
        write(inspection, config.output)
    if not report:
        to_mend = "1 fault is" if report.refused == 1 else f"{report.refused} faults are"
        raise NotPassed(f"training would refuse this data: {to_mend} to be mended.", report.to_dict())
    return report.to_dict()


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy data", DataConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""python -m benchmarks.compare: AP, parity and speed of artifacts against their reference, as table, JSON and a page.

    python -m benchmarks.compare artifacts/* --reference my_yolox.pth --data coco --html comparison.html

Each artifact runs in fresh processes of its own, all in alternating rounds; see `speed`. Prints a table and ends with
one JSON line.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from runtimes.errors import InvalidInput
from runtimes.preprocess import Image
from runtimes.spec import ModelSpec, Precision
from yolox_deploy.console import require, run
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.data.images import ImageFiles, find_images
from yolox_deploy.data.open import open_dataset
from yolox_deploy.data.shapes import shapes_images
from yolox_deploy.doctor import cpu
from yolox_deploy.files import check_output_file, write_text
from yolox_deploy.options import ForeignOptions, check_positive

from ..reference import find_weights
from .contenders import baseline_of, check_names, contenders_of
from .speed import SpeedPlan

CPU_TARGETS = ("onnx", "openvino", "ncnn")
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
TIMED_IMAGES = 16


@dataclass(frozen=True)
class ExportFirst:
    """Export before comparing."""

    export: str | None = None
    """Model to export first: a variant's name (official weights, downloaded once) or a checkpoint."""
    targets: tuple[str, ...] = ("all",)
    """With --export: onnx, openvino, ncnn, or all of them."""
    precisions: tuple[str, ...] = ("all",)
    """With --export: fp32, fp16, int8, or all of them."""
    calibration: Path | None = None
    """With --export and int8: folder of images like those that the model will see."""
    max_ap_drop: float | None = None
    """With --export and --data: points of AP that may be lost; int8 gets more layers in float until it holds."""
    output: Path = Path("artifacts")
    """With --export: folder for the artifacts. Those of this checkpoint that are there are taken as they are."""


@dataclass(frozen=True)
class CompareConfig:
    """AP, parity and speed of artifacts against their reference, as a table, JSON and a page."""

    artifacts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Artifacts: folders or model files; NAME=PATH gives one a name of your own."""
    reference: Path | None = None
    """What they have to equal: the checkpoint, or an artifact. With --export, that checkpoint."""
    data: Path | None = None
    """Labelled images to measure AP on: COCO, Pascal VOC or YOLO's layout."""
    split: str | None = None
    """Split of --data; unset, the only one, val or test."""
    images: Path | None = None
    """Images to prove parity and to time on; unset, those of --data, else generated ones."""
    parity_images: int = 50
    """At most so many of them prove parity."""
    baseline: str | None = None
    """Artifact that speed is relative to, by its name in the table; unset, onnx fp32 if it is there, else the first."""
    threads: int = 1
    """Threads of each backend in the latency figures."""
    bf16: bool = False
    """Run what can compute in bf16 in that as well, as contenders of their own."""
    launches: int = SpeedPlan.launches
    """Fresh processes of each artifact."""
    rounds: int = SpeedPlan.rounds
    """Timed rounds in each launch, in which all take turns."""
    json: Path | None = None
    """Write all figures to this file."""
    html: Path | None = None
    """Write a page to look at to this file; it needs nothing beside it."""
    foreign: Annotated[ForeignOptions, tyro.conf.arg(name="")] = field(default_factory=ForeignOptions)
    first: Annotated[ExportFirst, tyro.conf.arg(name="")] = field(default_factory=ExportFirst)


def check(config: CompareConfig) -> None:
    """Raise for what can be known to be wrong before any work."""
    require("onnx", "onnxruntime", "torch", "psutil")
    check_positive(
        parity_images=config.parity_images, threads=config.threads, launches=config.launches, rounds=config.rounds
    )
    for option, path in (("--json", config.json), ("--html", config.html)):
        if path is not None:
            check_output_file(path, option)
    if config.data is not None:
        require("hotcoco")
    if not config.artifacts and config.first.export is None:
        raise InvalidInput("name artifacts to compare, or --export MODEL to export some first.")
    if config.reference is None and config.first.export is None:
        raise InvalidInput("--reference says what the artifacts have to equal: a checkpoint, or an artifact.")
    if config.split is not None and config.data is None:
        raise InvalidInput("--split is for labelled images: --data PATH.")
    if config.first.export is None and config.first != ExportFirst():
        raise InvalidInput("--targets, --precisions, --calibration, --max-ap-drop and --output are for --export MODEL.")
    if config.first.max_ap_drop is not None and config.data is None:
        raise InvalidInput("--max-ap-drop needs labelled images: --data DIR.")
    if config.first.calibration is not None:
        find_images(config.first.calibration)
    if config.bf16 and "bf16" not in cpu():
        raise InvalidInput("--bf16: this processor computes no bf16.")


def to_export(first: ExportFirst) -> list[tuple[str, Precision]]:
    """Targets and precisions of what is exported first. Raises `InvalidInput` for unknown ones."""
    targets = _all(first.targets, CPU_TARGETS, "--targets")
    precisions = _all(first.precisions, PRECISIONS, "--precisions")
    return [(target, precision) for target in targets for precision in PRECISIONS if precision in precisions]


def export_first(config: CompareConfig, weights: Path) -> list[str]:
    """Export what is not there yet. Returns the artifacts. Raises `InvalidInput` for one of another checkpoint."""
    from yolox_deploy import export
    from yolox_deploy.model.checkpoint import read_checkpoint

    first, checkpoint = config.first, read_checkpoint(weights)
    artifacts = []
    for target, precision in to_export(first):
        folder = first.output / f"{checkpoint.variant}-{target}-{precision}"
        artifacts.append(str(folder))
        if folder.exists():
            if ModelSpec.read(folder / "spec.json").source_sha256 != checkpoint.sha256:
                raise InvalidInput(f"{folder} was made from another checkpoint: --output says where else to write.")
            print(f"{folder} is there already, and is compared as it was exported")
            continue
        export.command(
            export.ExportConfig(
                weights=weights,
                target=(target,),  # type: ignore[arg-type]
                precision=(precision,),
                output=first.output,
                class_names=config.foreign.class_names,
                preprocessing=config.foreign.preprocessing or "official",
                verify_images=config.images,
                calibration=first.calibration if precision == "int8" else None,
                data=config.data if first.max_ap_drop is not None else None,
                split=config.split if first.max_ap_drop is not None else None,
                max_ap_drop=first.max_ap_drop,
            )
        )
    return artifacts


def _all(wanted: Sequence[str], known: Sequence[str], option: str) -> list[str]:
    unknown = next((name for name in wanted if name not in (*known, "all")), None)
    if unknown is not None:
        raise InvalidInput(f"{option} {unknown} is not known; there are {', '.join(known)} and all.")
    return list(known) if "all" in wanted else list(wanted)


def timed_images(config: CompareConfig, dataset: Dataset | None) -> Sequence[Image]:
    """What parity is proven on and times are taken of: real images where there are any."""
    if config.images is not None:
        return ImageFiles(find_images(config.images))
    return shapes_images(TIMED_IMAGES) if dataset is None else dataset.read_images()


def command(config: CompareConfig) -> None:
    check(config)
    start = time.perf_counter()
    splits = () if config.split is None else (config.split,)
    dataset = None if config.data is None else open_dataset(config.data, splits)
    images = timed_images(config, dataset)
    exports = config.first.export
    weights = None if exports is None else find_weights(exports)
    reference = config.reference or weights
    assert reference is not None  # see `check`
    if not reference.exists():
        raise InvalidInput(f"--reference {reference} does not exist.")
    named = contenders_of(config.artifacts, config.threads, config.bf16) if config.artifacts else []
    planned = [] if exports is None else [f"{target} {precision}" for target, precision in to_export(config.first)]
    names = [*(contender.name for contender in named), *planned]
    check_names(names)
    if not config.bf16:  # which makes names of its own
        baseline_of(names, config.baseline)
    arguments = [*config.artifacts, *(() if weights is None else export_first(config, weights))]

    from .gather import gather
    from .page import write_page
    from .task import Task, read_specs

    contenders = contenders_of(arguments, config.threads, config.bf16)
    baseline = baseline_of([contender.name for contender in contenders], config.baseline)
    specs = read_specs(contenders, dataset)
    task = Task(
        contenders=contenders,
        specs=specs,
        baseline=baseline,
        reference=reference,
        foreign=config.foreign,
        dataset=dataset,
        images=images,
        parity_images=config.parity_images,
        threads=config.threads,
        plan=SpeedPlan(config.launches, config.rounds),
    )
    found, worst = gather(task, start)
    print(found.table())
    if config.json is not None:
        write_text(config.json, found.to_json())
    if config.html is not None:
        write_page(config.html, found, worst)
        print(f"page: {config.html}")
    print(found.last_line())


def main(arguments: Sequence[str] | None = None) -> int:
    return run("python -m benchmarks.compare", CompareConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

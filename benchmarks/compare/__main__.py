"""yolox-deploy compare: AP, parity and speed of artifacts against their reference, as table, JSON and a page.

    yolox-deploy compare artifacts/* --reference my_yolox.pth --data coco --html comparison.html

Each artifact runs in fresh processes of its own, all in alternating rounds; see `speed`. Prints a table and ends with
one JSON line.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from runtimes.errors import InvalidInput
from runtimes.preprocess import Image
from yolox_deploy.console import require, run
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.data.images import ImageFiles, find_images
from yolox_deploy.data.open import open_dataset
from yolox_deploy.data.shapes import shapes_images
from yolox_deploy.doctor import cpu
from yolox_deploy.files import check_output_file
from yolox_deploy.options import Images, Json, ModelOptions, check_positive

from ..reference import find_weights, open_reference
from .contenders import baseline_of, check_names, contenders_of
from .export_first import ExportFirst, export_first
from .speed import SpeedPlan

TIMED_IMAGES = 16


@dataclass(frozen=True)
class CompareConfig:
    """AP, parity and speed of artifacts against their reference, as a table, JSON and a page."""

    artifacts: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="ARTIFACT ...")] = ()
    """Artifacts: folders or model files; NAME=PATH gives one a name of your own."""
    reference: Path | None = None
    """What they have to equal: the checkpoint, or an artifact. With --export, that checkpoint."""
    data: Path | None = None
    """Labelled images to measure AP on: COCO, Pascal VOC or YOLO's layout."""
    split: str | None = None
    """Split of --data; unset, the only one, val or test."""
    images: Images = None
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
    html: Path | None = None
    """File for a page to look at; it needs nothing beside it."""
    dry_run: bool = False
    """Check everything that can be known, say what would be done, and write and measure nothing."""
    json: Json = None
    """File for all figures as JSON, {"reference", "baseline", "rows", "warnings", "machine", ...}; "-" is standard
    output, which then holds nothing else."""
    first: Annotated[ExportFirst, tyro.conf.arg(name="export")] = field(default_factory=ExportFirst)
    foreign: Annotated[ModelOptions, tyro.conf.arg(name="foreign ONNX")] = field(default_factory=ModelOptions)


def check(config: CompareConfig) -> None:
    """Raise for what can be known to be wrong before any work."""
    require("onnx", "onnxruntime", "torch", "psutil")
    check_positive(
        parity_images=config.parity_images, threads=config.threads, launches=config.launches, rounds=config.rounds
    )
    if config.html is not None:
        check_output_file(config.html, "--html")
    if config.data is not None:
        require("hotcoco")
    if not config.artifacts and config.first.export is None:
        raise InvalidInput("name artifacts to compare, or --export MODEL to export some first.")
    if config.reference is None and config.first.export is None:
        raise InvalidInput("--reference says what the artifacts have to equal: a checkpoint, or an artifact.")
    if config.split is not None and config.data is None:
        raise InvalidInput("--split is for labelled images: --data PATH.")
    if config.first.export is None and config.first != ExportFirst():
        raise InvalidInput("--target, --precision, --calibration, --max-ap-drop and --output are for --export MODEL.")
    if config.first.max_ap_drop is not None and config.data is None:
        raise InvalidInput("--max-ap-drop needs labelled images: --data PATH.")
    if config.first.calibration is not None:
        find_images(config.first.calibration)
    if config.bf16 and "bf16" not in cpu():
        raise InvalidInput("--bf16: this processor computes no bf16.")


def timed_images(config: CompareConfig, dataset: Dataset | None) -> Sequence[Image]:
    """What parity is proven on and times are taken of: real images where there are any."""
    if config.images is not None:
        return ImageFiles(find_images(config.images))
    return shapes_images(TIMED_IMAGES) if dataset is None else dataset.read_images()


def command(config: CompareConfig) -> dict[str, Any]:
    check(config)
    start = time.perf_counter()
    splits = () if config.split is None else (config.split,)
    dataset = None if config.data is None else open_dataset(config.data, splits)
    images = timed_images(config, dataset)
    exports = config.first.export
    weights = None if exports is None else find_weights(exports, config.dry_run)
    reference = config.reference or weights
    assert reference is not None  # see `check`
    if not reference.exists():
        raise InvalidInput(f"--reference {reference} does not exist.")
    named = contenders_of(config.artifacts, config.threads, config.bf16) if config.artifacts else []
    planned = [] if exports is None else [f"{target} {precision}" for target, precision in config.first.jobs()]
    names = [*(contender.name for contender in named), *planned]
    check_names(names)
    if not config.bf16:  # which makes names of its own
        baseline_of(names, config.baseline)
    arguments = [*config.artifacts, *(() if weights is None else export_first(config, weights))]
    if config.dry_run:
        return look(config, reference, dataset, arguments, names)

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
    if config.html is not None:
        write_page(config.html, found, worst)
        print(f"page: {config.html}")
    print(found.last_line())
    return asdict(found)


def look(
    config: CompareConfig, reference: Path, dataset: Dataset | None, arguments: Sequence[str], names: Sequence[str]
) -> dict[str, Any]:
    """A dry run: what is there is loaded, and what would be measured is said. Returns that for `--json`."""
    from .task import read_specs

    open_reference(reference, config.foreign).close()
    here = [argument for argument in arguments if argument in config.artifacts or Path(argument).exists()]
    if here:
        read_specs(contenders_of(here, config.threads, config.bf16), dataset)
    images = len(timed_images(config, dataset))
    print(f"dry run, nothing is measured: {len(arguments)} artifacts against {reference}")
    for argument in arguments:
        print(f"  {argument}" + ("" if argument in here else " (to be exported)"))
    print(f"  parity on {min(images, config.parity_images)} images")
    if dataset is not None:
        print(f"  AP on {len(dataset)} images of {dataset.source}")
    print(f"  speed in {config.launches} launches of each, {config.rounds} rounds a launch")
    if config.html is not None:
        print(f"  page: {config.html}")
    return {"dry_run": True, "reference": str(reference), "artifacts": arguments, "names": names, "images": images}


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy compare", CompareConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

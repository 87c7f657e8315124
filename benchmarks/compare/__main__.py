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
from runtimes.spec import ModelSpec
from yolox_deploy.console import require, run
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.data.image_source import find_image_source
from yolox_deploy.data.open import open_evaluable
from yolox_deploy.doctor import cpu
from yolox_deploy.files import check_output_file
from yolox_deploy.model_argument import ModelOption, find_checkpoint, find_model, one_model
from yolox_deploy.options import Images, Json, ModelOptions, check_positive
from yolox_deploy.verification import GivenImages, given_images

from ..reference import check_wanted, open_reference
from .contenders import baseline_of, check_names, contenders_of, paths_of
from .export_first import ExportFirst, export_first
from .speed import SpeedPlan

TIMED_IMAGES = 16


@dataclass(frozen=True)
class CompareConfig:
    """AP, parity and speed of artifacts against their reference, as a table, JSON and a page."""

    artifacts: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="ARTIFACT ...")] = ()
    """Artifacts: folders or model files; NAME=PATH gives one a name of your own."""
    reference: str | None = None
    """What they have to equal: the checkpoint, a variant's name (official weights), or an artifact. With --export,
    that checkpoint."""
    weights: ModelOption = ()
    """The same as --reference."""
    data: Path | None = None
    """Labelled images to measure AP on: a data set (see `evaluate`)."""
    split: str | None = None
    """Split of --data; unset, the only one, val or test."""
    images: Images = None
    """Images to compare and to time on, a folder or a data set (DATA:SPLIT; unset, val). Unset, those of --data, else
    generated ones."""
    parity_images: int = 50
    """Parity is of at most so many of them, those first on which the reference detects something."""
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
    """File for all of it as JSON, {"reference", "baseline", "rows", "warnings", "machine", ...}, AP and AP_drop as
    fractions (printed: points, 0 to 100); "-" is standard output, which then holds nothing else."""
    first: Annotated[ExportFirst, tyro.conf.arg(name="export")] = field(default_factory=ExportFirst)
    foreign: Annotated[ModelOptions, tyro.conf.arg(name="third-party files")] = field(default_factory=ModelOptions)


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
    if config.reference is None and not config.weights and config.first.export is None:
        raise InvalidInput("--reference says what the artifacts have to equal: a checkpoint, or an artifact.")
    if config.split is not None and config.data is None:
        raise InvalidInput("--split is for labelled images: --data PATH.")
    if config.first.export is None and config.first != ExportFirst():
        raise InvalidInput("--target, --precision, --calibration, --max-ap-drop and --output are for --export MODEL.")
    if config.first.max_ap_drop is not None and config.data is None:
        raise InvalidInput("--max-ap-drop needs labelled images: --data PATH.")
    if config.first.calibration is not None:
        find_image_source(config.first.calibration, "train")
    if config.bf16 and "bf16" not in cpu():
        raise InvalidInput("--bf16: this processor computes no bf16.")


def timed_images(config: CompareConfig, dataset: Dataset | None) -> GivenImages:
    """What is compared and timed on: real images where there are any."""
    if config.images is None and dataset is not None:
        return GivenImages(dataset.read_images(), str(dataset.source))
    return given_images(config.images, TIMED_IMAGES)


def command(config: CompareConfig) -> dict[str, Any]:
    check(config)
    start = time.perf_counter()
    splits = () if config.split is None else (config.split,)
    dataset = None if config.data is None else open_evaluable(config.data, splits)
    given = timed_images(config, dataset)
    exports = config.first.export
    weights = None if exports is None else find_checkpoint(exports, config.dry_run)
    if config.reference is None and not config.weights and weights is not None:
        reference = weights
    else:
        named_reference = one_model(config.reference, *config.weights, type_next="--reference MODEL")
        reference = find_model(named_reference, config.dry_run)
    check_wanted(config.foreign, [reference, *paths_of(config.artifacts)])
    named = contenders_of(config.artifacts, config.threads, config.bf16, config.foreign) if config.artifacts else []
    planned = [] if exports is None else [f"{target} {precision}" for target, precision in config.first.jobs()]
    names = [*(contender.name for contender in named), *planned]
    check_names(names)
    if not config.bf16:  # which makes names of its own
        baseline_of(names, config.baseline)
    arguments = [*config.artifacts, *(() if weights is None else export_first(config, weights, dataset))]
    if config.dry_run:
        return look(config, reference, dataset, arguments, names)

    from .gather import gather
    from .page import write_page
    from .task import Task, read_specs, warnings_of

    contenders = contenders_of(arguments, config.threads, config.bf16, config.foreign)
    baseline = baseline_of([contender.name for contender in contenders], config.baseline)
    specs = read_specs(contenders, dataset)
    check_size(config.foreign.input_size, specs[baseline])
    task = Task(
        contenders=contenders,
        specs=specs,
        baseline=baseline,
        reference=reference,
        foreign=config.foreign,
        dataset=dataset,
        images=given.images,
        source=given.source,
        real=given.real,
        parity_images=config.parity_images,
        threads=config.threads,
        plan=SpeedPlan(config.launches, config.rounds),
        warnings=warnings_of(specs, dataset),
    )
    found, worst = gather(task, start)
    print(found.table())
    if config.html is not None:
        write_page(config.html, found, worst)
        print(f"page: {config.html}")
    print(found.last_line())
    return asdict(found)


def check_size(asked: tuple[int, int] | None, spec: ModelSpec) -> None:
    """Raise `InvalidInput` where the reference is to run at another size than the artifacts."""
    if asked not in (None, spec.input_size):
        height, width = spec.input_size
        raise InvalidInput(f"the artifacts take {height}x{width}: leave --input-size out, or export them at that size.")


def look(
    config: CompareConfig, reference: Path, dataset: Dataset | None, arguments: Sequence[str], names: Sequence[str]
) -> dict[str, Any]:
    """A dry run: what is there is loaded, and what would be measured is said. Returns that for `--json`."""
    from .task import check_same_classes, read_specs, warnings_of

    runtime = open_reference(reference, config.foreign)
    specs = {"--reference": runtime.spec}
    runtime.close()
    here = [argument for argument in arguments if argument in config.artifacts or Path(argument).exists()]
    if here:
        specs |= read_specs(contenders_of(here, config.threads, config.bf16, config.foreign), dataset)
    check_same_classes(specs, dataset)
    for spec in list(specs.values())[1:]:
        check_size(config.foreign.input_size, spec)
    warnings = warnings_of(specs, dataset)
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
    planned = {"artifacts": arguments, "names": names, "images": images, "warnings": warnings}
    return {"dry_run": True, "reference": str(reference), **planned}


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy compare", CompareConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

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
from runtimes.load import is_artifact, model_file
from runtimes.preprocess import Image
from runtimes.spec import ModelSpec, Precision
from yolox_deploy.console import require, run
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.data.images import ImageFiles, find_images
from yolox_deploy.data.open import open_dataset
from yolox_deploy.data.shapes import shapes_images
from yolox_deploy.doctor import cpu
from yolox_deploy.files import check_output_file, write_text
from yolox_deploy.options import check_positive

from ..reference import find_weights
from .speed import BF16, Contender, SpeedPlan

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
    """With --export: folder for the artifacts. Those that are there already are taken as they are."""


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
        require("pycocotools")
    if not config.artifacts and config.first.export is None:
        raise InvalidInput("name artifacts to compare, or --export MODEL to export some first.")
    if config.reference is None and config.first.export is None:
        raise InvalidInput("--reference says what the artifacts have to equal: a checkpoint, or an artifact.")


def contenders_of(arguments: Sequence[str], threads: int, bf16: bool) -> list[Contender]:
    """What takes part, named. Raises `InvalidInput` for a path that is no artifact, and for two of one name."""
    found: list[Contender] = []
    for name, path in map(_split, arguments):
        if not is_artifact(path):
            continue
        file = model_file(path)
        options = {} if file.suffix in (".engine", ".rtx") else {"threads": threads}
        found.append(Contender(name or short_name(path), path, options))
        if bf16 and file.suffix in BF16 and "-int8" not in found[-1].artifact.name:
            if "bf16" not in cpu():
                raise InvalidInput("--bf16: this processor computes no bf16.")
            title = found[-1].name.removesuffix(" fp32") + " bf16"
            found.append(Contender(title, path, {**options, **BF16[file.suffix]}))
    if not found:
        raise InvalidInput(f"none of {', '.join(arguments)} is an artifact.")
    names = [contender.name for contender in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInput(f"two artifacts are called {twice!r}: NAME=PATH gives one another name.")
    return found


def _split(argument: str) -> tuple[str, Path]:
    """Name and path of "NAME=PATH", or of a path alone."""
    name, equals, path = argument.partition("=")
    return (name, Path(path)) if equals and not Path(argument).exists() else ("", Path(argument))


def short_name(artifact: Path) -> str:
    """ "onnx fp32" for what `export` wrote, else the name of the folder or file."""
    folder = artifact if artifact.is_dir() else artifact.parent
    if (folder / "spec.json").exists():
        spec = ModelSpec.read(folder / "spec.json")
        ours = folder.name.removeprefix(f"{spec.name}-")
        if ours != folder.name and ours.endswith(f"-{spec.precision}"):
            return f"{ours.removesuffix(f'-{spec.precision}')} {spec.precision}"
    return artifact.name


def baseline_of(contenders: Sequence[Contender], wanted: str | None) -> str:
    names = [contender.name for contender in contenders]
    if wanted is None:
        return "onnx fp32" if "onnx fp32" in names else names[0]
    if wanted not in names:
        raise InvalidInput(f"--baseline {wanted!r} does not take part; there are {', '.join(names)}.")
    return wanted


def export_first(config: CompareConfig) -> tuple[list[str], Path]:
    """Export what is not there yet. Returns the artifacts, and the checkpoint that they are of."""
    from yolox_deploy import export
    from yolox_deploy.model.checkpoint import read_checkpoint

    first = config.first
    assert first.export is not None
    weights = find_weights(first.export)

    name = read_checkpoint(weights).variant
    artifacts = []
    for target in _all(first.targets, CPU_TARGETS, "--targets"):
        for precision in _all(first.precisions, PRECISIONS, "--precisions"):
            folder = first.output / f"{name}-{target}-{precision}"
            artifacts.append(str(folder))
            if folder.exists():
                print(f"{folder} is there already")
                continue
            export.command(
                export.ExportConfig(
                    weights=weights,
                    target=(target,),  # type: ignore[arg-type]
                    precision=(precision,),  # type: ignore[arg-type]
                    output=first.output,
                    verify_images=config.images,
                    calibration=first.calibration if precision == "int8" else None,
                    data=config.data if first.max_ap_drop is not None else None,
                    split=config.split if first.max_ap_drop is not None else None,
                    max_ap_drop=first.max_ap_drop,
                )
            )
    return artifacts, weights


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
    arguments, reference = [*config.artifacts], config.reference
    if config.first.export is not None:
        exported, weights = export_first(config)
        arguments, reference = [*arguments, *exported], reference or weights
    contenders = contenders_of(arguments, config.threads, config.bf16)
    baseline = baseline_of(contenders, config.baseline)
    splits = () if config.split is None else (config.split,)
    dataset = None if config.data is None else open_dataset(config.data, splits)
    assert reference is not None
    from .gather import gather
    from .page import write_page

    plan = SpeedPlan(config.launches, config.rounds)
    images = timed_images(config, dataset)
    found, worst = gather(
        contenders, baseline, reference, dataset, images, config.parity_images, config.threads, plan, start
    )
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

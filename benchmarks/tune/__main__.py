"""yolox-deploy tune: how to run a model on this machine, by measurement.

    yolox-deploy tune my_yolox.pth --data coco --budget-ms 10     # the most accurate that is fast enough
    yolox-deploy tune my_yolox.pth --data coco --min-ap 28        # the fastest that is accurate enough

Tries backends, precisions, input sizes and threads, leaves out what cannot win, and writes the artifact that does and
`tune.json` with all that was looked at. Ends with one JSON line; exits with 1 where nothing meets the demand.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from runtimes.errors import InvalidInput
from runtimes.foreign import Preprocessing
from runtimes.spec import Precision
from yolox_deploy.console import require, run
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.data.image_source import find_image_source, train_split
from yolox_deploy.data.images import ImageFiles
from yolox_deploy.data.open import open_evaluable
from yolox_deploy.doctor import cpu
from yolox_deploy.files import check_output_folder, write_text
from yolox_deploy.json_output import NotPassed
from yolox_deploy.model.trained_with import NetworkOptions
from yolox_deploy.model_argument import FirstModel, ModelOption, find_checkpoint, one_model
from yolox_deploy.options import ClassNames, Images, Json
from yolox_deploy.verification import evenly

from ..machine import describe_machine
from .report import Result
from .search import Build, Goal, search
from .ways import BF16_TARGETS, MODULES, builds_of, read_sizes, ways_of

TIMED_IMAGES = 16
LOG, RESULT = "export.log", "tune.json"


TYPE_NEXT = "yolox-deploy tune MODEL --data PATH, with a checkpoint or a variant's name"


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Find how to run a model on this machine: backend, precision, input size and threads.

    fp16 is not tried: processors compute it in fp32, it only makes files smaller.
    """

    model: FirstModel = ""
    """Checkpoint, or a variant's name (official weights, downloaded once)."""
    weights: ModelOption = ()
    """The same as MODEL."""
    data: Path
    """Labelled images to measure AP on: a data set (see `evaluate`)."""
    budget_ms: float | None = None
    """Milliseconds that an image may take in the median, from image to boxes: the most accurate within them wins."""
    min_ap: float | None = None
    """Points of AP, 0 to 100, that there have to be, such as 28.5: the fastest with them wins."""
    aim: Literal["latency", "throughput"] = "latency"
    """What milliseconds are: of one image alone, or of all cores together, an image."""
    target: tuple[Literal["onnx", "openvino", "ncnn"], ...] = ()
    """Backends to try; unset, those of them that are installed. Engines are for `yolox-deploy compare`."""
    precision: tuple[Literal["fp32", "bf16", "int8"], ...] = ()
    """Precisions to try; unset, those that this processor has."""
    sizes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SIZE ...")] = ()
    """Input sizes to try, such as 416 or 384x640, multiples of 32; unset, the model's own, three quarters and half."""
    split: str | None = None
    """Split of --data; unset, the only one, val or test."""
    images: Images = None
    """Images to time on, a folder or a data set (DATA:SPLIT; unset, val). Unset, those of --data."""
    calibration: Images = None
    """int8: images like those that the model will see, a folder or a data set (DATA:SPLIT; unset, train). Unset, the
    training split of --data, else generated ones."""
    class_names: ClassNames = None
    """Class names: "coco", a text file with one name a line, or the names themselves with commas between them; unset,
    the checkpoint's."""
    preprocessing: Preprocessing | None = None
    """How the model was trained: official (BGR, 0..255) or legacy (release 0.0.1: RGB, ImageNet mean and std); unset,
    what the checkpoint says, else official."""
    cores: int | None = None
    """Cores to use at most; unset, all that this process may."""
    output: Path = Path("tuned")
    """Folder for the winning artifact and tune.json."""
    overwrite: bool = False
    """Write into --output though it is not empty; an artifact of the winner's name is replaced."""
    dry_run: bool = False
    """Check everything that can be known, say what would be tried, and write and measure nothing."""
    json: Json = None
    """File for what tune.json holds, {"winner", "artifact", "options", "trials", ...}, AP as fractions; "-" is standard
    output, which then holds nothing else."""
    network: Annotated[NetworkOptions, tyro.conf.arg(name="checkpoint")] = field(default_factory=NetworkOptions)


def check(config: TuneConfig) -> None:
    """Raise for what can be known to be wrong before any work."""
    require("torch", "onnx", "onnxruntime", "onnxscript", "onnxsim", "hotcoco", "psutil")
    if (config.budget_ms is None) == (config.min_ap is None):
        raise InvalidInput("say what counts: --budget-ms MILLISECONDS or --min-ap POINTS, one of them.")
    if config.budget_ms is not None and not config.budget_ms > 0:
        raise InvalidInput(f"--budget-ms has to be more than 0, and is {config.budget_ms:g}.")
    if config.min_ap is not None and not 0 < config.min_ap <= 100:
        raise InvalidInput(f"--min-ap is in points, 0 to 100, and is {config.min_ap:g}.")
    if config.min_ap is not None and config.min_ap < 1:
        raise InvalidInput(f"--min-ap is in points of AP: {100 * config.min_ap:g}, not {config.min_ap:g}?")
    if config.cores is not None and config.cores < 1:
        raise InvalidInput(f"--cores has to be at least 1, and is {config.cores}.")
    require(*(MODULES[target] for target in config.target))
    if "bf16" in config.precision and "bf16" not in cpu():
        raise InvalidInput("--precision bf16: this processor computes no bf16.")
    if "bf16" in config.precision and config.target and not set(config.target) & set(BF16_TARGETS):
        raise InvalidInput(f"--precision bf16 is for {' and '.join(BF16_TARGETS)}.")
    check_output_folder(config.output, "--output")
    there = {file.name for file in config.output.glob("[!.]*")}  # the others are what a search left that was killed
    if there - {LOG, RESULT} and not config.overwrite:
        raise InvalidInput(f"{config.output} is not empty: --output says where else, --overwrite writes into it.")
    if config.calibration is not None:
        find_image_source(config.calibration, "train")


def stop(number: int, frame: object) -> None:
    """Leave by way of all `finally`: nothing stays behind."""
    raise SystemExit(128 + number)


def command(config: TuneConfig) -> dict[str, Any]:
    check(config)
    signal.signal(signal.SIGTERM, stop)
    config = replace(config, model=one_model(config.model, *config.weights, type_next=TYPE_NEXT))
    weights = find_checkpoint(config.model, config.dry_run)
    splits = () if config.split is None else (config.split,)
    dataset = open_evaluable(config.data, splits)
    labelled = [image.path for image in dataset.images]
    files = labelled if config.images is None else find_image_source(config.images).paths
    calibration = config.calibration or train_split(config.data, splits)
    from exporters.artifact import artifact_folder
    from exporters.replacement import only_writer, replace_folder, settle
    from yolox_deploy.categories import check_classes
    from yolox_deploy.model.open import open_trained

    from .lab import MachineLab, artifact_name, workbench

    trained_with = config.network.with_input(config.preprocessing)
    trained = open_trained(weights, trained_with, class_names=config.class_names).checked(dataset.read_images())
    trained.say()
    spec = trained.spec
    warnings = (*trained.notes, *check_classes(spec, dataset))
    builds = builds_of(config, read_sizes(config.sizes, spec.input_size))
    machine = describe_machine()
    cores = min(config.cores or machine.cores, machine.cores)
    ways = ways_of(builds, cores, config.aim)
    goal = Goal(config.budget_ms, None if config.min_ap is None else config.min_ap / 100)
    print(f"{len(ways)} ways to run {config.model} ({len(builds)} builds) are looked at, for {goal}.", flush=True)
    for build in builds:  # refuses to replace what is no artifact
        precision: Precision = "int8" if build.computes == "int8" else "fp32"
        named = replace(spec, name=artifact_name(weights, build.size), precision=precision)
        artifact_folder(config.output, named, build.target, only_look=config.dry_run)
    if config.dry_run:
        return look(config, builds, dataset, warnings)
    config.output.mkdir(parents=True, exist_ok=True)
    artifact, options = None, {}
    with workbench(config.output) as folder:
        lab = MachineLab(
            weights=weights,
            dataset=dataset,
            images=ImageFiles([files[index] for index in evenly(len(files), TIMED_IMAGES)]),
            calibration=calibration,
            labelled=config.data if config.split is None else Path(f"{config.data}:{config.split}"),
            folder=folder,
            log=config.output / LOG,
            aim=config.aim,
            cores=cores,
            class_names=config.class_names,
            preprocessing=config.preprocessing,
            network=config.network,
            doubts=list(warnings),
        )
        if calibration is None and any(build.computes == "int8" for build in builds):
            lab.doubts.append("int8 was calibrated on generated images: --calibration DIR with your own does better.")
        winner, trials = search(ways, goal, lab)
        if winner is not None:
            options, source = lab.options(winner.way), lab.artifact(winner.way.build)
            artifact = config.output.absolute() / source.name
            with only_writer(artifact):  # it may be an hour since it was looked at
                settle(artifact)
                replace_folder(source, artifact)
    result = Result(
        model=config.model,
        data=f"{dataset.source} ({len(dataset)} images)",
        aim=config.aim,
        goal=goal,
        winner=winner,
        artifact=None if artifact is None else str(artifact),
        options=options,
        trials=trials,
        doubts=lab.doubts,
        machine=machine,
    )
    write_text(config.output / RESULT, result.to_json())
    print(result)
    print(result.last_line(), flush=True)
    if winner is None:
        raise NotPassed(f"nothing that was tried gives {goal}: {result.nearest()}.", asdict(result))
    return asdict(result)


def look(config: TuneConfig, builds: Sequence[Build], dataset: Dataset, warnings: Sequence[str]) -> dict[str, Any]:
    """A dry run: what would be tried is said. Returns that for `--json`."""
    print("dry run, nothing is measured:")
    for build in builds:
        print(f"  {build}")
    print(f"  AP on {len(dataset)} images of {dataset.source}")
    print(f"  the winner and {RESULT} go into {config.output}")
    planned = [asdict(build) for build in builds]
    return {"dry_run": True, "builds": planned, "images": len(dataset), "warnings": warnings}


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy tune", TuneConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""python -m benchmarks.peers: from an image to its boxes, against plain Python programs and other libraries.

    python -m benchmarks.peers artifacts/* --official yolox_nano_not_decoded.onnx --images my_images

The baseline is the pipeline of the official ONNX Runtime demo on its own kind of file. All run in fresh processes, in
alternating rounds, at the same thresholds and on as many threads; each is also asked whether it finds what the official
pipeline finds by the rules of `runtimes`. Prints a table and ends with one JSON line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from runtimes.detections import Detections
from runtimes.errors import InvalidInput, UserError
from runtimes.preprocess import Image
from yolox_deploy.console import require, run
from yolox_deploy.doctor import cpu
from yolox_deploy.options import Images, Json, check_positive, check_thresholds
from yolox_deploy.progress import progress_bar

from ..baselines.numpy_pipeline import OFFICIAL, Rules
from ..compare.contenders import check_names
from ..compare.process import Worker
from ..compare.speed import Contender, SpeedPlan, measure
from ..compare.worst import confident
from ..machine import describe_machine, warnings
from ..photos import some_images
from .contenders import DEMO, at_thresholds, by_contract, ours_of, peers_of, plain_ncnn_file, read_official
from .report import Report, rows_of

TIMED_IMAGES = 16


@dataclass(frozen=True)
class PeersConfig:
    """From an image to its boxes, against plain Python programs and other libraries."""

    artifacts: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Artifacts: folders or model files; NAME=PATH gives one a name of your own."""
    official: Path
    """The same model as the official exporter writes it. Where you have none, yolox-deploy export --no-decode
    --no-uint8-input gives a file of that form, which is a little faster: its Focus and pools are rewritten."""
    images: Images = None
    """Images to time on; unset, generated ones."""
    threads: int = 1
    """Threads of each backend."""
    bf16: bool = False
    """Run what can compute in bf16 in that as well, as contenders of their own."""
    score_threshold: float = OFFICIAL.score_threshold
    """Of all, while they are timed; unset, the official demo's."""
    nms_threshold: float = OFFICIAL.nms_threshold
    """Of all, while they are timed; unset, the official demo's."""
    launches: int = SpeedPlan.launches
    """Fresh processes of each."""
    rounds: int = SpeedPlan.rounds
    """Timed rounds in each launch, in which all take turns."""
    json: Json = None
    """File for all figures as JSON; "-" is standard output, which then holds nothing else."""


def check(config: PeersConfig) -> None:
    """Raise for what can be known to be wrong before any work."""
    require("onnx", "onnxruntime", "psutil")
    check_positive(threads=config.threads, launches=config.launches, rounds=config.rounds)
    check_thresholds(score_threshold=config.score_threshold, nms_threshold=config.nms_threshold)
    if not config.artifacts:
        raise InvalidInput("name artifacts to measure.")
    if config.bf16 and "bf16" not in cpu():
        raise InvalidInput("--bf16: this processor computes no bf16.")


def detect_all(
    contenders: Sequence[Contender], images: Sequence[Image]
) -> tuple[dict[str, list[Detections]], list[str]]:
    """What each finds in the images, by its name; and a sentence for each peer that does not run."""
    found, absent = {}, []
    for one in progress_bar(contenders, unit="pipeline", desc="detecting"):
        try:
            with Worker(one.artifact, images, by_contract(one), one.program) as worker:
                found[one.name] = worker.detect()
        except UserError as error:
            if not one.program or one.name == DEMO:
                raise
            absent.append(f"{one.name} is left out, since it does not run: {error}")
    return found, absent


def command(config: PeersConfig) -> dict[str, Any]:
    check(config)
    official = read_official(config.official)
    timed = some_images(config.images, TIMED_IMAGES)
    ours, specs = ours_of(config.artifacts, config.threads, config.bf16, official)
    options = {"threads": config.threads, "size": official.input_size}
    peers, absent = peers_of(config.official, plain_ncnn_file(ours, specs), options)
    everyone = [*peers, *(replace(one, name=f"ours, {one.name}") for one in ours)]
    check_names([one.name for one in everyone])

    found, failed = detect_all(everyone, timed)
    rules, plan = Rules(config.score_threshold, config.nms_threshold), SpeedPlan(config.launches, config.rounds)
    running = [replace(one, options=at_thresholds(one, rules)) for one in everyone if one.name in found]
    speed = measure(running, timed, plan)
    report = Report(
        official=str(config.official),
        images=len(timed),
        threads=config.threads,
        score_threshold=config.score_threshold,
        nms_threshold=config.nms_threshold,
        detections=sum(len(confident(one)) for one in found[DEMO]),
        rows=rows_of(running, speed, found),
        absent=absent + failed,
        warnings=warnings(speed.loads, speed.drift(DEMO, "total")) + speed.doubts(plan),
        machine=describe_machine(),
    )
    print(report.table())
    print(report.last_line())
    return asdict(report)


def main(arguments: Sequence[str] | None = None) -> int:
    return run("python -m benchmarks.peers", PeersConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""python -m benchmarks.overhead: what our runtimes cost around the network, and the network itself by ours and alone.

    python -m benchmarks.overhead artifacts/* --images my_images

Each artifact detects in photos of 640x480 and of 1920x1080; beside it, its backend runs the same file alone over and
over, as the backend's own benchmark program does. All take turns in fresh processes. Where OpenVINO's benchmark_app is
installed, it is asked as well. Prints a table and ends with one JSON line.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import cv2
import numpy as np
import tyro

from runtimes.errors import InvalidInput
from runtimes.json_file import json_text
from runtimes.load import model_file
from runtimes.preprocess import Image
from runtimes.spec import ModelSpec
from yolox_deploy.console import require, run
from yolox_deploy.options import Images, check_positive

from .compare.contenders import check_one_at_a_time, contenders_of
from .compare.intervals import Interval, speed_ratio
from .compare.speed import Contender, Speed, SpeedPlan, Timing, measure
from .compare.task import read_specs
from .machine import describe_machine, warnings
from .photos import some_images

BARE = {".onnx": "BareOnnx", ".xml": "BareOpenVINO", ".param": "BareNcnn"}
PHOTO, FULL_HD = (640, 480), (1920, 1080)  # width, height, as OpenCV has them
IMAGES = 16
APP = "benchmark_app"
MEDIAN = re.compile(r"Median:\s+([0-9.]+) ms")


@dataclass(frozen=True)
class OverheadConfig:
    """What our runtimes cost around the network; and the network, run by ours and alone."""

    artifacts: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Artifacts: folders or model files; NAME=PATH gives one a name of your own."""
    images: Images = None
    """Folder of images, scaled to both sizes; unset, generated ones."""
    threads: int = 1
    """Threads of each backend."""
    bf16: bool = False
    """Run what can compute in bf16 in that as well."""
    launches: int = SpeedPlan.launches
    """Fresh processes of each."""
    rounds: int = SpeedPlan.rounds
    """Timed rounds in each launch, in which all take turns."""


@dataclass(frozen=True)
class Overhead:
    """Milliseconds. photo, full_hd: from the image to the boxes, less what the backend takes, by the image's size.

    share: of `photo` in the whole. engine: what the backend takes, run by ours; bare: run alone. ratio: of their
    speeds, 1.00 where ours costs nothing. app: the median of OpenVINO's benchmark_app, None where that says nothing.
    """

    name: str
    photo: float
    full_hd: float
    share: float
    engine: float
    bare: float
    ratio: Interval
    app: float | None

    def row(self) -> str:
        app = "" if self.app is None else f"{self.app:.2f}"
        times = f"{self.photo:.2f} | {self.full_hd:.2f} | {self.share:.1%} | {self.engine:.2f} | {self.bare:.2f}"
        return f"| {self.name} | {times} | {self.ratio} | {app} |"


HEADER = """Milliseconds; "around" is all but the network.
| artifact | around, 640x480 | around, 1920x1080 | share | network | alone | ratio [95 %] | benchmark_app |
|---|---|---|---|---|---|---|---|"""


def bare(contender: Contender) -> Contender:
    """The same file, run by its backend alone."""
    file = model_file(contender.artifact)
    if file.suffix not in BARE:
        raise InvalidInput(f"{contender.artifact} runs on a GPU; this measures a processor.")
    options = dict(contender.options)
    if file.suffix == ".param":
        options["size"] = ModelSpec.read(file.with_name("spec.json")).input_size
    program = f"benchmarks.baselines.bare:{BARE[file.suffix]}"
    return Contender(f"{contender.name}, alone", file, options, program)


def around(timing: Timing) -> float:
    """Median milliseconds of an image that are not the backend's."""
    runs = [times for launch in timing.launches for one in launch for times in one]
    return median(times.total - times.engine for times in runs)


def ask_app(contender: Contender, launches: int) -> float | None:
    """The median of what OpenVINO's own program says of the same file, threads and precision."""
    file, program = model_file(contender.artifact), shutil.which(APP, path=str(Path(sys.executable).parent))
    if file.suffix != ".xml" or program is None:
        return None
    precision = contender.options.get("inference_precision", "f32")
    threads = str(contender.options["threads"])
    command = [program, "-m", str(file), "-api", "sync", "-hint", "none", "-nstreams", "1", "-nthreads", threads]
    command += ["-infer_precision", precision, "-t", "2"]
    found = []
    for _ in range(launches):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        match = MEDIAN.search(done.stdout)
        if match is None:
            return None
        found.append(float(match[1]))
    return median(found)


def rows_of(contenders: Sequence[Contender], photo: Speed, full_hd: Speed, launches: int) -> list[Overhead]:
    rows = []
    for contender in contenders:
        own, alone = photo.timings[contender.name], photo.timings[f"{contender.name}, alone"]
        cost = around(own)
        rows.append(
            Overhead(
                name=contender.name,
                photo=cost,
                full_hd=around(full_hd.timings[contender.name]),
                share=cost / own.summary("total").p50.value,
                engine=own.summary("engine").p50.value,
                bare=alone.summary("total").p50.value,
                ratio=speed_ratio(alone.of("total"), own.of("engine")),
                app=ask_app(contender, launches),
            )
        )
    return rows


def scaled(images: Sequence[Image], size: tuple[int, int]) -> list[Image]:
    return [cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False) for image in images]


def command(config: OverheadConfig) -> None:
    require("psutil")
    check_positive(threads=config.threads, launches=config.launches, rounds=config.rounds)
    if not config.artifacts:
        raise InvalidInput("name artifacts to measure.")
    contenders = contenders_of(config.artifacts, config.threads, config.bf16)
    check_one_at_a_time(read_specs(contenders, None))
    alone = [bare(contender) for contender in contenders]
    images = some_images(config.images, IMAGES)
    plan = SpeedPlan(config.launches, config.rounds)
    photo = measure([*contenders, *alone], scaled(images, PHOTO), plan)
    full_hd = measure(contenders, scaled(images, FULL_HD), plan)
    rows = rows_of(contenders, photo, full_hd, config.launches)
    print("\n".join([HEADER, *(row.row() for row in rows)]))
    doubts = warnings([*photo.loads, *full_hd.loads], photo.drift(contenders[0].name)) + photo.doubts(plan)
    print("".join(f"warning: {doubt}\n" for doubt in doubts), end="")
    found: dict[str, Any] = {"rows": [asdict(row) for row in rows], "warnings": doubts}
    print(json_text({**found, "machine": asdict(describe_machine())}))


def main(arguments: Sequence[str] | None = None) -> int:
    return run("python -m benchmarks.overhead", OverheadConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""From an image to boxes, stage by stage: where a detector spends its time."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from runtimes.detections import Detections
from runtimes.detector import Detector
from runtimes.postprocess import postprocess
from runtimes.preprocess import Image, preprocess
from runtimes.runtime import Request


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds of one batch; `share` gives those of one image in it.

    copy_in and copy_out are the transfers to and from a device: 0 on a processor, whose memory the network reads as it
    lies there. engine: all that the runtime does, by the clock. total: from the images to their boxes, by the clock;
    on a GPU it holds what launching costs as well, so that it can exceed the sum of the five. Of what is no detector of
    ours only the total is known, and all else is NaN.
    """

    preprocess: float
    copy_in: float
    compute: float
    copy_out: float
    postprocess: float
    engine: float
    total: float

    def share(self, images: int) -> StageTimes:
        return StageTimes(*(value / images for value in astuple(self)))


STAGES = ("preprocess", "copy_in", "compute", "copy_out", "postprocess")


def detect_timed(detector: Detector, images: Sequence[Image]) -> tuple[list[Detections], StageTimes]:
    """Detect in one full batch as `Detector` does, and time each stage."""
    clock, spec = time.perf_counter, detector.spec
    start = clock()
    with detector.request(len(images)) as request:
        _, ratios = preprocess(images, spec, request.images)
        ready = clock()
        output, on_device = _run(detector, request)
        done = clock()
        found = postprocess(output, ratios, spec, detector.score_threshold, detector.nms_threshold)
    end = clock()
    engine = 1e3 * (done - ready)
    times = StageTimes(
        preprocess=1e3 * (ready - start),
        copy_in=on_device.get("copy_in", 0.0),
        compute=on_device.get("compute", engine),
        copy_out=on_device.get("copy_out", 0.0),
        postprocess=1e3 * (end - done),
        engine=engine,
        total=1e3 * (end - start),
    )
    return found, times


def _run(detector: Detector, request: Request) -> tuple[npt.NDArray[np.float32], dict[str, float]]:
    """The output, and the milliseconds on a device where the runtime tells them."""
    infer_timed: Any = getattr(detector.runtime, "infer_timed", None)
    return infer_timed(request.images) if infer_timed else (request.run(), {})


class Program(Protocol):
    """What finds objects in one image (H, W, 3) uint8, BGR, in a way of its own: see `benchmarks.baselines`."""

    def __call__(self, image: Image) -> Detections: ...
    def close(self) -> None: ...


def call_timed(program: Program, image: Image) -> tuple[Detections, StageTimes]:
    """Run a program on an image; only the total is known of it."""
    start = time.perf_counter()
    found = program(image)
    total = 1e3 * (time.perf_counter() - start)
    unknown = math.nan
    return found, StageTimes(unknown, unknown, unknown, unknown, unknown, unknown, total)

"""From an image to boxes, stage by stage: where a detector spends its time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

from runtimes.detections import Detections
from runtimes.detector import Detector
from runtimes.postprocess import postprocess
from runtimes.preprocess import Image, preprocess


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds of one batch; `share` gives those of one image in it.

    copy_in and copy_out are the transfers to and from a device: 0 on a processor, whose memory the network reads as it
    lies there. engine: all that the runtime does, by the clock. total: from the images to their boxes, by the clock;
    on a GPU it holds what launching costs as well, so that it can exceed the sum of the five.
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
    clock, spec, runtime = time.perf_counter, detector.spec, detector.runtime
    start = clock()
    inputs, ratios = preprocess(images, spec)
    ready = clock()
    infer_timed: Any = getattr(runtime, "infer_timed", None)
    output, on_device = infer_timed(inputs) if infer_timed else (runtime.infer(inputs), {})
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

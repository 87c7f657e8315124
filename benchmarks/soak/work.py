"""What is done to an artifact, each in a fresh process: many images, opening and closing, streams."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from exporters.matching import identical
from runtimes.detections import Detections
from runtimes.detector import Detector
from runtimes.errors import UserError
from runtimes.load import load
from runtimes.preprocess import Image
from yolox_deploy.data.shapes import shapes_images
from yolox_deploy.progress import progress_bar

from .gauge import Gauge, Sample

PICTURES = 13  # no divisor or multiple of the number of threads, so that every thread sees them all
ROUNDS = 40  # of a run with many images, and so many samples
SCORE = 0.005  # low: even seeded weights find hundreds of boxes in every image
FRAME = (1920, 1080)  # width, height; 5.9 MiB
STREAMS, FRAMES, PAUSE = 4, 200, 0.01  # of a stream with a slow consumer: seconds that it takes for each result
GOOD_FRAMES = 50  # before the source fails


@dataclass(frozen=True)
class Artifact:
    """What is opened. options: the backend's."""

    path: Path
    options: dict[str, Any] = field(default_factory=dict)

    def open(self, streams: int = 1) -> Detector:
        return load(self.path, score_threshold=SCORE, streams=streams, **self.options)


@dataclass(frozen=True)
class Run:
    """Many images. differ: results that are not those of one thread; expected: those, as a hash."""

    images: int
    seconds: float
    differ: int
    expected: str
    samples: list[Sample]


@dataclass(frozen=True)
class Reopened:
    """Cycles of opening, detecting and closing. opened: MiB while it is open; samples: after it was closed."""

    samples: list[Sample]
    opened: list[float]


@dataclass(frozen=True)
class Streamed:
    """A stream whose consumer is slow, and one whose source fails.

    on_the_way: most images taken from the source and not yet given back. grown: MiB of memory at most above what was
    there after the first images. failed: whether the source's exception came, after everything that was read before it;
    left: threads that still work then. differ: results that are not those of one thread.
    """

    on_the_way: int
    grown: float
    failed: bool
    left: int
    differ: int


def detect_many(artifact: Artifact, images: int, threads: int, show: bool) -> Run:
    """Detect in so many images, from so many threads that share one detector.

    In rounds, with a sample after each: memory is compared at rest, when no image is being worked on.
    """
    pictures = shapes_images(PICTURES)
    bounds = [images * number // ROUNDS for number in range(ROUNDS + 1)]
    title = f"{artifact.path.name}, {threads} threads"
    with artifact.open() as detector, ThreadPoolExecutor(threads) as pool:
        expected = detect_all(detector, pictures)

        def differing(own: range) -> int:
            indices = [number % PICTURES for number in own]
            return sum(not identical(detector(pictures[index]), expected[index]) for index in indices)

        gauge, samples, differ, start = Gauge(), list[Sample](), 0, time.perf_counter()
        with progress_bar(total=images, unit="image", desc=title, disable=not show or None) as bar:
            for first, end in pairwise(bounds):
                differ += sum(pool.map(differing, [range(first + own, end, threads) for own in range(threads)]))
                samples.append(gauge.sample(end))
                bar.update(end - first)
        return Run(images, time.perf_counter() - start, differ, digest(expected), samples)


def detect_all(detector: Detector, pictures: Sequence[Image]) -> list[Detections]:
    """One by one. Raises `UserError` where nothing is found, since nothing could differ then."""
    found = [detector(picture) for picture in pictures]
    if not any(map(len, found)):
        raise UserError(f"{detector.spec.name} detects nothing in the generated images, so that nothing can differ.")
    return found


def digest(found: Sequence[Detections]) -> str:
    content = hashlib.sha256()
    for one in found:
        for value in vars(one).values():
            content.update(np.ascontiguousarray(value).tobytes())
    return content.hexdigest()


def open_and_close(artifact: Artifact, cycles: int) -> Reopened:
    [picture], gauge = shapes_images(1), Gauge()
    samples, opened = list[Sample](), []
    for cycle in progress_bar(range(1, cycles + 1), unit="cycle", desc=f"{artifact.path.name}, open and close"):
        with artifact.open() as detector:
            detector(picture)
            opened.append(gauge.settled())
        samples.append(gauge.sample(cycle))
    return Reopened(samples, opened)


def stream(artifact: Artifact) -> Streamed:
    pictures = [cv2.resize(picture, FRAME).astype(np.uint8, copy=False) for picture in shapes_images(3)]
    with artifact.open() as single:
        expected = detect_all(single, pictures)
    with artifact.open(STREAMS) as detector:
        for _ in detector.detect_stream(frames(pictures, [], 4 * STREAMS)):
            pass
        on_the_way, grown, differ = consume_slowly(detector, pictures, expected)
        failed, found = fail(detector, pictures)
        differ += sum(not identical(one, expected[number % len(pictures)]) for number, one in enumerate(found))
        left = sum(thread.name.startswith("detect") for thread in threading.enumerate())
    return Streamed(on_the_way, grown, failed and len(found) == GOOD_FRAMES, left, differ)


def frames(pictures: Sequence[Image], taken: list[int], count: int) -> Iterator[Image]:
    """Each a copy of its own, as from a camera, so that what is not let go of can be seen."""
    for number in range(count):
        taken.append(number)
        yield pictures[number % len(pictures)].copy()


def consume_slowly(
    detector: Detector, pictures: Sequence[Image], expected: Sequence[Detections]
) -> tuple[int, float, int]:
    """See `Streamed`: on_the_way, grown, differ."""
    gauge, taken = Gauge(), list[int]()
    before = most = gauge.resident()
    on_the_way = differ = 0
    for number, found in enumerate(detector.detect_stream(frames(pictures, taken, FRAMES))):
        on_the_way = max(on_the_way, len(taken) - number)
        time.sleep(PAUSE)
        most = max(most, gauge.resident())
        differ += not identical(found, expected[number % len(expected)])
    return on_the_way, most - before, differ


def fail(detector: Detector, pictures: Sequence[Image]) -> tuple[bool, list[Detections]]:
    """Whether the exception of a source comes to who reads the stream, and what was found before."""

    class Unplugged(Exception): ...

    def source() -> Iterator[Image]:
        yield from frames(pictures, [], GOOD_FRAMES)
        raise Unplugged

    found: list[Detections] = []
    try:
        for one in detector.detect_stream(source()):
            found.append(one)
    except Unplugged:
        return True, found
    return False, found

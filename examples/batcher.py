"""Micro-batching, for service.py: images that wait at the same time are detected together, and only so many may wait.

Each of the detector's streams is a task that takes what is waiting, at most a batch, and detects it in a thread.
Nothing is waited for to fill a batch, so an idle service answers at once. An artifact of batch 1 is given one image at
a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

from runtimes import Detections, Detector
from runtimes.preprocess import Image


@dataclass
class Job:
    """An image that waits, and where its detections go. The image is let go of when nobody waits any more."""

    image: Image | None
    future: asyncio.Future[Detections]


class Full(Exception):
    """As many requests as may be are here."""


class Batcher:
    """most: images of a batch. places: requests that may be here at a time, those at work included.

    on_batch: told the size of each batch.
    """

    def __init__(self, detector: Detector, most: int, places: int, on_batch: Callable[[int], object]) -> None:
        self.most = min(most, detector.spec.batch or most)
        self.places = places
        self.taken = 0
        self._on_batch = on_batch
        # The same runtime, which was opened for so many streams; each is a task of ours, with a batch of its own.
        self._detector = Detector(detector.runtime, detector.score_threshold, detector.nms_threshold)
        self._streams = detector.streams
        self._waiting: asyncio.Queue[Job] = asyncio.Queue()
        self._since: dict[int, float] = {}  # when each stream began its batch
        self._tasks: list[asyncio.Task[None]] = []
        self._threads = ThreadPoolExecutor(self._streams, "detect")

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._work(stream)) for stream in range(self._streams)]

    async def stop(self) -> None:
        """Those at work finish; the detector may be closed then."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold one of the places from before a request's body is read. Raises `Full`."""
        if self.taken >= self.places:
            raise Full
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    async def detect(self, image: Image) -> Detections:
        """Detections of one image. Whoever waits no longer is not detected for."""
        future: asyncio.Future[Detections] = asyncio.get_running_loop().create_future()
        job = Job(image, future)
        self._waiting.put_nowait(job)
        try:
            return await future
        finally:
            job.image = None  # also of one that waits no longer: its memory does not wait for its turn

    def is_alive(self, longest: float) -> bool:
        """Whether every stream still takes work, and none has been at one batch for longer than so many seconds."""
        running = bool(self._tasks) and not any(task.done() for task in self._tasks)
        return running and all(time.monotonic() - since < longest for since in self._since.values())

    async def _work(self, stream: int) -> None:
        loop = asyncio.get_running_loop()
        while True:
            jobs = [await self._waiting.get()]
            while len(jobs) < self.most and not self._waiting.empty():
                jobs.append(self._waiting.get_nowait())
            jobs = [job for job in jobs if not job.future.done()]  # done: its request gave up
            if not jobs:
                continue
            self._on_batch(len(jobs))
            self._since[stream] = time.monotonic()
            try:
                results = await loop.run_in_executor(
                    self._threads, self._detect, [job.image for job in jobs if job.image is not None]
                )
            finally:
                del self._since[stream]
            for job, result in zip(jobs, results, strict=True):
                future = job.future
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _detect(self, images: list[Image]) -> list[Detections | Exception]:
        """Each image's detections, or why there are none: an image that fails does its neighbours no harm."""
        try:
            return [*self._detector.detect_stream(images, self.most)]
        except Exception as error:
            return [error] if len(images) == 1 else [self._detect([image])[0] for image in images]

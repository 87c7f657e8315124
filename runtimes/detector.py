"""Detector: images in, detections out, on any runtime."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import overload

import numpy as np
import numpy.typing as npt

from .detections import Detections
from .errors import InvalidInput
from .postprocess import postprocess
from .preprocess import Image, preprocess
from .runtime import Request, RequestPool, Runtime, check_threads
from .spec import ModelSpec

MOST_AT_A_TIME = 8  # images of a sequence: more take memory and save no time


class Detector:
    """Preprocess, infer, postprocess.

    >>> with load("artifacts/yolox-nano-onnx-fp32") as detector:
    ...     detections = detector(cv2.imread("street.jpg"))

    score_threshold: detections below it are dropped. nms_threshold: the IoU over which two boxes of a class are one.
    streams: how many batches of a sequence are worked on at a time; what `runtime` was opened for. clip: boxes end at
    the edges of the image, and those without any area in it are dropped; False is for measuring AP, as the official
    evaluation does.

    Raises `InvalidInput` for thresholds that the artifact cannot serve (those of NMS in the graph are fixed).
    """

    def __init__(
        self,
        runtime: Runtime,
        score_threshold: float | None = None,
        nms_threshold: float | None = None,
        streams: int = 1,
        clip: bool = True,
    ) -> None:
        for name, value in (("score_threshold", score_threshold), ("nms_threshold", nms_threshold)):
            if value is not None and not (isinstance(value, (float, int)) and 0 <= value <= 1):
                raise InvalidInput(f"{name} must lie between 0 and 1, not be {value!r}.")
        check_threads(None, streams)
        built_in = runtime.spec.nms
        lowest = (built_in.score_threshold or 0.0) if built_in else 0.0
        if built_in and (nms_threshold is not None and nms_threshold != built_in.nms_threshold):
            at = "" if built_in.nms_threshold is None else f" at {built_in.nms_threshold}"
            raise InvalidInput(f"NMS{at} is built into {runtime.spec.name}: export again to change it.")
        if score_threshold is not None and score_threshold < lowest:
            raise InvalidInput(f"{runtime.spec.name} was exported with detections from {lowest} on: export it again.")
        self.runtime = runtime
        self.streams = streams
        self.clip = clip
        self.warnings: tuple[str, ...] = ()  # what the user should know about the results, for a command to print
        self._requests = RequestPool(runtime)
        self.score_threshold = max(0.25, lowest) if score_threshold is None else score_threshold
        self.nms_threshold = 0.65 if nms_threshold is None else nms_threshold

    @property
    def spec(self) -> ModelSpec:
        return self.runtime.spec

    @overload
    def __call__(self, images: Image) -> Detections: ...
    @overload
    def __call__(self, images: Sequence[Image]) -> list[Detections]: ...
    def __call__(self, images: Image | Sequence[Image]) -> Detections | list[Detections]:
        """Detect in one BGR uint8 image (H, W, 3), or in a sequence of them, of any sizes.

        An artifact that takes any batch gets up to 8 images of a sequence at a time; `detect_stream` lets you say.
        Raises `InvalidInput` where an image is something else.
        """
        # None is what cv2.imread gives for a file that it cannot read.
        if not isinstance(images, Sized) or (isinstance(images, np.ndarray) and images.ndim < 4):
            return self._detect([images])[0]
        share = math.ceil(len(images) / self.streams)
        return list(self.detect_stream(images, min(max(share, 1), MOST_AT_A_TIME)))

    def detect_stream(self, images: Iterable[Image], batch: int | None = None) -> Generator[Detections, None, None]:
        """Detect in images as they come, in order. `batch` is for artifacts that take any; others have their own.

        With one stream, an image is taken when the detections of the one before were. With more, so many batches are
        worked on at a time, by threads, while you use the results and `images` gives the next ones, in your thread; at
        most twice as many are on the way. An image has to stay as it is until its detections have come.
        """
        size = self.spec.batch or (1 if batch is None else batch)
        if size < 1:
            raise InvalidInput(f"batch must be at least 1, not {size}.")
        chunks = _chunks(images, size)
        return self._one_by_one(chunks) if self.streams == 1 else self._side_by_side(chunks)

    def _one_by_one(self, chunks: Iterator[list[Image]]) -> Generator[Detections, None, None]:
        for chunk in chunks:
            yield from self._detect(chunk)

    def _side_by_side(self, chunks: Iterator[list[Image]]) -> Generator[Detections, None, None]:
        """The detections of each batch, in order; `streams` of them at work, as many more waiting.

        Where `chunks` fails, what came before is detected first, as with one stream.
        """
        waiting: deque[Future[list[Detections]]] = deque()
        failure: list[BaseException] = []
        with ThreadPoolExecutor(self.streams, "detect") as pool:
            try:
                for chunk in _until(chunks, failure):
                    waiting.append(pool.submit(self._detect, chunk))
                    while waiting and (waiting[0].done() or len(waiting) == 2 * self.streams):
                        yield from waiting.popleft().result()
                while waiting:
                    yield from waiting.popleft().result()
            except Exception:
                _raise(failure)  # which may be Ctrl-C
                raise
            finally:  # also where nobody wants the rest
                for future in waiting:
                    future.cancel()
        _raise(failure)

    def _detect(self, images: list[Image]) -> list[Detections]:
        with self.request(len(images)) as request:
            ratios = self._fill(request, images)
            output = self._first(request.run(), len(images))
            sizes = [image.shape[:2] for image in images] if self.clip else None
            return postprocess(output, ratios, self.spec, self.score_threshold, self.nms_threshold, sizes)

    def infer(self, images: Sequence[Image]) -> tuple[npt.NDArray[np.float32], list[float]]:
        """Preprocess and infer at most one batch of images, at least one.

        Returns the artifact's output (see `ModelSpec`), your own memory, and each image's ratio. Raises `InvalidInput`
        for what is no image.
        """
        with self.request(len(images)) as request:
            ratios = self._fill(request, images)
            return self._first(request.run(), len(images)).copy(), ratios

    def request(self, count: int) -> AbstractContextManager[Request]:
        """Memory for a batch of so many images, or of the artifact's own number, and what runs it; see `Request`."""
        return self._requests.lend(self.spec.batch or max(count, 1))

    def _first(self, output: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
        """What concerns the first images of a batch; the rows of NMS in the graph say themselves whose they are."""
        return output if self.spec.nms else output[:count]

    def _fill(self, request: Request, images: Sequence[Image]) -> list[float]:
        """Preprocess into the memory of a request; returns each image's ratio."""
        count, places = len(images), request.images
        if not 0 < count <= len(places):
            raise InvalidInput(f"{self.spec.name} takes 1 to {len(places)} images at a time, not {count}.")
        _, ratios = preprocess(images, self.spec, places[:count])
        # An artifact of a fixed batch: fill it up with copies of the last image, and forget their results.
        places[count:] = places[count - 1]
        return ratios

    def warmup(self, runs: int = 2) -> None:
        """Run on grey images, every stream: backends compile and allocate at the first calls, which are slow for it."""
        with ExitStack() as stack, ThreadPoolExecutor(self.streams, "detect") as pool:
            requests = [stack.enter_context(self.request(1)) for _ in range(self.streams)]
            for request in requests:
                request.images[...] = self.spec.pad_value
            for _ in range(runs):
                list(pool.map(lambda request: request.run(), requests))

    def close(self) -> None:
        """Free everything that the backend holds. Detecting afterwards raises `InvalidInput`."""
        self._requests.close()
        self.runtime.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _chunks(images: Iterable[Image], size: int) -> Iterator[list[Image]]:
    """The images, so many at a time; what is there already where they fail, too."""
    chunk: list[Image] = []
    try:
        for image in images:
            chunk.append(image)
            if len(chunk) == size:
                yield chunk
                chunk = []
    except (Exception, KeyboardInterrupt):
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def _raise(failure: Sequence[BaseException]) -> None:
    for error in failure:
        raise error


def _until(source: Iterator[list[Image]], failure: list[BaseException]) -> Iterator[list[Image]]:
    """What `source` gives until it ends or fails; then `failure` holds why."""
    try:
        yield from source
    except (Exception, KeyboardInterrupt) as error:
        failure.append(error)

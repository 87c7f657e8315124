"""A video of a constant rate, made of pictures that come at any times and of any size."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from runtimes.errors import InvalidInput
from runtimes.preprocess import Image

from .files import replacing


class VideoOutput:
    """An open video, in which each picture is shown from its time on, to half a frame.

    A picture is repeated until the time of the next one, for `longest` seconds at most; of two that fall on one frame,
    the later one is shown. Pictures of another size than the first are fitted into it, with black borders. faults: what
    cannot be seen in the video, a sentence each, once it is finished.
    """

    def __init__(self, path: Path, rate: float, longest: float, stack: contextlib.ExitStack) -> None:
        self.faults: list[str] = []
        self._path, self._rate, self._stack = path, round(rate, 2), stack  # MPEG-4 takes no finer fractions
        self._longest = max(round(longest * self._rate), 1)
        self._writer: cv2.VideoWriter | None = None
        self._part, self._size = path, (0, 0)
        self._picture = np.empty((0, 0, 3), np.uint8)  # the last one that came; from frame `_place` on it is shown
        self._place = self._cut = self._covered = 0

    def write(self, picture: Image, time_ms: float) -> None:
        """Add a picture (H, W, 3) uint8, BGR, and say when it is shown, in milliseconds, no earlier than the last."""
        if self._writer is None:
            self._open(picture)
        else:
            place = max(math.floor(time_ms / 1000 * self._rate + 0.5) - self._cut, self._place)
            excess = max(place - self._place - self._longest, 0)
            self._cut += excess
            self._covered += place == self._place
            self._show(place - excess - self._place)
        self._picture = picture

    def _open(self, picture: Image) -> None:
        self._size = picture.shape[1], picture.shape[0]
        self._part = self._stack.enter_context(replacing(self._path))
        self._writer = cv2.VideoWriter(str(self._part), cv2.VideoWriter.fourcc(*"mp4v"), self._rate, self._size)
        self._stack.callback(self._writer.release)  # before the file takes its place
        if not self._writer.isOpened():
            raise InvalidInput(f"OpenCV cannot write the video {self._path}.")

    def _show(self, times: int) -> None:
        """Write the last picture so many times."""
        assert self._writer is not None
        fitted = fit(self._picture, self._size) if times else self._picture
        for _ in range(times):
            self._writer.write(fitted)
        self._place += times

    def finish(self) -> None:
        """Show the last picture for one frame. Raises `OSError` where the disk did not hold the video."""
        if self._writer is None:
            return
        self._show(1)
        self._writer.release()
        if not cv2.VideoCapture(str(self._part)).isOpened():  # OpenCV says nothing when the disk is full
            raise OSError(f"{self._path} could not be written to its end: is the disk full?")
        if self._covered:
            self.faults.append(
                f"{self._covered} frames come faster than the {self._rate:g} a second of the video: it does not show "
                "them, detections.json has them."
            )
        if self._cut:
            self.faults.append(
                f"the video leaves out {self._cut / self._rate:.0f} s in which no frame came: the times in "
                "detections.json are right."
            )


@contextlib.contextmanager
def writing_video(path: Path, rate: float, longest: float) -> Iterator[VideoOutput]:
    """A video, which takes the place of `path` if the block ends well and a picture came; else there is none.

    rate: frames a second. longest: seconds for which a picture is shown at most. Raises `OSError` where the disk does
    not hold it.
    """
    with contextlib.ExitStack() as stack:
        output = VideoOutput(path, rate, longest, stack)
        yield output
        output.finish()


def fit(picture: Image, size: tuple[int, int]) -> Image:
    """The picture, scaled into the middle of a black one of (width, height) where it has another size."""
    height, width = picture.shape[:2]
    if (width, height) == size:
        return picture
    scale = min(size[0] / width, size[1] / height)
    inner = max(int(width * scale), 1), max(int(height * scale), 1)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(picture, inner, interpolation=cv2.INTER_AREA)
    return canvas

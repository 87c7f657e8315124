"""Frames of a video, each with its number and its time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from runtimes.errors import InvalidInput
from runtimes.preprocess import Image, check_image

from .data.jpeg import decode_jpeg

SLOWEST, USUAL, FASTEST = 0.1, 25.0, 240.0  # frames a second: what a rate can be, and the one where none is known
PROBED = 100  # frames whose times are looked at before a file is read
STEADY = 0.75  # share of a frame: times that vary by less still fit the rate that the file states
JPEGS = {".mjpeg", ".mjpg"}  # files of pictures one after the other, which look like one picture at their start
SLACK = 0.5  # seconds by which the frames of a whole file may end before the file says


@dataclass(frozen=True)
class Frame:
    """image: (H, W, 3) uint8, BGR, memory of its own. number: of the frame in its source, from 0; frames that were
    passed over count. time_ms: milliseconds since the first frame: of a file the presentation time, of a live source
    when it arrived."""

    image: Image
    number: int
    time_ms: float


class FrameSource(Protocol):
    """What gives frames: `VideoFile` or `streams.FrameGrabber`.

    rate: frames a second that a video of a constant rate needs to show each of them. live: whether it cannot be
    waited for: then the newest frame is given, and older ones are dropped. total: frames there will be, as far as it is
    known. started: when the first frame of a live source came, in UTC. faults: what went wrong so far, a sentence
    each.
    """

    rate: float
    live: bool
    total: int | None
    received: int
    dropped: int
    reconnects: int
    started: datetime | None

    @property
    def faults(self) -> list[str]: ...
    def __iter__(self) -> Iterator[Frame]: ...
    def close(self) -> None: ...


class Capture:
    """What OpenCV has opened as video.

    jpegs: that the pictures of Motion JPEG may change in size. Each is then decoded by itself: FFmpeg, as OpenCV uses
    it, squeezes what follows into the first size, or garbles it (opencv/opencv#27116).
    """

    def __init__(self, capture: cv2.VideoCapture, jpegs: bool = False) -> None:
        self.length = Length(capture)
        self._capture = capture
        self._jpegs = jpegs and int(capture.get(cv2.CAP_PROP_FOURCC)) == cv2.VideoWriter.fourcc(*"MJPG")
        if self._jpegs:
            capture.set(cv2.CAP_PROP_FORMAT, -1)  # bytes as they come

    def grab(self) -> bool:
        """Take the next frame; False at the end, and where it breaks."""
        return self._capture.grab()

    @property
    def position(self) -> float:
        """Presentation time of the frame that was grabbed last, in milliseconds, as the container says it."""
        return self._capture.get(cv2.CAP_PROP_POS_MSEC)

    def retrieve(self) -> Image | None:
        """The frame that was grabbed last; None where it is damaged."""
        found, frame = self._capture.retrieve()
        if found and self._jpegs:
            content = np.asarray(frame, np.uint8).ravel()
            return decode(content)
        return as_bgr(frame) if found else None

    def close(self) -> None:
        self._capture.release()


def decode(content: npt.NDArray[np.uint8]) -> Image | None:
    """An encoded picture; None for what is none, or not whole."""
    try:
        return decode_jpeg(content.tobytes())
    except cv2.error:
        return None


class Length:
    """What a capture says of its length. frames: how many, 0 where it says none. stated: its rate, 0 for nonsense."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        frames, rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
        self.frames = int(frames) if math.isfinite(frames) and frames > 0 else 0
        self.stated = rate if SLOWEST <= rate <= FASTEST else 0.0  # NaN fits nowhere

    @property
    def seconds(self) -> float:
        """0 where it is not known."""
        return self.frames / self.stated if self.stated else 0.0

    def is_short_of(self, frames: int, last: float) -> bool:
        """Whether so many frames, of which the last came at `last` ms, end before it.

        Both have to be too few: with a variable rate the number of frames is an estimate.
        """
        return frames < self.frames - 1 and last / 1000 < self.seconds - max(SLACK, 2 / (self.stated or USUAL))

    def cut_short(self, name: str, last: float) -> str:
        return f"{name} should last {self.seconds:.1f} s, but its frames end at {last / 1000:.1f} s: is it cut short?"


class Clock:
    """Milliseconds since the first frame of a capture, always growing; last: of the last frame.

    They come from the container; where it says nothing, or goes back in time, from `rate`, in frames a second.
    """

    def __init__(self, rate: float) -> None:
        self.last = -math.inf
        self._first, self._frame = 0.0, 1000 / rate

    def time_of(self, position: float) -> float:
        """position: of the next frame, in milliseconds; see `Capture.position`."""
        if self.last == -math.inf:
            self._first, self.last = position, 0.0
        else:
            time = position - self._first
            self.last = time if time > self.last else self.last + self._frame
        return self.last


class VideoFile:
    """The frames of a file that OpenCV opens as video, in order, each `every`-th of them.

    Raises `InvalidInput` where it holds none.
    """

    live, dropped, reconnects = False, 0, 0

    def __init__(self, path: str, every: int = 1) -> None:
        rate = probe_rate(path)
        self.rate = max(rate / every, SLOWEST)
        self.received = 0
        self.started: datetime | None = None  # of live sources alone
        self._damaged, self._short = 0, list[str]()
        self._path, self._every = path, every
        self._capture = Capture(cv2.VideoCapture(path), jpegs=Path(path).suffix.lower() in JPEGS)
        length = self._capture.length
        self._clock = Clock(length.stated or rate)
        self.total = math.ceil(length.frames / every) if length.frames else None

    def __iter__(self) -> Iterator[Frame]:
        capture = self._capture
        while capture.grab():
            number, time_ms = self.received, self._clock.time_of(capture.position)
            self.received += 1
            if number % self._every == 0:
                image = capture.retrieve()
                self._damaged += image is None
                if image is not None:
                    yield Frame(image, number, time_ms)
        if capture.length.is_short_of(self.received, self._clock.last):
            self._short.append(capture.length.cut_short(self._path, self._clock.last))

    @property
    def faults(self) -> list[str]:
        return damaged_sentence(self._damaged, self._path) + self._short

    def close(self) -> None:
        self._capture.close()


def damaged_sentence(count: int, name: str) -> list[str]:
    """What to say of frames that could not be decoded, if there are any."""
    are = "frame is" if count == 1 else "frames are"
    return [f"{count} {are} damaged, of {name}: passed over."] if count else []


def probe_rate(path: str) -> float:
    """Frames a second that are enough to show each of the first frames of a file at its time.

    It is the rate that the file states, unless that is nonsense or the frames come faster. Raises `InvalidInput` where
    there is no frame.
    """
    capture = Capture(cv2.VideoCapture(path))
    stated = capture.length.stated
    clock, times = Clock(stated or USUAL), list[float]()
    while len(times) < PROBED and capture.grab():
        times.append(clock.time_of(capture.position))
    capture.close()
    if not times:
        raise InvalidInput(f"{path} holds no frame that OpenCV reads.")
    intervals = np.diff(times)
    possible = intervals[intervals >= 1000 / FASTEST]
    if possible.size == 0:
        return stated or (FASTEST if intervals.size else USUAL)
    shortest = float(possible.min())
    return stated if stated and shortest >= STEADY * 1000 / stated else 1000 / shortest


def as_bgr(frame: Any) -> Image:
    """A frame as BGR uint8 (H, W, 3), as `read_image` makes of images: grey becomes three channels, 16 bits become 8.

    Raises `InvalidInput` for other kinds of numbers.
    """
    if frame.dtype == np.uint16:
        frame = (frame >> 8).astype(np.uint8)
    channels = frame.shape[2] if frame.ndim == 3 else 1
    if frame.dtype == np.uint8 and channels in (1, 4) and frame.size:
        frame = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR)
    return check_image(frame)

"""The newest frame of a live source: a stream on the network, or a camera. Needs OpenCV and NumPy only.

with FrameGrabber("rtsp://192.168.1.20/live") as frames:
    for frame in frames:
        detections = detector(frame.image)
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from types import TracebackType

import cv2

from runtimes.errors import InvalidInput, UserError

from .frames import SLOWEST, USUAL, Capture, Clock, Frame, damaged_sentence

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between tries to connect again: each twice the one before
OPEN_TIMEOUT, READ_TIMEOUT = 10.0, 5.0  # seconds; OpenCV's own are 30 each
FIRST_FRAME = 30.0  # seconds until the first frame: to connect, to look at the stream, to wait for a key frame
RECONNECT = 60.0  # seconds without a frame after which a source is given up
CLOSE_TIMEOUT = 0.5  # seconds that `close` waits for OpenCV, which may wait for a dead server
FILE_SCHEMES = {"http", "https", "ftp", "ftps"}  # whose servers also give files, as fast as they are read
SECRET = re.compile(r"((?:pass\w*|pwd|token|key|secret|auth\w*|sig\w*|\w*pw)=)[^&/?#\s]*", re.IGNORECASE)


class StreamLost(UserError):
    """A live source gave no frame for too long."""


class FrameGrabber:
    """Reads a live source in a thread of its own, so that whoever asks gets the newest frame.

    source: URL, camera number, device such as /dev/video0, or a GStreamer pipeline where OpenCV is built with it.
    every: only each so-many-th frame is given. reconnect: seconds without a frame after which it is given up; until
    then a source that breaks is opened again, after pauses from half a second to ten; `math.inf` never gives up, 0
    never connects again. say: gets a sentence when the source breaks for the first time, in the grabbing thread.

    At most one frame waits to be taken; one that a newer one replaces is counted in `dropped`, as is one that is
    damaged. A file on a web server is the exception: each of its frames is given, and its end is the end (`live` is
    False). received: frames that came, also those that were passed over. started: when the first frame came, in UTC.

    Raises `InvalidInput` where the source cannot be opened, or gives no frame.
    """

    def __init__(
        self,
        source: str | int,
        every: int = 1,
        reconnect: float = RECONNECT,
        say: Callable[[str], object] | None = None,
    ) -> None:
        self.name = mask(str(source)) if isinstance(source, str) else f"camera {source}"
        self.received = self.dropped = self.reconnects = 0
        self.rate, self.live = USUAL, True
        self.total: int | None = None
        self._damaged, self._in_a_row, self._short = 0, 0, list[str]()
        self.started: datetime | None = None
        self._source, self._every, self._reconnect, self._say = source, every, reconnect, say
        self._newest: Frame | None = None
        self._first = self._last = 0.0  # when these frames came, by the clock that never goes back
        self._error: Exception | None = None
        self._ended = False
        self._change = threading.Condition()  # of the fields above
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="grabber", daemon=True)
        self._thread.start()
        try:
            self._wait(FIRST_FRAME)
        except BaseException:
            self.close()
            raise

    def read(self) -> Frame | None:
        """Wait for a frame that was not given yet, and return the newest; None when the source has ended.

        Raises `StreamLost` where none came for `reconnect` seconds.
        """
        self._wait(self._reconnect or FIRST_FRAME)
        with self._change:
            frame, self._newest = self._newest, None
            self._change.notify_all()
            return frame

    @property
    def faults(self) -> list[str]:
        return damaged_sentence(self._damaged, self.name) + self._short

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.read, None)

    def close(self) -> None:
        """Stop. Where OpenCV waits for a dead server, its thread ends when that does, in seconds."""
        self._stop.set()
        with self._change:
            self._change.notify_all()
        self._thread.join(CLOSE_TIMEOUT)

    def __enter__(self) -> FrameGrabber:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self, seconds: float) -> None:
        """Until there is a frame to take, or the source has ended; so many seconds without any frame at most."""
        start = time.monotonic()
        with self._change:
            while self._newest is None and not self._ended:
                if time.monotonic() - max(start, self._last) > seconds:
                    raise self._lost(seconds)
                self._change.wait(0.1)  # not longer: on Windows Ctrl-C waits for it
            if self._newest is None and self._error:
                raise self._error

    def _lost(self, seconds: float) -> UserError:
        if not self.received:
            return InvalidInput(f"{self.name} gives no frame: does the address play in another program?")
        if self._in_a_row:
            return StreamLost(f"{self.name} gave only damaged frames for {seconds:g} s: given up.")
        return StreamLost(f"no frame of {self.name} for {seconds:g} s: given up.")

    def _advice(self) -> str:
        if is_url(self._source):
            return "is it there, and are the address and the password right?"
        return "is it connected, and does no other program use it?"

    def _run(self) -> None:
        """The grabbing thread: read until the source breaks, and open it again after a pause."""
        try:
            pause = FIRST_PAUSE
            while not self._stop.is_set():
                before = self.received
                if self._read_until_it_breaks():
                    break
                if not self.received:
                    raise InvalidInput(f"cannot open {self.name}: {self._advice()}")
                if self._reconnect == 0:
                    raise StreamLost(f"{self.name} broke.")
                if self._say:
                    self._say(f"{self.name} broke: connecting again.")
                    self._say = None
                pause = FIRST_PAUSE if self.received > before else min(2 * pause, LONGEST_PAUSE)
                self._stop.wait(pause)
        except Exception as error:
            self._error = error
        with self._change:
            self._ended = True
            self._change.notify_all()

    def _read_until_it_breaks(self) -> bool:
        """Returns whether that was all there is: the end of a file, or `close`."""
        before, capture = self.received, open_capture(self._source)
        try:
            length = capture.length
            self.rate = max((length.stated or USUAL) / self._every, SLOWEST)
            self.live = not (length.frames and is_url(self._source, FILE_SCHEMES))
            self.total = None if self.live else math.ceil(length.frames / self._every)
            clock = Clock(length.stated or USUAL)
            while not self._stop.is_set() and capture.grab():
                time_ms = clock.time_of(capture.position)
                self._take(capture, time_ms, self.received == before)
            if self._stop.is_set():
                return True
            whole = bool(length.frames) and not length.is_short_of(self.received - before, clock.last)
            if not self.live and not whole and self.received:
                self._short.append(length.cut_short(self.name, clock.last))
            return whole or bool(not self.live and self.received)
        except cv2.error:  # of a stream whose bytes are damaged
            return False
        finally:
            capture.close()

    def _take(self, capture: Capture, time_ms: float, again: bool) -> None:
        """Make the frame that was grabbed the newest. time_ms: its time in a file. again: the first of a connection."""
        wanted = self.received % self._every == 0
        image = capture.retrieve() if wanted else None
        now = time.monotonic()
        with self._change:
            self._damaged += wanted and image is None
            self._in_a_row = 0 if image is not None else self._in_a_row + wanted
            if image is not None or (not wanted and self._in_a_row < 3):  # more: it is damaged, not silent
                self._last = now
            if not self.received:
                self._first, self.started = now, datetime.now(timezone.utc)
            elif again:
                self.reconnects += 1
            number = self.received
            self.received += 1
            if image is None:
                self.dropped += wanted  # damaged
                return
            while not self.live and self._newest is not None and not self._stop.is_set():
                self._change.wait()
            self.dropped += self._newest is not None and not self._stop.is_set()
            self._newest = Frame(image, number, (now - self._first) * 1000 if self.live else time_ms)
            self._change.notify_all()


def open_capture(source: str | int) -> Capture:
    """Open a stream or a camera; where that fails, there are no frames.

    FFmpeg alone gets URLs, since other readers print them when they fail. It decodes in one thread: each further thread
    is a frame of latency.
    """
    if isinstance(source, int):
        return Capture(cv2.VideoCapture(source))
    if is_url(source):
        options = {
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: OPEN_TIMEOUT * 1000,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC: READ_TIMEOUT * 1000,
            cv2.CAP_PROP_N_THREADS: 1,
        }
        flat = [int(one) for pair in options.items() for one in pair]
        return Capture(cv2.VideoCapture(source, cv2.CAP_FFMPEG, flat), jpegs=True)
    return Capture(cv2.VideoCapture(source, cv2.CAP_GSTREAMER if is_pipeline(source) else cv2.CAP_V4L2))


def is_url(source: str | int, schemes: set[str] | None = None) -> bool:
    """Whether it is an address, with one of the schemes."""
    found = re.match(r"([a-z][a-z0-9+.-]*)://", source, re.IGNORECASE) if isinstance(source, str) else None
    return bool(found and (schemes is None or found[1].lower() in schemes))


def is_pipeline(source: str) -> bool:
    """Whether it is a GStreamer pipeline: elements with exclamation marks between them."""
    return " ! " in source


def mask(source: str) -> str:
    """An address without its password, and without what it may say of keys and tokens."""
    source = SECRET.sub(r"\1***", source)
    found = re.match(r"([^:/]+://)([^/?#]*)(.*)", source, re.DOTALL)
    if not found:
        return source
    scheme, where, rest = found.groups()
    if "@" not in where and "@" in rest and not re.fullmatch(r"\[.*\](:\d*)?|[^:]*(:\d*)?", where):
        where, rest = where + rest, ""  # a password with a slash in it, which should be %2F
    if "@" not in where:
        return source
    user, host = where.rsplit("@", 1)
    return f"{scheme}{user.split(':')[0]}{':***' if ':' in user else ''}@{host}{rest}"

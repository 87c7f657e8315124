"""Detect in a video or in what a camera sees, and write a video with the boxes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
from tqdm import tqdm

from runtimes.detector import Detector
from runtimes.errors import InvalidInput
from runtimes.preprocess import Image

from .drawing import draw
from .files import replacing
from .gallery import Gallery
from .results import Results

VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"}


def open_video(source: str, camera: bool) -> cv2.VideoCapture:
    """Open a video file or a camera. Raises `InvalidInput` where that fails."""
    if not camera and not Path(source).exists():
        raise InvalidInput(f"{source} does not exist (patterns are for images; give one video at a time).")
    capture = cv2.VideoCapture(int(source) if camera else source)
    if not capture.isOpened():
        raise InvalidInput(f"cannot open {'camera ' if camera else ''}{source}.")
    return capture


def detect_video(
    detector: Detector,
    capture: cv2.VideoCapture,
    path: Path,
    batch: int | None,
    max_frames: int | None,
    results: Results,
    gallery: Gallery | None = None,
) -> None:
    """Detect in every frame, write one video, and add to `results` as it goes. Ctrl-C ends the video early.

    batch: frames at a time; None for a camera, of which each frame is detected in before the next is taken. gallery:
    gets one frame a second.
    """
    size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    known = [int(count) for count in (capture.get(cv2.CAP_PROP_FRAME_COUNT), max_frames or 0) if count > 0]
    interrupted = False
    rate = capture.get(cv2.CAP_PROP_FPS) or 25
    with replacing(path) as part:
        writer = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
        if not writer.isOpened():
            raise InvalidInput(f"OpenCV cannot write the video {path}.")
        frames = tqdm(read_frames(capture, max_frames), total=min(known, default=None), unit="frame")
        waiting: deque[Image] = deque()  # frames that are being detected in, to draw on
        try:
            source = remember(frames, waiting)
            found = map(detector, source) if batch is None else detector.detect_stream(source, batch)
            for number, detections in enumerate(found):
                picture = draw(waiting.popleft(), detections, detector.spec.class_names)
                writer.write(picture)
                if gallery and number % max(round(rate), 1) == 0:
                    gallery.add_frame(picture, detections, number)
                results.add(detections, number, detector.spec.category_ids, detector.spec.class_names)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            writer.release()
            capture.release()
        if frames.n and not cv2.VideoCapture(str(part)).isOpened():  # OpenCV says nothing when the disk is full
            raise OSError(f"{path} could not be written to its end: is the disk full?")
    if interrupted:
        raise KeyboardInterrupt


def remember(frames: Iterable[Image], waiting: deque[Image]) -> Iterator[Image]:
    """The frames, each appended to `waiting` as it is given out."""
    for frame in frames:
        waiting.append(frame)
        yield frame


def read_frames(capture: cv2.VideoCapture, limit: int | None) -> Iterator[Image]:
    """Frames until the video ends, or `limit` of them."""
    number = 0
    while limit is None or number < limit:
        found, frame = capture.read()
        if not found:
            return
        yield frame.astype("uint8", copy=False)
        number += 1

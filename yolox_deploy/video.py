"""Detect in a video or a live source, and write a video with the boxes."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from runtimes.detector import Detector
from runtimes.preprocess import Image

from .console import warn
from .drawing import draw
from .frames import Frame, FrameSource
from .gallery import Gallery
from .progress import progress_bar
from .results import Results
from .streams import StreamLost
from .video_output import writing_video

# Seconds that a frame is shown at most when the next one is late: a stream may break for hours, which would be written
# all at once, and the times in a file may jump.
LONGEST_OF_STREAM, LONGEST_OF_FILE = 10.0, 3600.0


@dataclass
class VideoSummary:
    """What was detected in. frames: how many; received: frames that came, also those that were passed over; dropped:
    those of a live source that were older than the newest. seconds: time of the last frame. sizes: the frame from which
    on the picture has a size. started: of a live source, when the first frame came. faults: sentences, each of which
    was said. lost: why a live source was given up."""

    frames: int = 0
    received: int = 0
    dropped: int = 0
    reconnects: int = 0
    seconds: float = 0.0
    sizes: list[dict[str, int]] = field(default_factory=list)
    started: datetime | None = None
    faults: list[str] = field(default_factory=list)
    lost: str = ""

    def as_json(self) -> dict[str, Any]:
        """What `--json` says of the video."""
        started = self.started.isoformat(timespec="milliseconds") if self.started else None
        counts = {name: getattr(self, name) for name in ("frames", "received", "dropped", "reconnects")}
        return {**counts, "seconds": round(self.seconds, 3), "sizes": self.sizes, "started": started}


def detect_video(
    detector: Detector,
    source: FrameSource,
    path: Path,
    batch: int,
    max_frames: int | None,
    results: Results,
    gallery: Gallery | None = None,
) -> VideoSummary:
    """Detect in every frame that `source` gives, write one video, and add to `results` as it goes. Ctrl-C ends it.

    batch: frames of a file at a time; of a live source each frame is detected in before the newest is taken.
    gallery: gets one frame a second. Closes the source, and says what went wrong on standard error.
    """
    summary = VideoSummary()
    waiting: deque[Frame] = deque()  # frames that are being detected in, to draw on
    interrupted, second = False, -1
    known = [count for count in (source.total, max_frames) if count]
    longest = LONGEST_OF_STREAM if source.live else LONGEST_OF_FILE
    with writing_video(path, source.rate, longest) as output, contextlib.closing(source):
        frames = progress_bar(limited(source, max_frames, summary), total=min(known, default=None), unit="frame")
        try:
            images = remember(frames, waiting)
            found = map(detector, images) if source.live else detector.detect_stream(images, batch)
            for detections in found:
                frame = waiting.popleft()
                note_size(summary, frame)
                picture = draw(frame.image, detections, detector.spec.class_names)
                output.write(picture, frame.time_ms)
                if gallery and frame.time_ms // 1000 > second:
                    second = int(frame.time_ms // 1000)
                    gallery.add_frame(picture, detections, frame.number)
                spec = detector.spec
                results.add(detections, frame.number, spec.category_ids, spec.class_names, frame.time_ms)
                summary.frames, summary.seconds = summary.frames + 1, frame.time_ms / 1000
        except KeyboardInterrupt:
            interrupted = True
    summary.received, summary.dropped, summary.reconnects = source.received, source.dropped, source.reconnects
    summary.started = source.started
    summary.faults += [*source.faults, *output.faults]
    if len(summary.sizes) > 1:
        summary.faults.append(sizes_sentence(summary.sizes))
    for fault in summary.faults:
        warn(fault)
    if interrupted:
        raise KeyboardInterrupt
    return summary


def limited(source: FrameSource, limit: int | None, summary: VideoSummary) -> Iterator[Frame]:
    """The frames, `limit` of them at most, until a live source is lost."""
    try:
        for number, frame in enumerate(source, 1):
            yield frame
            if number == limit:
                return
    except StreamLost as lost:
        summary.lost = str(lost)


def remember(frames: Iterable[Frame], waiting: deque[Frame]) -> Iterator[Image]:
    """The images of the frames, each of which is appended to `waiting` as its image is given out."""
    for frame in frames:
        waiting.append(frame)
        yield frame.image


def note_size(summary: VideoSummary, frame: Frame) -> None:
    """Note from which frame on the picture has another size."""
    height, width = frame.image.shape[:2]
    last = summary.sizes[-1] if summary.sizes else {}
    if (last.get("width"), last.get("height")) != (width, height):
        summary.sizes.append({"frame": frame.number, "width": width, "height": height})


def sizes_sentence(sizes: list[dict[str, int]]) -> str:
    first, second = sizes[:2]
    more = f", and {len(sizes) - 2} times more" if len(sizes) > 2 else ""
    return (
        f"the size of the picture changes at frame {second['frame']} from {first['width']}x{first['height']} to "
        f"{second['width']}x{second['height']}{more}: boxes are in pixels of the frame, and the video keeps the first "
        "size."
    )

"""Objects with a number of their own through a video: YOLOX detects, Norfair tracks.

    pip install -e ".[examples,onnx]"
    python examples/track_video.py artifacts/yolox-s-onnx-fp32 street.mp4 tracks

Writes tracks/tracks.mp4, the video with boxes and numbers, and tracks/tracks.csv: frame (from 0), track, class,
confidence, left, top, right, bottom in pixels, a line for each object in each frame in which it was detected.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import norfair
import tyro
from tqdm import tqdm

from runtimes import Detections, Detector, InvalidInput, UserError, load
from runtimes.preprocess import Image
from yolox_deploy.drawing import class_colour
from yolox_deploy.files import check_output_folder, replacing

LOST_AFTER = 15  # frames without a detection; until then an object keeps its number
SEEN_BEFORE = 2  # frames in which something was detected before it counts as an object


class Tracked(NamedTuple):
    """One object in one frame. box: left, top, right, bottom in pixels. track: its number in this video, from 1."""

    track: int
    class_id: int
    confidence: float
    box: tuple[float, ...]


class ObjectTracker:
    """Tracks by the overlap of boxes, each class for itself. One for each video."""

    def __init__(self) -> None:
        # The distance is 1 - IoU: boxes that overlap by less than 0.3 are not the same object.
        self._tracker = norfair.Tracker("iou", 0.7, hit_counter_max=LOST_AFTER, initialization_delay=SEEN_BEFORE)
        self._frame = 0

    def update(self, detections: Detections) -> list[Tracked]:
        """The objects that were detected in the next frame."""
        self._frame += 1
        found = [
            norfair.Detection(
                box.reshape(2, 2).astype(float), data=(self._frame, box, confidence, class_id), label=class_id
            )
            for box, confidence, class_id in detections
        ]
        # Norfair tells of lost objects, too, for a while; those have no detection in this frame.
        last = [(one, one.last_detection.data) for one in self._tracker.update(found)]
        return [
            Tracked(int(one.id or 0), class_id, confidence, tuple(box.tolist()))
            for one, (frame, box, confidence, class_id) in last
            if frame == self._frame
        ]


def draw(frame: Image, objects: list[Tracked], class_names: tuple[str, ...]) -> None:
    for one in objects:
        left, top, right, bottom = (round(side) for side in one.box)
        colour = class_colour(one.track)
        cv2.rectangle(frame, (left, top), (right, bottom), colour, 2)
        text = f"{one.track} {class_names[one.class_id]}"
        cv2.putText(frame, text, (left, top - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)


def frames_of(capture: cv2.VideoCapture) -> Iterator[Image]:
    while (read := capture.read())[0]:
        yield read[1].astype("uint8", copy=False)


def track(detector: Detector, capture: cv2.VideoCapture, video: Path, table: Path) -> int:
    """Write the video and the table; returns how many objects there were."""
    size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    tracker, seen = ObjectTracker(), set[int]()
    with replacing(video) as video_part, replacing(table) as table_part, table_part.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["frame", "track", "class", "confidence", "left", "top", "right", "bottom"])
        code = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(video_part), code, capture.get(cv2.CAP_PROP_FPS) or 25, size)
        if not writer.isOpened():
            raise InvalidInput(f"OpenCV cannot write the video {video}.")
        for number, frame in enumerate(tqdm(frames_of(capture), unit="frame")):
            objects = tracker.update(detector(frame))
            for one in objects:
                rows.writerow([number, one.track, detector.spec.class_names[one.class_id], one.confidence, *one.box])
            draw(frame, objects, detector.spec.class_names)
            writer.write(frame)
            seen |= {one.track for one in objects}
        writer.release()
    return len(seen)


def main(artifact: Path, source: Path, output: Path, /, score_threshold: float = 0.3) -> None:
    """Track the objects of a video; the video with their numbers and tracks.csv go into OUTPUT."""
    check_output_folder(output, "OUTPUT")
    video, table = output / "tracks.mp4", output / "tracks.csv"
    if source.absolute() == video.absolute():
        raise InvalidInput(f"the video would replace {source} itself; choose another OUTPUT.")
    capture = cv2.VideoCapture(str(source)) if source.exists() else None
    if capture is None or not capture.isOpened():
        raise InvalidInput(f"{source} is not a video that OpenCV reads.")
    with load(artifact, score_threshold=score_threshold) as detector:
        count = track(detector, capture, video, table)
    print(f"{count} objects in {table}")


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except UserError as error:
        sys.exit(f"error: {error}")

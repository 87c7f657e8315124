"""yolox-deploy detect: objects in images or video. Runs without torch."""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from exporters.lock import only_here
from runtimes.detector import Detector
from runtimes.errors import InvalidInput
from runtimes.preprocess import Image

from .console import run, warn
from .data.images import find_images, read_image
from .drawing import draw, write_picture
from .files import check_output_folder
from .frames import FrameSource, VideoFile
from .gallery import PAGE, Gallery, check_room, show, writing_gallery
from .json_output import NotPassed
from .model_argument import FirstModel, ModelOption, find_artifact, model_and_other
from .options import ForeignOptions, Json, check_positive, check_thresholds, open_artifact
from .progress import progress_bar
from .results import Results, plan_pictures, writing_results
from .sources import Source, find_source, quiet_opencv
from .streams import RECONNECT, FrameGrabber
from .video import VideoSummary, detect_video

TYPE_NEXT = "yolox-deploy detect ARTIFACT SOURCE, with the folder that export wrote, and an image or a video"


@dataclass(frozen=True, kw_only=True)
class DetectConfig:
    """Find objects in images or video, with pictures and a JSON file.

    OUTPUT gets a copy of each image (or the video) with the boxes drawn, and detections.json in COCO's results format
    with category_name beside category_id: image_id is the number in the file's name if every name is a number of its
    own, else the path, and the number of the frame for video, where time_ms is its time in milliseconds. Of a stream or
    camera the newest frame is taken. For image ids of a data set: `yolox-deploy evaluate --detections FILE`.
    """

    artifact: FirstModel = ""
    """Artifact: its folder, or the model file in it."""
    source: Annotated[str, tyro.conf.Positional] = ""
    """Image, folder, glob pattern (in quotes), video file, address of a stream (rtsp://, http:// and others), camera
    number, or device such as /dev/video0."""
    weights: ModelOption = ()
    """The same as ARTIFACT; then SOURCE stands alone."""
    output: Path = Path("detections")
    """Folder to write to."""
    score_threshold: float = 0.25
    """Detections below it are dropped."""
    nms_threshold: float | None = None
    """IoU over which two boxes of a class are one; unset, 0.65."""
    batch: int = 1
    """Images at a time, where the artifact takes any number."""
    threads: int | None = None
    """Threads of the backend for one image; unset, the cores there are, shared out between the streams."""
    streams: int | None = None
    """Images (or batches) that are worked on at a time; unset, one for a camera, else one for each core, 8 at most."""
    max_frames: int | None = None
    """Stop a video, stream or camera after it was detected in so many frames; Ctrl-C stops it too, and what was seen is
    kept."""
    every: int = 1
    """Detect in every N-th frame of a video, stream or camera."""
    reconnect: float = RECONNECT
    """Seconds without a frame after which a stream or camera is given up; until then it is connected again when it
    breaks. 0 never connects again, inf never gives up."""
    show: bool = False
    """Write index.html too, a page to look at the pictures in (of video, one frame a second), and open it."""
    json: Json = None
    """File for a summary as JSON, {"detections", "images", "left_out", "output", "video", "warnings"}; "-" is standard
    output, which then holds nothing else."""
    foreign: Annotated[ForeignOptions, tyro.conf.arg(name="third-party files")] = field(default_factory=ForeignOptions)


def command(config: DetectConfig) -> dict[str, Any]:
    artifact, source = model_and_other(config.artifact, config.source, config.weights, TYPE_NEXT)
    config = replace(config, source=source)
    check_thresholds(score_threshold=config.score_threshold, nms_threshold=config.nms_threshold)
    check_positive(batch=config.batch, threads=config.threads, streams=config.streams)
    check_positive(max_frames=config.max_frames, every=config.every)
    if not config.reconnect >= 0:
        raise InvalidInput(f"--reconnect must be at least 0 seconds, not {config.reconnect:g}.")
    check_output_folder(config.output, "--output")
    with quiet_opencv():
        found = find_source(source)
        if found.kind == "images" and (config.every > 1 or config.max_frames is not None):
            raise InvalidInput(f"--every and --max-frames are for videos, streams and cameras; {source} names images.")
        pictures = plan_pictures(images_of(found), config.output) if found.kind == "images" else {}
        return detect(config, artifact, found, pictures)


def detect(config: DetectConfig, artifact: str, source: Source, pictures: dict[Path, Path]) -> dict[str, Any]:
    """Detect in what was found, and return the summary. Raises `NotPassed` with it where something was left out."""
    if config.show:
        check_room(config.output, pictures.values())
    video = None if pictures else video_path(config.output, source)
    notes = [warn(source.note)] if source.note else []
    if (config.output / "detections.json").exists():
        notes.append(
            warn(f"{config.output} holds an earlier run's pictures, which stay where they are not written again.")
        )
    streams = config.streams or (1 if source.kind == "live" else None)
    with open_artifact(
        find_artifact(artifact),
        config.foreign,
        config.score_threshold,
        config.nms_threshold,
        config.threads,
        streams,
    ) as detector:
        notes += [warn(warning) for warning in detector.warnings]
        frames = open_frames(config, source)
        closing = contextlib.nullcontext() if frames is None else contextlib.closing(frames)
        busy = f"another process detects into {config.output}: wait for it."
        with closing, only_here(config.output / ".detect.lock", busy):
            left_out, count, seen = detect_all(config, detector, pictures, frames, video, source)
        if config.show:
            show(config.output / PAGE)
    images = len(pictures) or None
    notes += seen.faults if seen else []
    summary: dict[str, Any] = {"detections": count, "images": images, "left_out": left_out}
    summary |= {"output": str(config.output), "video": seen and seen.as_json(), "warnings": notes}
    if left_out:
        print("\n".join(f"left out: {why}" for why in left_out), file=sys.stderr)
        raise NotPassed(f"{len(left_out)} of {images} images were left out.", summary)
    if seen and seen.lost:
        raise NotPassed(f"{seen.lost} What was seen before is kept.", summary)
    return summary


def images_of(source: Source) -> list[Path]:
    """Raises `InvalidInput` where there are none, with what is there instead."""
    try:
        return find_images(str(source.opened))
    except InvalidInput as error:
        raise InvalidInput(f"{error} {source.note}".strip()) from None


def open_frames(config: DetectConfig, source: Source) -> FrameSource | None:
    """Open a video or a live source; None for images. Raises `InvalidInput` where there is no frame."""
    if source.kind == "live":
        return FrameGrabber(source.opened, config.every, config.reconnect, say=warn)
    return VideoFile(str(source.opened), config.every) if source.kind == "video" else None


def detect_all(
    config: DetectConfig,
    detector: Detector,
    pictures: dict[Path, Path],
    frames: FrameSource | None,
    video: Path | None,
    source: Source,
) -> tuple[list[str], int, VideoSummary | None]:
    """Detect in the images or the video, and keep what is done, also after Ctrl-C.

    Returns why images were left out, how many detections there are, and what was seen of a video.
    """
    results, left_out, seen = None, list[str](), None
    try:
        with contextlib.ExitStack() as stack:
            results = stack.enter_context(writing_results(config.output / "detections.json"))
            gallery = stack.enter_context(open_gallery(config, detector, video, source)) if config.show else None
            if video is not None and frames is not None:
                seen = detect_video(detector, frames, video, config.batch, config.max_frames, results, gallery)
            else:
                left_out = detect_images(detector, pictures, config.batch, results, gallery)
    finally:
        if results is not None and results.kept:
            page = f"; to look at: {config.output / PAGE}" if config.show else ""
            print(f"{results.count} detections, pictures and detections.json in {config.output}{page}")
            if results.count == 0:
                print(f"note: nothing scores {config.score_threshold:g} or more; a lower --score-threshold shows more.")
    return left_out, results.count, seen


def open_gallery(
    config: DetectConfig, detector: Detector, video: Path | None, source: Source
) -> contextlib.AbstractContextManager[Gallery]:
    """The page of --show."""
    title = f"{detector.spec.name}: {source.name}"
    return writing_gallery(config.output, title, detector.spec.class_names, detector.score_threshold, video)


def detect_images(
    detector: Detector, pictures: dict[Path, Path], batch: int, results: Results, gallery: Gallery | None = None
) -> list[str]:
    """Detect in every image, write its picture, and add to `results` and `gallery` as it goes.

    Returns why images could not be read, a sentence for each; the others are done.
    """
    stems = [path.stem for path in pictures]
    numbered = all(stem.isdecimal() for stem in stems) and len(set(map(int, stems))) == len(stems)
    waiting: deque[tuple[Path, Image]] = deque()  # images that are being detected in, to draw on
    unread: list[str] = []

    def images() -> Iterator[Image]:
        for path in progress_bar(pictures, unit="image", desc=detector.spec.name):
            try:
                waiting.append((path, read_image(path)))
            except InvalidInput as error:
                unread.append(str(error))
                continue
            yield waiting[-1][1]

    for detections in detector.detect_stream(images(), batch):
        path, image = waiting.popleft()
        picture = draw(image, detections, detector.spec.class_names)
        write_picture(pictures[path], picture)
        if gallery:
            gallery.add(picture, detections, pictures[path])
        image_id = int(path.stem) if numbered else str(path)
        results.add(detections, image_id, detector.spec.category_ids, detector.spec.class_names)
    return unread


def video_path(output: Path, source: Source) -> Path:
    """Where the video with the boxes goes. Raises `InvalidInput` where it would replace the source."""
    path = output / f"{source.stem}.mp4"
    if source.kind == "video" and path.resolve() == Path(str(source.opened)).resolve():
        raise InvalidInput(f"the video would replace {path} itself; choose another --output.")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy detect", DetectConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""What a SOURCE of `detect` is: images, a video file, or a live source."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

import cv2

from runtimes.errors import InvalidInput
from runtimes.json_file import check_regular

from .data.images import IMAGE_SUFFIXES, is_image, is_text, read_image
from .frames import JPEGS, probe_rate
from .streams import is_pipeline, is_url, mask

# What is a video is asked of OpenCV; names decide only where that would be wrong.
ANIMATED = {".gif", ".png", ".apng"}  # pictures that may move, and which FFmpeg reads then
# FFmpeg paints texts as a terminal would, and takes any bytes for such a text.
TERMINAL = {".txt", ".nfo", ".diz", ".asc", ".ans", ".art", ".ice", ".vt", ".bin", ".xb", ".adf", ".idf"}
# Photos of which FFmpeg gives one tile, by the brand that the file starts with.
STILL_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"mif1", b"mif2", b"miaf", b"avif", b"jxl "}
# To count the videos that lie among images: opening every file would take too long.
VIDEO_SUFFIXES = {
    ".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".asf", ".flv",
    ".3gp", ".3g2", ".ogv", ".vob", ".m2v", ".y4m", ".h264", ".264", ".h265", ".hevc", ".mxf", ".gif", *JPEGS,
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """name: to show, without passwords. opened: what OpenCV opens, or where images are looked for. stem: of the name of
    the video that is written. note: what the user should know, "" for nothing."""

    kind: Literal["images", "video", "live"]
    name: str
    opened: str | int
    stem: str = ""
    note: str = ""


def find_source(text: str) -> Source:
    """Say what the user means. Raises `InvalidInput` for a file that is neither image nor video."""
    path = Path(text)
    if is_url(text, {"file"}):
        text = url2pathname(urlsplit(text).path)
        path = Path(text)
    if is_url(text):
        return Source("live", mask(text), text, "stream")
    if not exists(path):
        if text.isdecimal():
            return Source("live", f"camera {text}", int(text), f"camera-{text}")
        if is_pipeline(text):
            if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
                raise InvalidInput("this looks like a GStreamer pipeline, and OpenCV is built without GStreamer here.")
            return Source("live", mask(text), text, "stream")
        if text.startswith("/dev/"):
            raise InvalidInput(f"there is no {text}: is the camera connected?")
        if path.suffix.lower() in VIDEO_SUFFIXES - ANIMATED:
            missing = (
                "patterns are for images, give one video at a time." if glob.has_magic(text) else "is the path right?"
            )
            raise InvalidInput(f"{text} does not exist: {missing}")
        return Source("images", text, text)
    if path.is_char_device():
        return Source("live", text, text, path.name)
    if path.is_dir():
        return Source("images", text, text, note=videos_in(path))
    check_regular(path)
    return find_file(path)


def exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or holds a zero
        return False


def find_file(path: Path) -> Source:
    """A file: an image if OpenCV reads it as one, else a video if it opens it as one."""
    suffix, name = path.suffix.lower(), str(path)
    image, video = Source("images", name, name), Source("video", name, name, path.stem)
    if not is_text(path):
        return image
    if suffix in JPEGS:
        return video
    if suffix in IMAGE_SUFFIXES or cv2.haveImageReader(name):
        count = pictures_in(name)
        if count > 1 and suffix in ANIMATED:
            return video
        note = f"{name} holds {count} pictures: the first is detected in." if count > 1 else ""
        return Source("images", name, name, note=note)
    if suffix not in TERMINAL and not is_still(path) and opens(name):
        return video
    try:
        read_image(path)  # on Windows haveImageReader knows no names beyond ASCII
    except InvalidInput:
        raise InvalidInput(f"{name} is neither an image nor a video that OpenCV opens; is the file whole?") from None
    return image


def pictures_in(name: str) -> int:
    """How many pictures an image file holds; 1 for what cannot be read, which is said later."""
    try:
        return cv2.imcount(name)
    except cv2.error:
        return 1


def is_still(path: Path) -> bool:
    """Whether it is a HEIC or AVIF picture."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:12] in STILL_BRANDS


def opens(name: str) -> bool:
    """Whether OpenCV reads a frame of it as a video."""
    try:
        probe_rate(name)
    except InvalidInput:
        return False
    return True


def videos_in(folder: Path) -> str:
    """What to say of videos that lie among the images of a folder."""
    count = sum(path.suffix.lower() in VIDEO_SUFFIXES and not is_image(path) for path in folder.iterdir())
    return f"{count} video{'s' * (count > 1)} in {folder} left out: give one video at a time." if count else ""


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep what OpenCV and FFmpeg say of sources off the terminal, unless the user has set how much they may say.

    Our own sentences say it, and FFmpeg's may hold passwords. FFmpeg's level is read when the first video is opened.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    logging = getattr(cv2.utils, "logging", cv2)  # where OpenCV 5 has them, and 4
    level = logging.getLogLevel()
    if "OPENCV_LOG_LEVEL" not in os.environ:
        logging.setLogLevel(0)  # LOG_LEVEL_SILENT
    try:
        yield
    finally:
        logging.setLogLevel(level)

"""`detect --show`: the drawn pictures as a page to look at, with nothing beside it but the pictures."""

from __future__ import annotations

import contextlib
import html
import os
import sys
import webbrowser
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np

from runtimes.detections import Detections
from runtimes.errors import InvalidInput
from runtimes.json_file import check_regular, json_text
from runtimes.preprocess import Image

from .drawing import class_colour, write_picture
from .results import KeptFile, writing_kept

PAGE, THUMBNAILS, FRAMES = "index.html", "thumbnails", "frames"  # in the folder of the pictures
GENERATOR = '<meta name="generator" content="yolox-deploy">'
THUMBNAIL_SIDE = 400  # pixels: two for each of the page's, on a phone
STYLE, BODY, SCRIPT = (Path(__file__).with_name(f"gallery.{suffix}") for suffix in ("css", "html", "js"))


def check_room(folder: Path, pictures: Iterable[Path]) -> None:
    """Raise `InvalidInput` where pictures would go where those of the page go, or the page where another one is."""
    page, ours = folder / PAGE, False
    if page.exists():
        check_regular(page)
        with page.open(encoding="utf-8", errors="replace") as file:
            ours = GENERATOR in file.read(1000)
        if not ours:
            raise InvalidInput(f"{page} is another page, which --show would replace: choose another --output.")
    for taken in (folder / THUMBNAILS, folder / FRAMES):
        if taken.exists() and not ours:
            raise InvalidInput(f"{taken} is there already, and --show would write into it: choose another --output.")
    if any(path.relative_to(folder).parts[0] == THUMBNAILS for path in pictures):
        raise InvalidInput(
            f"--show keeps small pictures in {folder / THUMBNAILS}: give your folder of that name another."
        )


class Gallery:
    """An open page. count: pictures in it."""

    def __init__(self, folder: Path, file: KeptFile) -> None:
        self.count = 0
        self._folder, self._file = folder, file

    def add(self, picture: Image, detections: Detections, path: Path) -> None:
        """A drawn picture (H, W, 3), BGR, and what was found in it; it lies at `path`, below the folder."""
        name = path.relative_to(self._folder).as_posix()
        thumbnail = f"{THUMBNAILS}/{self.count:06}.jpg"
        write_picture(self._folder / thumbnail, shrink(picture, THUMBNAIL_SIDE), quality=80)
        entry = {
            "name": name,
            "file": quote(os.fsencode(name)),
            "thumbnail": thumbnail,
            "found": [[class_id, round(confidence, 4)] for _, confidence, class_id in detections],
        }
        self._file.write(("," if self.count else "") + "\n" + script_json(entry))
        self.count += 1

    def add_frame(self, picture: Image, detections: Detections, number: int) -> None:
        """As `add`, of a drawn frame of a video, which is written as well."""
        path = self._folder / FRAMES / f"{number:06}.jpg"
        write_picture(path, picture)
        self.add(picture, detections, path)


@contextlib.contextmanager
def writing_gallery(
    folder: Path, title: str, class_names: Sequence[str], threshold: float, video: Path | None = None
) -> Iterator[Gallery]:
    """The page of a folder, kept whatever happens, as the results are; see `results.writing_kept`.

    threshold: the lowest score there can be. video: that the pictures are frames of.
    """
    colours = ["#{2:02x}{1:02x}{0:02x}".format(*class_colour(index)) for index in range(len(class_names))]
    about = {
        "classes": [*zip(class_names, colours, strict=True)],
        "threshold": threshold,
        "video": video and {"name": video.name, "file": quote(os.fsencode(video.name))},
    }
    with writing_kept(folder / PAGE, _start(title, about), _end()) as file:
        yield Gallery(folder, file)


def script_json(value: Any) -> str:
    """JSON in ASCII that cannot end the <script> element it stands in, whatever names hold."""
    return json_text(value).replace("<", "\\u003c")


def _start(title: str, about: dict[str, Any]) -> str:
    title = html.escape(title.encode("utf-8", "replace").decode("utf-8"))  # names of files need not be text
    head = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{GENERATOR}'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{title}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style></head>\n<body>\n"
    )
    return (
        f"{head}<header><h1>{title}</h1>\n{BODY.read_text(encoding='utf-8')}"
        f'<script type="application/json" id="about">{script_json(about)}</script>\n'
        '<script type="application/json" id="pictures">['
    )


def _end() -> str:
    return f"\n]</script>\n<script>\n{SCRIPT.read_text(encoding='utf-8')}</script>\n</body></html>\n"


def shrink(picture: Image, side: int) -> Image:
    """The picture (H, W, 3), or a smaller one whose longer side has so many pixels."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def show(page: Path) -> None:
    """Open the page in the browser where a person sits before a screen; to a file, a pipe or over SSH, do nothing."""
    screen = sys.platform in ("win32", "darwin") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if screen and sys.stdout.isatty():
        webbrowser.open(page.absolute().as_uri())

"""What detect writes: detections in COCO's results format, and where pictures go."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from runtimes.detections import Detections
from runtimes.errors import InvalidInput
from runtimes.json_file import json_text

from .files import replacing


def coco_results(
    detections: Detections,
    image_id: int | str,
    categories: Sequence[int],
    class_names: Sequence[str],
    time_ms: float | None = None,
) -> list[dict[str, Any]]:
    """One entry a detection: image_id, category_id, category_name, bbox as left, top, width, height, score; time_ms
    where it is given.

    categories, class_names: the category id and the name of each class index. time_ms: of a frame, milliseconds since
    the first one. Numbers that are not finite, which JSON does not know, leave a detection out.
    """
    time = {} if time_ms is None else {"time_ms": round(time_ms, 3)}
    corners, scores = detections.xyxy, detections.confidence
    with np.errstate(invalid="ignore", over="ignore"):
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    return [
        {
            "image_id": image_id,
            "category_id": categories[class_id],
            "category_name": class_names[class_id],
            "bbox": box,
            "score": score,
            **time,
        }
        for box, score, class_id in zip(
            boxes[finite].tolist(), scores[finite].tolist(), detections.class_id[finite].tolist(), strict=True
        )
    ]


class KeptFile:
    """A text file that is kept up to the end of the last whole `write`. kept: whether it has taken its place."""

    def __init__(self, file: FileIO) -> None:
        self.kept = False
        self._file, self._whole = file, 0

    def write(self, text: str) -> None:
        """All or nothing: what a full disk or Ctrl-C cuts short does not count."""
        rest = memoryview(text.encode())
        while rest:
            rest = rest[self._file.write(rest) :]
        self._whole = self._file.tell()

    def end(self, text: str) -> None:
        """Write after what is whole."""
        self._file.seek(self._whole)
        self._file.truncate()
        self.write(text)


class Results:
    """An open results file. count: detections in it. kept: whether the file has taken its place."""

    def __init__(self, file: KeptFile) -> None:
        self.count = 0
        self._file = file

    @property
    def kept(self) -> bool:
        return self._file.kept

    def add(
        self,
        detections: Detections,
        image_id: int | str,
        categories: Sequence[int],
        class_names: Sequence[str],
        time_ms: float | None = None,
    ) -> None:
        """Those of one image, all or none; see `coco_results`."""
        entries = coco_results(detections, image_id, categories, class_names, time_ms)
        rows = [f"\n {json_text(entry)}" for entry in entries]
        self._file.write(("," if self.count and rows else "") + ",".join(rows))
        self.count += len(rows)


def write_results(
    path: Path, found: Iterable[tuple[Detections, int | str]], categories: Sequence[int], class_names: Sequence[str]
) -> None:
    """Write a results file of the detections and the id of each image, whole or not at all; see `coco_results`."""
    with replacing(path) as part, part.open("wb", buffering=0) as raw:
        file = KeptFile(raw)
        file.write("[")
        results = Results(file)
        for detections, image_id in found:
            results.add(detections, image_id, categories, class_names)
        file.write("\n]\n")


@contextlib.contextmanager
def writing_results(path: Path) -> Iterator[Results]:
    """A results file, kept whatever happens; see `writing_kept`."""
    with writing_kept(path, "[", "\n]\n") as file:
        yield Results(file)


@contextlib.contextmanager
def writing_kept(path: Path, start: str, end: str) -> Iterator[KeptFile]:
    """A text file, which takes the place of `path` at the end, also where the block fails or is interrupted.

    It is written on the way, between `start` and `end`: however much there is, it takes no memory, and nobody who
    pressed Ctrl-C waits for it. For one process at a time. Raises `OSError` where not even the end can be written; what
    was at `path` stays then.
    """
    failure: BaseException | None = None
    with replacing(path) as part, part.open("wb", buffering=0) as raw:
        file = KeptFile(raw)
        file.write(start)
        try:
            yield file
        except (Exception, KeyboardInterrupt) as error:
            failure = error
        try:
            file.end(end)
        except OSError as error:
            raise error from failure
    file.kept = True
    try:
        if failure:
            raise failure
    finally:
        del failure  # whose traceback holds this frame: no circle that keeps all of them


def plan_pictures(paths: Sequence[Path], output: Path) -> dict[Path, Path]:
    """Where the picture of each image goes: below `output` as the images lie below their common folder.

    Raises `InvalidInput` where one would replace an image.
    """
    root = Path(os.path.commonpath([path.parent.absolute() for path in paths]))
    pictures = {path: output / path.absolute().relative_to(root) for path in paths}
    images = {path.resolve(): path for path in paths}
    for picture in pictures.values():
        if (image := images.get(picture.resolve())) is not None:
            raise InvalidInput(f"a picture would replace {image} itself; choose another --output.")
    return pictures

"""Detections in COCO's results format."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from runtimes.detections import Detections

from .files import replacing


def coco_results(
    detections: Detections, image_id: int | str, categories: Sequence[int], time_ms: float | None = None
) -> list[dict[str, Any]]:
    """One entry a detection: image_id, category_id, bbox as left, top, width, height, score; time_ms where it is given.

    categories: the category id of each class index. time_ms: of a frame, milliseconds since the first one.
    """
    time = {} if time_ms is None else {"time_ms": round(time_ms, 3)}
    return [
        {
            "image_id": image_id,
            "category_id": categories[class_id],
            "bbox": [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])],
            "score": confidence,
            **time,
        }
        for box, confidence, class_id in detections
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
        self, detections: Detections, image_id: int | str, categories: Sequence[int], time_ms: float | None = None
    ) -> None:
        """Those of one image, all or none; see `coco_results`."""
        rows = [f"\n {json.dumps(entry)}" for entry in coco_results(detections, image_id, categories, time_ms)]
        self._file.write(("," if self.count and rows else "") + ",".join(rows))
        self.count += len(rows)


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

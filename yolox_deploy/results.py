"""Detections in COCO's results format."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from runtimes.detections import Detections

from .files import replacing


def coco_results(detections: Detections, image_id: int | str, categories: Sequence[int]) -> list[dict[str, Any]]:
    """One entry a detection: image_id, category_id, bbox as left, top, width, height, score.

    categories: the category id of each class index.
    """
    return [
        {
            "image_id": image_id,
            "category_id": categories[class_id],
            "bbox": [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])],
            "score": confidence,
        }
        for box, confidence, class_id in detections
    ]


class Results:
    """An open results file. count: detections in it."""

    def __init__(self, file: TextIO) -> None:
        self.count = 0
        self._file = file

    def add(self, detections: Detections, image_id: int | str, categories: Sequence[int]) -> None:
        """Those of one image, all or none; see `coco_results`."""
        rows = [f"\n {json.dumps(entry)}" for entry in coco_results(detections, image_id, categories)]
        self._file.write(("," if self.count and rows else "") + ",".join(rows))
        self.count += len(rows)


@contextlib.contextmanager
def writing_results(path: Path) -> Iterator[Results]:
    """A results file, kept whatever happens; see `writing_kept`."""
    with writing_kept(path, "[", "\n]\n") as file:
        yield Results(file)


@contextlib.contextmanager
def writing_kept(path: Path, start: str, end: str) -> Iterator[TextIO]:
    """A text file, which takes the place of `path` at the end, also where the block fails or is interrupted.

    It is written on the way, between `start` and `end`: however much there is, it takes no memory, and nobody who
    pressed Ctrl-C waits for it.
    """
    failure: BaseException | None = None
    with replacing(path) as part:
        with part.open("w", encoding="utf-8") as file:
            file.write(start)
            try:
                yield file
            except (Exception, KeyboardInterrupt) as error:
                failure = error
            file.write(end)
    if failure:
        raise failure

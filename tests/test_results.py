from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from runtimes import Detections
from yolox_deploy.results import coco_results, writing_results

CATEGORIES = (7, 9)
SOME = Detections(
    np.array([[1, 2, 4, 8], [0.5, 0, 1, 1]], np.float32), np.array([0.75, 0.25], np.float32), np.array([1, 0])
)
NONE = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))
EXPECTED = [
    *coco_results(SOME, 1, CATEGORIES),
    *coco_results(SOME, "street.jpg", CATEGORIES),
]


def test_what_was_added_is_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "detections.json"
    with writing_results(path) as results:
        for found, image_id in ((NONE, 0), (SOME, 1), (NONE, 2), (SOME, "street.jpg")):
            results.add(found, image_id, CATEGORIES)
    assert json.loads(path.read_text()) == EXPECTED
    assert results.count == 4
    assert EXPECTED[0] == {"image_id": 1, "category_id": 9, "bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.75}


def test_nothing_found_is_an_empty_list(tmp_path: Path) -> None:
    with writing_results(tmp_path / "detections.json") as results:
        results.add(NONE, 1, CATEGORIES)
    assert json.loads((tmp_path / "detections.json").read_text()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_was_added_before_an_error_is_kept(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "detections.json"
    path.write_text("[]")
    with pytest.raises(error), writing_results(path) as results:
        results.add(SOME, 1, CATEGORIES)
        raise error
    assert json.loads(path.read_text()) == EXPECTED[:2]
    assert list(tmp_path.iterdir()) == [path]

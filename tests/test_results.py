from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runtimes import Detections
from yolox_deploy.results import coco_results, writing_results

CATEGORIES, NAMES = (7, 9), ("cat", "dög")
SOME = Detections(
    np.array([[1, 2, 4, 8], [0.5, 0, 1, 1]], np.float32), np.array([0.75, 0.25], np.float32), np.array([1, 0])
)
NONE = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))
EXPECTED = [
    *coco_results(SOME, 1, CATEGORIES, NAMES),
    *coco_results(SOME, "street.jpg", CATEGORIES, NAMES),
]


def test_what_was_added_is_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "detections.json"
    with writing_results(path) as results:
        for found, image_id in ((NONE, 0), (SOME, 1), (NONE, 2), (SOME, "street.jpg")):
            results.add(found, image_id, CATEGORIES, NAMES)
    assert json.loads(path.read_text()) == EXPECTED
    assert results.count == 4
    assert EXPECTED[0] == {
        "image_id": 1,
        "category_id": 9,
        "category_name": "dög",
        "bbox": [1.0, 2.0, 3.0, 6.0],
        "score": 0.75,
    }


def test_nothing_found_is_an_empty_list(tmp_path: Path) -> None:
    with writing_results(tmp_path / "detections.json") as results:
        results.add(NONE, 1, CATEGORIES, NAMES)
    assert json.loads((tmp_path / "detections.json").read_text()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_was_added_before_an_error_is_kept(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "detections.json"
    path.write_text("[]")
    with pytest.raises(error), writing_results(path) as results:
        results.add(SOME, 1, CATEGORIES, NAMES)
        raise error
    assert json.loads(path.read_text()) == EXPECTED[:2]
    assert list(tmp_path.iterdir()) == [path]


def test_it_is_written_on_the_way(tmp_path: Path) -> None:
    """So that it takes no memory, and no time at the end."""
    with writing_results(tmp_path / "detections.json") as results:
        sizes = []
        for _ in range(3):
            results.add(SOME, 1, CATEGORIES, NAMES)
            [part] = tmp_path.iterdir()
            sizes.append(part.stat().st_size)
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] > 0


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_results import CATEGORIES, NAMES, SOME
from yolox_deploy.results import writing_results

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write past the limit fails, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
try:
    with writing_results(Path(sys.argv[1])) as results:
        for number in range(100):
            results.add(SOME, number, CATEGORIES, NAMES)
except OSError as error:
    print(results.count)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the size of a file")
@pytest.mark.parametrize("limit", [1000, 1001, 1090, 1100])
def test_a_full_disk_leaves_whole_results(limit: int, tmp_path: Path) -> None:
    """The images before the one that no longer fitted, whole, wherever in it the write ended; or the old file."""
    path = tmp_path / "detections.json"
    path.write_text("[]")
    command = [sys.executable, "-c", FULL_DISK, str(path), str(Path(__file__).parent), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kept = json.loads(path.read_text())
    assert len(kept) == int(done.stdout) and len(kept) % 2 == 0
    assert [entry["image_id"] for entry in kept] == sorted([*range(len(kept) // 2)] * 2)
    assert len(kept) > 0 and list(tmp_path.iterdir()) == [path]

"""The plain programs that ours are measured against: they have to find the same, or the comparison means nothing."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.baselines.numpy_pipeline import CONTRACT, Rules, select, suppress
from benchmarks.baselines.official_demo import OfficialDemo
from benchmarks.compare.process import Worker
from benchmarks.compare.worker import named
from benchmarks.stages import Program, call_timed
from exporters.artifact import write_artifact
from exporters.matching import iou, match
from runtimes import COCO_CLASS_NAMES, Detections, UserError, foreign_spec, load
from runtimes.preprocess import Image
from yolox_deploy.data.open import open_dataset
from yolox_deploy.model.checkpoint import Checkpoint
from yolox_deploy.model.open import describe

ON_THE_OFFICIAL_FILE = ["official_demo:OfficialDemo", "plain_openvino:PlainOpenVINO", "opencv_dnn:OpenCVDnn"]


@pytest.fixture(scope="module")
def official_file(shared: Path) -> Path:
    return shared / "weights" / "yolox_nano_official_export.onnx"


@pytest.fixture(scope="module")
def photos(shared: Path) -> list[Image]:
    return list(open_dataset(shared / "data" / "coco-val2017-206").read_images()[:12])


@pytest.fixture(scope="module")
def expected(official_file: Path, photos: list[Image]) -> list[Detections]:
    with load(
        official_file, foreign_spec(official_file, COCO_CLASS_NAMES, "official"), threads=1, clip=False
    ) as detector:
        return detector(photos)


def check_equal(found: list[Detections], expected: list[Detections], box: float, score: float) -> None:
    assert sum(map(len, expected)) > 60
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.class_id, other.class_id)
        assert np.abs(one.xyxy - other.xyxy).max(initial=0) <= box
        assert np.abs(one.confidence - other.confidence).max(initial=0) <= score


def close_and_return(program: Program, photos: list[Image]) -> list[Detections]:
    found = [program(photo) for photo in photos]
    program.close()
    return found


def test_the_official_pipeline_finds_what_ours_finds(
    official_file: Path, photos: list[Image], expected: list[Detections]
) -> None:
    """By our rules, to the last bits: pre- and postprocessing are the same."""
    check_equal(close_and_return(OfficialDemo(official_file, rules=CONTRACT), photos), expected, 1e-3, 1e-6)


@pytest.mark.parametrize("program", ON_THE_OFFICIAL_FILE[1:])
def test_others_find_it_too(program: str, official_file: Path, photos: list[Image], expected: list[Detections]) -> None:
    opened = named(f"benchmarks.baselines.{program}")(official_file, rules=CONTRACT)  # type: ignore[call-arg]
    check_equal(close_and_return(opened, photos), expected, 0.01, 1e-4)


def test_plain_ncnn_finds_it_too(
    nano_checkpoint: Checkpoint, photos: list[Image], expected: list[Detections], tmp_path: Path
) -> None:
    pytest.importorskip("ncnn")
    from benchmarks.baselines.plain_ncnn import PlainNcnn

    trained = describe(nano_checkpoint.build(), nano_checkpoint)
    artifact = write_artifact(trained.model, trained.spec, "ncnn", tmp_path, photos[:2])
    check_equal(close_and_return(PlainNcnn(artifact.model, rules=CONTRACT), photos), expected, 0.01, 1e-4)


def test_rtmlib_finds_it_too(official_file: Path, photos: list[Image], expected: list[Detections]) -> None:
    """It tells no scores, and an anchor may be of several classes."""
    pytest.importorskip("rtmlib", reason="needs pip install --no-deps rtmlib")
    from benchmarks.baselines.rtmlib_yolox import RtmlibYolox

    found = close_and_return(RtmlibYolox(official_file, rules=CONTRACT), photos)
    both = sum(len(match(one, other, min_iou=0.99)) for one, other in zip(expected, found, strict=True))
    assert both >= 0.95 * max(sum(map(len, expected)), sum(map(len, found)))
    assert all(np.isnan(one.confidence).all() for one in found)


def test_the_demos_own_rules_are_others(official_file: Path, photos: list[Image], expected: list[Detections]) -> None:
    found = close_and_return(OfficialDemo(official_file), photos)
    assert sum(map(len, found)) > sum(map(len, expected))
    assert min(one.confidence.min(initial=1) for one in found) > 0.1


def boxes_of(random: np.random.Generator, count: int, side: float) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Random boxes (n, 4) in a square, and scores (n,) without ties."""
    corner, size = random.uniform(0, side, (count, 2)), random.uniform(5, 60, (count, 2))
    scores = random.permutation(count).astype(np.float32) / count
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32), scores


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.45, 0.65, 1.0])
@pytest.mark.parametrize("count", [0, 1, 40, 200])
def test_nms_is_what_it_says(threshold: float, count: int, random: np.random.Generator) -> None:
    """No two that stay overlap more, and each that goes overlaps a better one that stays; best first."""
    boxes, scores = boxes_of(random, count, side=120)
    kept = suppress(boxes, scores, threshold, pixel=0)
    assert scores[kept].tolist() == sorted(scores[kept].tolist(), reverse=True)
    overlaps = iou(boxes, boxes)
    for position, index in enumerate(kept):
        assert (overlaps[index, kept[:position]] <= threshold + 1e-5).all()
    for index in set(range(count)) - set(kept):
        better = [other for other in kept if scores[other] > scores[index]]
        assert overlaps[index, better].max(initial=-1) > threshold - 1e-5
    assert count == 0 or int(scores.argmax()) in kept


def test_a_pixel_more_is_more_overlap() -> None:
    """Two boxes of 10 x 10, one shifted by 5: 50 of 150, and 66 of 176 where pixels are counted."""
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10]], np.float32)
    scores = np.array([0.9, 0.8], np.float32)
    assert suppress(boxes, scores, 0.35, pixel=0) == [0, 1]
    assert suppress(boxes, scores, 0.35) == [0]


def test_classes_are_kept_apart_where_the_rules_say_so() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]], np.float32)
    scores = np.array([[0.5, 0.0], [0.0, 0.9], [0.4, 0.1]], np.float32)
    agnostic, aware = (select(boxes, scores, Rules(class_aware=aware)) for aware in (False, True))
    assert agnostic.class_id.tolist() == [1]
    assert aware.class_id.tolist() == [1, 0]
    assert aware.confidence.tolist() == pytest.approx([0.9, 0.5])
    nothing = select(boxes, scores, Rules(score_threshold=0.95, class_aware=True))
    assert len(nothing) == 0 and nothing.xyxy.shape == (0, 4)


class Nothing:
    """A program that finds nothing."""

    def __call__(self, image: Image) -> Detections:
        return Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0))

    def close(self) -> None: ...


def test_of_a_program_only_the_total_is_known(images: list[Image]) -> None:
    found, times = call_timed(Nothing(), images[0])
    assert len(found) == 0 and times.total > 0
    assert math.isnan(times.engine) and math.isnan(times.preprocess)


def test_a_program_in_a_process_of_its_own(
    official_file: Path, photos: list[Image], expected: list[Detections]
) -> None:
    program = "benchmarks.baselines.official_demo:OfficialDemo"
    with Worker(official_file, photos, {"threads": 1, "rules": CONTRACT}, program) as worker:
        check_equal(worker.detect(), expected, 1e-3, 1e-6)
        assert all(one.total > 0 and math.isnan(one.compute) for one in worker.run_round(3))
        assert worker.warm_up().runs >= 20
        with pytest.raises(UserError, match="artifacts alone"):
            worker.throughput(1, 0.1)
    with pytest.raises(UserError, match="unexpected keyword argument 'providers'"):
        Worker(official_file, photos, {"providers": ()}, program)


def test_importing_the_worker_imports_no_baseline() -> None:
    code = "import benchmarks.compare.worker, sys; print([m for m in sys.modules if 'baselines' in m])"
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

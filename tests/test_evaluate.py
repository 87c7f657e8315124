from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from exporters.artifact import Artifact, write_artifact
from exporters.options import ExportOptions
from exporters.report import Tolerance
from runtimes import InvalidInput, ModelSpec
from runtimes.preprocess import Image
from yolox_deploy import evaluate
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.data.open import open_dataset
from yolox_deploy.model.checkpoint import Checkpoint
from yolox_deploy.model.open import describe

FIGURES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]

# pycocotools' figure of the official weights on the 206 images of the shared folder.
OFFICIAL_AP = 0.2860


@pytest.fixture(scope="module")
def real_artifact(nano_checkpoint: Checkpoint, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The real Nano as ONNX, proven on 50 of the real images."""
    trained = describe(nano_checkpoint.build(), nano_checkpoint)
    spec = replace(trained.spec, batch=1, decoded=True)
    images = open_dataset(shared / "data" / "coco-val2017-206").read_images()[:50]
    tight = Tolerance(box=0.01, score=1e-4, alone_score=0.01)
    return write_artifact(trained.model, spec, "onnx", tmp_path_factory.mktemp("real"), images, ExportOptions(), tight)


def test_parity_on_real_images(real_artifact: Artifact) -> None:
    """Boxes within 0.01 px for scores over 0.01, scores within 1e-4, none missed, none extra."""
    report = real_artifact.report
    assert (report.tolerance.box, report.tolerance.score, report.tolerance.min_score) == (0.01, 1e-4, 0.01)
    assert report
    assert report.detections > 2000
    assert (report.missed, report.extra) == (0, 0)


def ap_of(arguments: list[str], shared: Path, output: Path) -> dict[str, float]:
    data = str(shared / "data" / "coco-val2017-206")
    assert evaluate.main([*arguments, "--data", data, "--json", str(output)]) == 0
    figures: dict[str, float] = json.loads(output.read_text())
    return figures


def test_ap_is_the_official_one_from_pytorch_onnx_and_a_foreign_file(
    real_artifact: Artifact, nano_checkpoint: Checkpoint, shared: Path, tmp_path: Path
) -> None:
    foreign = [str(shared / "weights" / "yolox_nano_official_export.onnx"), "--class-names", "coco"]
    sources = {
        "pytorch": [str(nano_checkpoint.path)],
        "onnx": [str(real_artifact.folder)],
        "foreign": [*foreign, "--preprocessing", "official"],
    }
    figures = {name: ap_of(arguments, shared, tmp_path / f"{name}.json") for name, arguments in sources.items()}
    assert all(list(found)[:12] == FIGURES for found in figures.values())
    aps = [found["AP"] for found in figures.values()]
    assert all(abs(ap - OFFICIAL_AP) < 0.0005 for ap in aps), aps
    assert max(aps) - min(aps) < 0.0005


# --- a data set of two images, whose ids and categories are in no order ---


def write_dataset(root: Path, images: list[Image], changes: dict[str, Any] | None = None) -> Path:
    (root / "annotations").mkdir(parents=True)
    (root / "mine").mkdir()
    content = {
        "images": [
            {"id": 90 - index, "file_name": f"{index}.png", "height": image.shape[0], "width": image.shape[1]}
            for index, image in enumerate(images)
        ],
        "categories": [{"id": 30, "name": "owl"}, {"id": 7, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 90, "category_id": 30, "bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0},
            {"id": 2, "image_id": 89, "category_id": 7, "bbox": [50, 60, 20, 20]},
        ],
        **(changes or {}),
    }
    for index, image in enumerate(images):
        cv2.imwrite(str(root / "mine" / f"{index}.png"), image)
    (root / "annotations" / "instances_mine.json").write_text(json.dumps(content))
    return root


class Oracle:
    """A runtime that gives the right answer: class 0 is "cat", class 1 "owl", as in its spec."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.spec = ModelSpec("oracle", (128, 128), names)
        self.calls = 0

    def infer(self, images: object) -> np.ndarray:  # type: ignore[type-arg]
        output = np.zeros((1, self.spec.num_anchors, 7), np.float32)
        output[0, 0] = [25, 40, 30, 40, 1, 0, 1] if self.calls == 0 else [60, 70, 20, 20, 1, 1, 0]
        self.calls += 1
        return output

    def close(self) -> None: ...


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return open_dataset(write_dataset(tmp_path, [np.zeros((128, 128, 3), np.uint8)] * 2))


def test_categories_are_mapped(dataset: Dataset) -> None:
    from runtimes import Detector

    assert list(dataset.categories) == [7, 30]
    figures = evaluate.evaluate(Detector(Oracle(("cat", "owl")), 0.001), dataset)
    assert pytest.approx(1.0) == figures.AP
    assert figures.APl == -1  # COCO's value for "there are none"


def test_ap_is_measured_on_boxes_that_are_not_clipped(dataset: Dataset) -> None:
    """As the official evaluation does, also for a detector that clips."""
    from runtimes import Detector

    class Beyond(Oracle):
        def infer(self, images: object) -> np.ndarray:  # type: ignore[type-arg]
            output = super().infer(images)
            output[0, 0, 2] = 1000
            return output

    detector = Detector(Beyond(("cat", "owl")), 0.001)
    assert detector.clip
    found = evaluate.detect_all(detector, dataset)
    assert [float(np.ptp(one.xyxy[0, ::2])) for one in found] == [1000, 1000]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": [], "annotations": []}, "names no images"),
        ({"categories": [{"name": "cat"}]}, "not in COCO's format"),
        ({"images": [{"id": 90, "file_name": "nowhere.png"}], "annotations": []}, "nowhere.png"),
        (
            {"images": [{"id": n, "file_name": f"{n}.png"} for n in (0, 7)], "annotations": []},
            "lacks 7.png",
        ),
        ({"images": [{"id": "a", "file_name": "0.png"}]}, "'a' is no whole number"),
        ({"annotations": 5}, "not in COCO's format"),
        ({"annotations": [{"id": 4, "image_id": 90, "category_id": 99, "bbox": [0, 0, 1, 1]}]}, "annotation 4"),
        ({"categories": [{"id": 7, "name": "cat"}, {"id": 30, "name": "cat"}]}, "twice"),
    ],
)
def test_data_that_is_no_coco_set(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    root = write_dataset(tmp_path, [np.zeros((64, 64, 3), np.uint8)] * 2, changes)
    with pytest.raises(InvalidInput, match=says):
        open_dataset(root)


def test_a_folder_without_annotations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "figures.json"
    (tmp_path / "x.onnx").touch()
    assert evaluate.main([str(tmp_path / "x.onnx"), "--data", str(tmp_path), "--json", str(output)]) == 1
    assert "annotations/instances_" in capsys.readouterr().err
    assert not output.exists()


def test_an_image_that_cannot_be_read_is_named(artifact: Artifact, tmp_path: Path) -> None:
    root = write_dataset(tmp_path, [np.zeros((64, 64, 3), np.uint8)] * 2)
    (root / "mine" / "1.png").write_text("no image")
    with pytest.raises(InvalidInput, match=r"1.png is not an image"):
        list(open_dataset(root).read_images())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--score-threshold", "2"], "--score-threshold must lie between 0 and 1"),
        (["--input-size", "64", "64"], "--input-size is for checkpoints"),
    ],
)
def test_bad_arguments(
    arguments: list[str], says: str, artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_dataset(tmp_path, [np.zeros((64, 64, 3), np.uint8)] * 2)
    assert evaluate.main([str(artifact.folder), "--data", str(root), *arguments]) == 1
    assert says in capsys.readouterr().err


def test_an_ap_of_0_comes_with_what_to_look_at(
    artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_dataset(tmp_path, [np.zeros((64, 64, 3), np.uint8)] * 2)
    assert evaluate.main([str(artifact.folder), "--data", str(root), "--json", str(tmp_path / "all.json")]) == 0
    assert "AP is about 0" in capsys.readouterr().err
    assert any("AP is about 0" in warning for warning in json.loads((tmp_path / "all.json").read_text())["warnings"])

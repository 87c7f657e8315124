"""The report of a training: confusion by hand, AP of each class, pictures and files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from exporters.torch_runtime import TorchRuntime
from runtimes import Detections, Detector, ModelSpec
from yolox_deploy.data.dataset import Dataset, LabelledImage, labelled_image
from yolox_deploy.evaluator import coco_evaluation
from yolox_deploy.model.yolox import YOLOX
from yolox_deploy.training import report
from yolox_deploy.training.confusion import confusion_matrix
from yolox_deploy.training.history import EpochRecord, history_json, read_history
from yolox_deploy.training.pictures import batch_picture, predictions_picture
from yolox_deploy.training.report import write_report

FIGURES = dict.fromkeys(("AP", "AP50", "AP75"), 0.5)


def found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    array = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(array[:, :4], array[:, 4], array[:, 5].astype(np.int64))


def record(epoch: int, figures: dict[str, float] | None) -> EpochRecord:
    return EpochRecord(epoch, 10 * epoch, 0.01, {"total": 5.0, "l1": 0.0}, figures, 20.0, 3.0)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    images = []
    for index, boxes in enumerate(([[10, 10, 50, 50], [60, 10, 90, 40]], [[20, 20, 60, 70]], [])):
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), np.full((80, 100, 3), 60 * index, np.uint8))
        images.append(labelled_image(index, path, (80, 100), boxes, [0, 1][: len(boxes)]))
    return Dataset(tmp_path, tuple(images), {3: "cat", 8: "dog"})


def test_confusion_by_hand(dataset: Dataset) -> None:
    detections = [
        found((10, 10, 50, 50, 0.9, 1), (12, 10, 50, 50, 0.8, 1), (60, 10, 90, 40, 0.2, 0)),
        found((22, 20, 60, 70, 0.7, 1)),
        found((5, 5, 9, 9, 0.5, 0)),
    ]
    # The model calls the first class "dog". The second of two that fit is a false one, a faint one none at all.
    matrix = confusion_matrix(dataset.images, detections, [1, 0], 2)
    assert matrix.tolist() == [[2, 0, 0], [0, 0, 1], [1, 1, 0]]
    assert confusion_matrix(dataset.images, [found()] * 3, [0, 1], 2).tolist() == [[0, 0, 2], [0, 0, 1], [0, 0, 0]]


def test_what_lies_in_a_crowd_is_neither_right_nor_wrong() -> None:
    crowd = np.array([[0, 0, 100, 100.0]])
    image = LabelledImage(0, Path(), (100, 100), crowd, np.zeros(1, np.int64), np.ones(1), np.ones(1, bool))
    inside, beside = (10, 10, 20, 20, 0.9, 0), (90, 90, 120, 120, 0.9, 0)
    assert confusion_matrix([image], [found(inside, beside)], [0], 1).tolist() == [[0, 0], [1, 0]]


def test_ap_by_class_is_what_ap_is_the_mean_of(dataset: Dataset) -> None:
    detections = [found((10, 10, 48, 50, 0.9, 0), (60, 10, 90, 40, 0.6, 1)), found((20, 20, 60, 50, 0.8, 0)), found()]
    evaluation = coco_evaluation(dataset, detections, dataset.category_ids)
    values = {one.name: one.AP for one in evaluation.classes}
    assert values["dog"] == pytest.approx(1.0)
    assert 0 < values["cat"] < 1
    assert np.mean(list(values.values())) == pytest.approx(evaluation.figures.AP)
    nothing = coco_evaluation(dataset, [found()] * 3, dataset.category_ids)
    assert {one.name: one.AP for one in nothing.classes} == {"cat": 0, "dog": 0}


def test_the_history_is_kept() -> None:
    history = [record(1, None), record(2, FIGURES)]
    assert read_history(history_json(history)) == history
    assert history[0].line(9).startswith("epoch 1/9  total 5.000  lr 0.01")
    assert history[1].line(9).endswith("AP 50.00  AP50 50.00"), "in points"
    assert history[1].scalars()["val/AP50"] == 0.5, "a fraction"


def test_pictures_show_boxes_where_they_are(dataset: Dataset) -> None:
    images = np.zeros((3, 416, 416, 3), np.uint8)
    labels = [np.array([[0, 208, 208, 100, 50]], np.float32), *[np.zeros((0, 5), np.float32)] * 2]
    picture = batch_picture(images, labels, ["cat"])
    assert picture.shape == (416, 4 * 416, 3)
    rows, columns = np.nonzero(picture[:412, :412].any(axis=2))
    assert (columns.min(), columns.max()) == pytest.approx((158 * 412 / 416, 258 * 412 / 416), abs=3)
    assert rows.max() == pytest.approx(233 * 412 / 416, abs=3)
    pairs = predictions_picture(dataset, [found((5, 5, 9, 9, 0.5, 0))] * 3, ["cat", "dog"])
    assert pairs.shape == (2 * 438, 4 * 416, 3)


@pytest.mark.parametrize("drawing", [True, False], ids=["with matplotlib", "without"])
def test_the_report(
    drawing: bool, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "is_installed", lambda package: drawing)
    folder = dataset.source / "run"
    spec = ModelSpec("yolox-nano", (64, 64), ("cat", "dog"), (3, 8), batch=None, decoded=False)
    detector = Detector(TorchRuntime(YOLOX("yolox-nano", 2), spec), 0.001)
    history = [record(epoch, FIGURES if epoch % 2 else None) for epoch in range(1, 6)]
    results = write_report(folder, detector, dataset, history, 3, 5, {"epochs": 5})
    files = {"results.json", "predictions.jpg"}
    plots = {"curves.png", "precision_recall.png", "confusion.png"}
    assert {file.name for file in folder.iterdir()} == (files | plots if drawing else files)
    assert ("pip install matplotlib" in capsys.readouterr().out) is not drawing
    content = json.loads((folder / "results.json").read_text())
    assert content == json.loads(json.dumps(asdict(results)))
    assert (content["best_epoch"], content["epochs"], content["seconds"], content["device"]) == (3, 5, 15, "cpu")
    assert all(cv2.imread(str(folder / name)) is not None for name in plots if drawing)

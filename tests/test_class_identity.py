"""Commands on models and data whose classes differ; what is written is what pycocotools reads to the same AP."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.compare import __main__ as compare
from benchmarks.made_detections import made_results
from benchmarks.plain_evaluation import coco_truth
from benchmarks.tune import __main__ as tune
from runtimes import COCO_CLASS_NAMES, Detections
from tests.data_sets import NAMES, WRITERS, write_coco
from yolox_deploy import detect, evaluate, export
from yolox_deploy.data.images import find_images
from yolox_deploy.evaluator import CocoFigures, class_table, coco_evaluation, points
from yolox_deploy.model.checkpoint import Checkpoint
from yolox_deploy.model.mmdet_keys import mmdet_keys
from yolox_deploy.model.seeded import seeded_model
from yolox_deploy.results import coco_results

Command = Callable[[Sequence[str]], int]


def pycocotools(truth: Path, results: Path, categories: Sequence[int] = ()) -> COCOeval:
    """Its evaluation of a results file, as its own users call it."""
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO(str(truth))
        evaluation = COCOeval(annotations, annotations.loadRes(str(results)), "bbox")
        if categories:
            evaluation.params.catIds = list(categories)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.fixture(scope="module")
def unnamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of three classes that names none, as the official training writes it."""
    path = tmp_path_factory.mktemp("weights") / "three.pth"
    torch.save({"model": seeded_model("yolox-nano", 3).state_dict()}, path)
    return path


@pytest.fixture
def names(tmp_path: Path) -> Path:
    file = tmp_path / "names.txt"
    file.write_text("owl\ncat\ndog\n", encoding="utf-8")
    return file


def commands(weights: Path, data: Path) -> dict[str, tuple[Command, list[str]]]:
    """All that measure AP, with --dry-run where they have it."""
    labelled = ["--data", str(data), "--split", "val"]
    return {
        "evaluate": (evaluate.main, [str(weights), *labelled, "--input-size", "64", "64"]),
        "export": (export.main, ["--weights", str(weights), *labelled, "--dry-run"]),
        "tune": (tune.main, [str(weights), *labelled, "--min-ap", "5", "--target", "onnx", "--dry-run"]),
        "compare": (
            compare.main,
            ["--export", str(weights), "--target", "onnx", "--precision", "fp32", *labelled, "--dry-run"],
        ),
    }


def slowly(*commands: str) -> list[Any]:
    return [pytest.param(command, marks=pytest.mark.slow) for command in commands]


@pytest.mark.parametrize("command", ["evaluate", "export", *slowly("tune", "compare")])
def test_classes_without_names_are_not_matched_by_order(
    command: str, unnamed: Path, names: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    data = WRITERS["voc" if command == "evaluate" else "coco"](tmp_path / "data")
    main, arguments = commands(unnamed, data)[command]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "does not name its classes (3)" in error and "--class-names FILE" in error and ", ".join(NAMES) in error
    assert error.splitlines()[-1].startswith("error: ")
    assert main([*arguments, "--class-names", str(names)]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert all("AP is about 0" in line for line in warnings)  # the model is untrained


@pytest.mark.parametrize("command", ["evaluate", "compare", *slowly("export", "tune")])
def test_what_is_left_out_is_said_once_and_in_json(
    command: str, unnamed: Path, names: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    names.write_text("owl\nCat\nfox\n", encoding="utf-8")
    data = write_coco(tmp_path / "data")
    main, arguments = commands(unnamed, data)[command]
    assert main([*arguments, "--class-names", str(names), "--json", "-"]) == 0
    printed = capsys.readouterr()
    warnings = [line for line in printed.err.splitlines() if line.startswith("warning: ")]
    warnings = [line for line in warnings if "AP is about 0" not in line]  # the model is untrained
    assert len(warnings) == len(set(warnings)) == 3
    assert "'Cat' is taken for 'cat'" in warnings[0] and "does not have dog" in warnings[1] and "fox" in warnings[2]
    found = json.loads(printed.out)
    if command == "export":  # which has them in accuracy.json
        config = export.ExportConfig(weights=unnamed, data=data, split="val", class_names=str(names))
        check = export.plan(config).accuracy
        assert check is not None
        found["warnings"] = check.warnings
    assert [f"warning: {one}" for one in found["warnings"] if "AP is about 0" not in one] == warnings
    if command == "evaluate":
        assert [one["name"] for one in found["classes"]] == ["cat", "owl"]


def test_data_without_labels_is_nothing_to_measure(
    unnamed: Path, names: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    empty = [((40, 40), []), ((60, 80), [])]
    data = write_coco(tmp_path / "data", {"train": empty, "val": empty})
    for main, arguments in commands(unnamed, data).values():
        assert main([*arguments, "--class-names", str(names)]) == 1
        assert "to measure" in capsys.readouterr().err


def test_the_detections_file_is_what_pycocotools_reads_to_the_same_ap(tmp_path: Path) -> None:
    """For all classes, and for some of them in another order; ids are in no order either."""
    dataset, found = made_results(12, 80, 1)
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps(coco_truth(dataset)))
    for categories in (dataset.category_ids, [None if number % 2 else number for number in dataset.category_ids]):
        file = tmp_path / "detections.json"
        evaluate.write_detections(file, dataset, found, categories)
        entries = json.loads(file.read_text(), parse_constant=pytest.fail)
        assert {dataset.categories[entry["category_id"]] == entry["category_name"] for entry in entries} == {True}
        counted = [number for number in categories if number is not None]
        expected = pycocotools(truth, file, counted)
        ours = coco_evaluation(dataset, found, categories)
        assert astuple(ours.figures) == tuple(expected.stats.tolist())
        precision = expected.eval["precision"][:, :, :, 0, -1]
        for index, one in enumerate(ours.classes):
            assert one.category_id == expected.params.catIds[index]
            assert (precision[:, :, index].mean(), precision[0, :, index].mean()) == (one.AP, one.AP50)
            annotations = [entry for entry in coco_truth(dataset)["annotations"] if not entry["iscrowd"]]
            own = [entry["image_id"] for entry in annotations if entry["category_id"] == one.category_id]
            assert (one.objects, one.images) == (len(own), len(set(own)))
        assert {one.objects == 0 for one in ours.classes} == {one.AP == -1 for one in ours.classes}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["detections.json", "truth.json"]


def test_json_stays_valid_whatever_the_numbers_are() -> None:
    boxes = np.array(
        [[1, 2, 3, 4], [np.nan, 0, 1, 1], [0, 0, np.inf, 1], [-3e38, 0, 3e38, 1], [0, 0, 1, 1]], np.float32
    )
    scores = np.array([0.5, 0.5, 0.5, 0.5, np.nan], np.float32)
    (entry,) = coco_results(Detections(boxes, scores, np.zeros(5, np.int64)), 1, (7,), ("cat",))
    assert entry["bbox"] == [1, 2, 2, 2]


def test_points_are_printed_and_what_is_not_there_is_a_dash() -> None:
    figures = CocoFigures(0.28604, 0.5, 1, -1, 0, 0.1, 0.2, 0.3, 0.4, -1, 0.5, 0.6)
    text = str(figures)
    assert "AP   28.60" in text and "AP75  100.00" in text and "-1" not in text
    assert [line.split()[1] for line in text.splitlines()[:6]] == ["28.60", "50.00", "100.00", "-", "0.00", "10.00"]
    assert text.splitlines()[-1].startswith("-: there are no such objects")
    assert "-:" not in str(CocoFigures(*[0.5] * 12))
    assert (points(0.28604), points(-1)) == ("28.60", "-")
    dataset, found = made_results(4, 40, 2)
    classes = coco_evaluation(dataset, found, dataset.category_ids).classes
    rows = class_table(classes).splitlines()
    assert rows[0].split() == ["class", "images", "objects", "AP", "AP50"] and len(rows) == 82
    person = classes[0]
    cells = [person.name, str(person.images), str(person.objects), points(person.AP), points(person.AP50)]
    assert rows[1].split() == cells
    assert any(row.split()[-4:] == ["0", "0", "-", "-"] for row in rows)


# --- real models ---


def some_images(shared: Path, folder: Path, count: int) -> Path:
    """A data set of the first images of COCO val2017 that we have, beside which the pictures themselves stay."""
    source = shared / "data" / "coco-val2017-206"
    content: dict[str, Any] = json.loads((source / "annotations" / "instances_val2017.json").read_text())
    content["images"] = content["images"][:count]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in kept]
    (folder / "annotations").mkdir(parents=True)
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    (folder / "val2017").mkdir()
    for image in content["images"]:
        (folder / "val2017" / image["file_name"]).symlink_to(source / "val2017" / image["file_name"])
    return folder


def measure(arguments: Sequence[object], data: Path, folder: Path) -> dict[str, Any]:
    """What `evaluate` finds, which is what pycocotools makes of its detections to the last bit."""
    files = {name: folder / f"{name}.json" for name in ("result", "detections")}
    options = ["--data", str(data), "--json", str(files["result"]), "--detections", str(files["detections"])]
    assert evaluate.main([*map(str, arguments), *options]) == 0
    found: dict[str, Any] = json.loads(files["result"].read_text(), parse_constant=pytest.fail)
    categories = [one["category_id"] for one in found["classes"]]
    expected = pycocotools(data / "annotations" / "instances_val2017.json", files["detections"], categories)
    assert [found[name] for name in CocoFigures.__dataclass_fields__] == expected.stats.tolist()
    return found


def test_a_model_of_one_class_is_measured_on_it(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """AP 0.2125; 79 classes that it does not have would make it 0.0027."""
    names = tmp_path / "names.txt"
    names.write_text("person\n")
    arguments = [shared / "cases" / "files" / "person_192.onnx", "--preprocessing", "official", "--class-names", names]
    found = measure([*arguments, "--per-class"], shared / "data" / "coco-val2017-206", tmp_path)
    assert found["AP"] == pytest.approx(0.2125, abs=0.0005)
    (one,) = found["classes"]
    assert (one["name"], one["category_id"], one["AP"]) == ("person", 1, found["AP"])
    printed = capsys.readouterr()
    assert "21.25" in printed.out and "does not have bicycle" in printed.err


@pytest.mark.parametrize("count", [16, pytest.param(206, marks=pytest.mark.slow)])
def test_a_checkpoint_of_the_mmdetection_zoo(
    count: int, shared: Path, nano_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """It names COCO's classes and no ids."""
    meta = {"epoch": 1, "cfg": "", "mmengine_version": "0.10.4", "dataset_meta": {"classes": COCO_CLASS_NAMES}}
    torch.save({"meta": meta, "state_dict": mmdet_keys(nano_checkpoint.state_dict)}, tmp_path / "zoo.pth")
    found = measure([tmp_path / "zoo.pth"], some_images(shared, tmp_path / "data", count), tmp_path)
    assert found["warnings"] == []
    assert found["AP"] == pytest.approx(0.2860, abs=0.0005) if count == 206 else found["AP"] > 0.2
    assert len(found["classes"]) == 80


@pytest.mark.parametrize("count", [16, pytest.param(206, marks=pytest.mark.slow)])
def test_what_detect_writes_is_what_evaluate_measures(count: int, shared: Path, tmp_path: Path) -> None:
    """Up to boxes that are cut at the edge of the image, which moves AP by less than 0.001."""
    data = some_images(shared, tmp_path / "data", count)
    model = str(shared / "weights" / "yolox_nano_official_export.onnx")
    output, options = tmp_path / "out", ["--class-names", "coco", "--preprocessing", "official"]
    arguments = [model, str(data / "val2017"), "--output", str(output), "--score-threshold", "0.001"]
    assert detect.main([*arguments, *options]) == 0
    assert len(find_images(str(output))) == count
    expected = measure([model, *options], data, tmp_path)["AP"]
    file = output / "detections.json"
    found = pycocotools(data / "annotations" / "instances_val2017.json", file).stats[0]
    assert found == pytest.approx(expected, abs=0.001) and found > 0.2
    names = {entry["category_id"]: entry["category_name"] for entry in json.loads(file.read_text())}
    assert names[1] == "person" and len(names) > 10

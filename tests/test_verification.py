"""Which images an artifact is verified on, and what decides where there are few detections."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from exporters.matching import aligned_iou, iou
from exporters.onnx import export_onnx
from exporters.options import ExportOptions
from exporters.parity import StageCheck, anchor_sums, compare
from exporters.report import TOLERANCES, ParityReport
from exporters.torch_runtime import TorchRuntime
from runtimes import InvalidInput, ModelSpec
from runtimes.load import load
from runtimes.preprocess import Image
from runtimes.spec import Precision
from yolox_deploy import export
from yolox_deploy.data.image_source import find_image_source, split_of, train_split
from yolox_deploy.data.images import ImageFiles
from yolox_deploy.data.scenes import main as draw_scenes
from yolox_deploy.data.shapes import shapes_images
from yolox_deploy.model.checkpoint import Checkpoint
from yolox_deploy.model.open import TrainedModel, describe, open_checkpoint
from yolox_deploy.options import ModelOptions
from yolox_deploy.verification import choose_images, given_images, search_order

WEIGHTS = Path(__file__).parents[1] / "yolox_deploy" / "weights" / "yolox-nano-scenes.safetensors"
SPEC = ModelSpec("m", (64, 64), ("cat",), batch=None)


class Bright:
    """A runtime that detects one cat in images that are bright, and counts how many it sees."""

    spec = SPEC

    def __init__(self) -> None:
        self.seen = 0

    def infer(self, images: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        self.seen += len(images)
        output = np.zeros((len(images), SPEC.num_anchors, 6), np.float32)
        bright = images.reshape(len(images), -1).max(axis=1) > 200
        output[:, 0] = [32, 32, 20, 20, 1, 0]
        output[bright, 0, 5] = 0.9
        return output

    def close(self) -> None: ...


def pictures(count: int, bright: set[int]) -> list[Image]:
    return [np.full((64, 64, 3), 255 if index in bright else 0, np.uint8) for index in range(count)]


def numbers(images: list[Image], chosen: object) -> list[int]:
    return [next(at for at, one in enumerate(images) if one is image) for image in chosen]  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [1, 3, 5, 50])
@pytest.mark.parametrize("images", [1, 5, 12, 19, 20, 21, 300])
def test_the_search_is_even_and_bounded(images: int, count: int) -> None:
    order = search_order(images, count)
    assert len(set(order)) == len(order) == min(images, 4 * count)
    first = sorted(order[:count])
    steps = np.diff([*first, images]) if len(first) > 1 else np.array([1])
    assert steps.max() - steps.min() <= 1


def test_images_with_objects_come_first_and_are_looked_at_once() -> None:
    bright = {3, 20, 21, 22, 37}
    images, runtime = pictures(40, bright), Bright()
    chosen = numbers(images, choose_images(runtime, images, 10, 0.3))
    assert len(chosen) == 10 and chosen == sorted(chosen) and bright < set(chosen)
    assert runtime.seen == 40
    assert numbers(images, choose_images(Bright(), images, 10, 0.3)) == chosen
    assert not bright & set(numbers(images, choose_images(Bright(), images, 10, 0.95))) - set(search_order(40, 10)[:10])


def test_the_search_ends_once_there_are_enough() -> None:
    images, runtime = pictures(400, set(range(400))), Bright()
    assert numbers(images, choose_images(runtime, images, 10, 0.3)) == list(range(0, 400, 40))
    assert runtime.seen == 10
    runtime = Bright()
    assert len(choose_images(runtime, pictures(400, set()), 10, 0.3)) == 10
    assert runtime.seen == 40
    runtime, few = Bright(), pictures(10, set())
    assert choose_images(runtime, few, 10, 0.3) is few and runtime.seen == 0


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))


def names(path: Path, split: str = "val") -> list[str]:
    return [file.name for file in find_image_source(path, split).paths]


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """A data set with a train and a val split, of one image each, in YOLO's layout."""
    root = tmp_path / "yolo"
    for split in ("train", "val"):
        write_image(root / "images" / split / f"{split}.png")
        label = root / "labels" / split / f"{split}.txt"
        label.parent.mkdir(parents=True)
        label.write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat]\n")
    return root


@pytest.mark.parametrize("end", ["", "/data.yaml"])
def test_a_data_set_gives_the_images_of_a_split(yolo: Path, end: str) -> None:
    data = Path(f"{yolo}{end}")
    assert (names(data), names(data, "train"), names(data, "test")) == (["val.png"], ["train.png"], ["val.png"])
    assert names(Path(f"{data}:train")) == ["train.png"] == names(Path(f"{data}:training"))
    assert find_image_source(Path(f"{data}:train")).name == f"{data}, split train"
    with pytest.raises(InvalidInput, match="no split 'other'; name one of train, val"):
        find_image_source(Path(f"{data}:other"))


def test_coco_and_voc_roots(shared: Path) -> None:
    data = shared / "data"
    assert len(find_image_source(data / "coco-train2017-128")) == 128  # its only split
    assert len(find_image_source(data / "coco-val2017-206", "train")) == 206
    assert (len(find_image_source(data / "bccd-voc")), len(find_image_source(data / "bccd-voc", "train"))) == (87, 205)
    assert len(find_image_source(data / "coco-val2017-206" / "val2017")) == 206


def test_a_colon_is_no_split_where_the_path_is_there_or_cannot_be_one(tmp_path: Path, yolo: Path) -> None:
    odd = tmp_path / "my:images"
    write_image(odd / "one.png")
    write_image(tmp_path / "my" / "two.png")
    assert names(odd) == ["one.png"] and split_of(odd) == (odd, None)
    for path in (Path("C:\\images"), Path("C:"), Path("nowhere:train"), Path(f"{yolo}:a/b"), Path(f"{yolo}:")):
        assert split_of(path) == (path, None)
    assert split_of(Path(f"{yolo}:val")) == (yolo, "val")


def test_a_folder_of_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a/one.png", "a/deeper/two.JPG", "b/three.png"):
        write_image(tmp_path / "shots" / name)
    (tmp_path / "shots" / "notes.txt").write_text("none")
    found = find_image_source(tmp_path / "shots")
    assert [file.name for file in found.paths] == ["two.JPG", "one.png", "three.png"]
    assert "3 images were found in 3 folders below it" in capsys.readouterr().err
    write_image(tmp_path / "shots" / "direct.png")  # then it is a folder of images
    assert names(tmp_path / "shots") == ["direct.png"]
    assert names(tmp_path / "shots" / "a" / "*.png") == ["one.png"]
    assert capsys.readouterr().err == ""
    (tmp_path / "empty" / "inside").mkdir(parents=True)
    with pytest.raises(InvalidInput, match=r"holds no images .* nor do folders in it"):
        find_image_source(tmp_path / "empty")


def test_the_training_split_is_never_the_one_that_is_measured(yolo: Path) -> None:
    assert train_split(yolo, ()) == train_split(yolo, ("val",)) == Path(f"{yolo}:train")
    assert train_split(yolo, ("train",)) is None
    (yolo / "data.yaml").write_text("train: images/train\nnames: [cat]\n")
    assert train_split(yolo, ()) is None


# What decides.

FEW = ParityReport(
    TOLERANCES["int8"], images=8, detections=1, confident=1, missed=1, extra=0, tied=0, box_error=0, score_error=0,
    mean_box_error=0, mean_score_error=0, tensor_error=0, mean_error=0, anchor_box_error=0, anchor_score_error=0,
)  # fmt: skip


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0), ("fp16", 40), ("int8", 20)])
def test_a_share_decides_from_two_over_it_on(precision: Precision, least: int) -> None:
    limits = TOLERANCES[precision]
    assert limits.least_confident == least
    report = replace(FEW, tolerance=limits, confident=least, missed=least or 1)
    assert not report.too_few and "are missed" in str(report.problem())
    if least:
        # One object whose detections do not pair is within the share from here on, and was not before.
        assert replace(report, missed=1, extra=1)
        assert limits.alone_share * (least - 1) < 2
        few = replace(report, confident=least - 1, mean_box_error=0.9, mean_score_error=0.9)
        assert few and few.too_few and "too few detections" in str(few)
        assert json.loads(few.to_json())["decided_by"] == "anchors"
        assert json.loads(report.to_json())["decided_by"] == "detections"


def test_with_few_detections_the_anchors_decide() -> None:
    assert FEW
    assert "boxes of all anchors" in str(replace(FEW, anchor_box_error=0.16).problem())
    assert "scores of all anchors" in str(replace(FEW, anchor_score_error=0.51).problem())
    assert not replace(FEW, mean_error=0.2) and not replace(FEW, tensor_error=float("inf"))
    enough = replace(FEW, confident=100)
    assert replace(enough, anchor_box_error=0.16) and not replace(enough, anchor_box_error=float("nan"))


def test_where_there_are_no_anchors_to_compare_one_detection_decides() -> None:
    """With NMS in the graph, there is nothing else."""
    assert "1 are missed" in str(replace(FEW, anchor_box_error=None, anchor_score_error=None).problem())


def test_anchor_sums_are_by_their_definition() -> None:
    random = np.random.default_rng(0)
    one, other = (random.random((2, 5, 8), np.float32) + np.float32([9, 9, 5, 5, 0, 0, 0, 0]) for _ in range(2))
    box, weight, score, both = anchor_sums(one, other)
    expected = np.zeros(4)
    for image in range(2):
        for anchor in range(5):
            sides = one[image, anchor], other[image, anchor]
            scores = [side[4] * side[5:] for side in sides]
            boxes = [np.array([[*(side[:2] - side[2:4] / 2), *(side[:2] + side[2:4] / 2)]]) for side in sides]
            overlap = iou(*boxes)[0, 0]
            expected += [scores[0].max() * (1 - overlap), scores[0].max(), 0, 0]
            expected += [0, 0, np.abs(scores[0] - scores[1]).sum(), scores[0].sum() + scores[1].sum()]
    assert [box, weight, score, both] == pytest.approx(expected.tolist(), rel=1e-5)
    assert anchor_sums(one, one)[[0, 2]] == pytest.approx([0, 0], abs=1e-6)
    assert aligned_iou(np.zeros((3, 4)), np.ones((3, 4))).tolist() == [0, 0, 0]


@pytest.fixture(scope="module")
def nano(nano_checkpoint: Checkpoint) -> TrainedModel:
    return describe(nano_checkpoint.build(), nano_checkpoint)


def shuffled(model: nn.Module, name: str) -> nn.Module:
    """The same with the weights of one convolution in another order."""
    broken = copy.deepcopy(model)
    weight = broken.get_submodule(name).weight
    assert isinstance(weight, torch.Tensor)
    order = torch.randperm(weight.numel(), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        weight.copy_(weight.flatten()[order].view_as(weight))
    return broken


@pytest.mark.parametrize(
    "layer",
    ["backbone.backbone.dark3.0.pconv.conv", "backbone.C3_p3.conv3.conv", "head.reg_preds.1", "head.stems.2.conv"],
)
def test_one_layer_with_shuffled_weights_fails_with_hardly_a_detection(nano: TrainedModel, layer: str) -> None:
    """The mean of the output is within the tolerance of int8: of 85 numbers of an anchor, 80 are nearly 0 on both."""
    images = shapes_images(3)
    reference = TorchRuntime(nano.model, nano.spec)
    report = compare(reference, TorchRuntime(shuffled(nano.model, layer), nano.spec), images, TOLERANCES["int8"])
    assert report.too_few and report.mean_error is not None and report.mean_error < 0.1
    assert "all anchors" in str(report.problem())
    same = compare(reference, TorchRuntime(nano.model, nano.spec), images, TOLERANCES["int8"])
    assert same and same.too_few and same.anchor_box_error == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_an_int8_file_with_a_shuffled_layer_fails_where_a_sound_one_does_not(
    nano: TrainedModel, tmp_path: Path
) -> None:
    images = shapes_images(4)
    spec = replace(nano.spec, batch=1, precision="int8", decoded=True)
    reference = TorchRuntime(nano.model, spec)
    reports = {}
    for name, model in (("sound", nano.model), ("broken", shuffled(nano.model, "backbone.C3_p3.conv3.conv"))):
        folder = tmp_path / name
        folder.mkdir()
        options = ExportOptions(
            calibration=shapes_images(8, seed=1), float_layers=frozenset({"backbone.backbone.dark2.0.dconv.0"})
        )
        path = export_onnx(model, spec, folder, options, StageCheck(TorchRuntime(model, spec), spec, images))
        with load(path) as detector:
            reports[name] = compare(reference, detector.runtime, images, TOLERANCES["int8"])
    sound, broken = reports["sound"], reports["broken"]
    assert sound.too_few and sound, sound
    assert broken.too_few and not broken
    assert broken.anchor_box_error is not None and sound.anchor_box_error is not None
    assert broken.anchor_box_error > 2 * sound.anchor_box_error


# The command.


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "scenes"
    assert draw_scenes([str(folder), "--train", "3", "--val", "2"]) == 0
    return folder


Plan = Callable[..., tuple[int, dict[str, object], str]]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Plan:
    """A dry run of export: exit code, JSON, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, dict[str, object], str]:
        common = ["--weights", str(WEIGHTS), "--input-size", "64", "64", "--dry-run", "--json", "-"]
        code = export.main([*common, *map(str, arguments)])
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if printed.out else {}, printed.err

    return run


INT8 = ["--precision", "int8", "--target", "onnx", "openvino"]


def test_where_the_images_come_from(plan: Plan, scenes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    for index in range(4):
        write_image(folder / f"{index}.png")
    code, found, _ = plan()
    assert code == 0 and found["calibration"] is None
    assert found["verification"] == {"images": 8, "source": "shapes, generated"}
    _, found, _ = plan("--data", scenes, "--split", "val")
    assert found["verification"]["images"] == 2  # type: ignore[index]
    _, found, says = plan("--verify-images", folder, "--verify-count", 3, "--data", scenes)
    assert found["verification"] == {"images": 3, "source": str(folder)}
    assert f"each verified on 3 images of {folder}" in says
    _, found, _ = plan(*INT8, "--calibration", folder)
    assert found["verification"] == {"images": 4, "source": f"{folder}, on which int8 is calibrated"}
    _, found, _ = plan(*INT8, "--verify-images", folder)
    assert found["calibration"] == {"images": 4, "source": str(folder)}
    _, found, _ = plan(*INT8, "--calibration", folder, "--verify-images", scenes)
    assert found["verification"] == {"images": 2, "source": f"{scenes}, split val"}
    _, found, _ = plan(*INT8, "--calibration", f"{scenes}:val", "--verify-images", f"{scenes}:train")
    assert (found["calibration"]["images"], found["verification"]["images"]) == (2, 3)  # type: ignore[index]


def test_int8_is_calibrated_on_the_training_split_of_the_data(plan: Plan, scenes: Path) -> None:
    _, found, says = plan(*INT8, "--data", scenes)
    assert found["calibration"] == {"images": 3, "source": f"{scenes}, split train"}
    assert "generated images" not in says
    _, found, says = plan(*INT8, "--data", scenes, "--split", "train")  # on which AP is measured
    assert found["calibration"]["source"] == "shapes, generated with another seed"  # type: ignore[index]
    assert says.count("WARNING") == 1 and "no training split beside the one that AP is measured on" in says
    assert found["warnings"] == [line for line in says.splitlines() if line.startswith("WARNING")]
    _, _, says = plan(*INT8)
    assert says.count("WARNING") == 1


@pytest.mark.parametrize("option", ["--verify-images", "--calibration"])
def test_an_image_that_cannot_be_read_is_refused_before_work(
    option: str, plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    for index in range(3):
        write_image(folder / f"{index}.png")
    (folder / "1.png").write_bytes(b"no image")
    code, found, says = plan(*INT8, option, folder)
    assert (code, found) == (1, {}) and f"{folder / '1.png'} is not an image" in says
    arguments = ["--weights", str(WEIGHTS), *INT8, option, str(folder), "--output", str(tmp_path / "out")]
    assert export.main(arguments) == 1
    assert capsys.readouterr().err.splitlines()[-1] == says.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_verify_count_is_checked(plan: Plan) -> None:
    code, _, says = plan("--verify-count", 0)
    assert code == 1 and "--verify-count must be at least 1" in says


def test_the_record_says_what_was_verified_on(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--weights", str(WEIGHTS), "--input-size", "160", "160", "--output", str(tmp_path)]
    arguments += ["--verify-images", f"{scenes}:train", "--verify-count", "2"]
    assert export.main([*arguments, "--json", str(tmp_path / "all.json")]) == 0
    [record] = [json.loads(file.read_text()) for file in tmp_path.glob("*/parity.json")]
    assert (record["images"], record["source"]) == (2, f"{scenes}, split train")
    assert record["detections"] >= 2 and record["decided_by"] == "detections"
    assert f"parity: 2 images of {scenes}, split train, {record['detections']} detections" in capsys.readouterr().out
    written = json.loads((tmp_path / "all.json").read_text())
    assert written["verification"] == {"images": 2, "source": f"{scenes}, split train"}
    assert (written["calibration"], written["warnings"]) == (None, [])


def test_chosen_files_are_still_read_when_asked_for(tmp_path: Path) -> None:
    for index in range(9):
        write_image(tmp_path / f"{index}.png")
    files = ImageFiles(sorted(tmp_path.iterdir()))
    chosen = choose_images(Bright(), files, 3, 0.3)
    assert isinstance(chosen, ImageFiles)
    assert [path.name for path in chosen.paths] == ["0.png", "3.png", "6.png"]


def test_only_images_that_were_given_say_something_of_the_batch_norms(tmp_path: Path) -> None:
    """Generated ones look like nothing that the weights were trained on."""
    assert len(given_images(None).images) and not len(given_images(None).real)
    cv2.imwrite(str(tmp_path / "a.png"), shapes_images(1)[0])
    assert len(given_images(tmp_path).real) == 1


def test_options_of_third_party_files_are_refused_for_a_checkpoint() -> None:
    with pytest.raises(InvalidInput, match="--sigmoid is for third-party files"):
        open_checkpoint(WEIGHTS, ModelOptions(sigmoid=True), None, "cpu", None)

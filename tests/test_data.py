"""The data doctor: its numbers are those of the loader and of SimOTA, and its command says them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from runtimes.detections import Detections
from tests.data_sets import SPLITS, WRITERS, Splits, write_coco, write_voc, write_yolo
from yolox_deploy.data.__main__ import main
from yolox_deploy.data.box_checks import box_sizes, class_counts, count_faults, full_mosaics, without_anchor
from yolox_deploy.data.dataset import MAX_LABELS, Dataset, LabelledImage, labelled_image, left_out, training_labels
from yolox_deploy.data.inspection import inspect
from yolox_deploy.data.report import Finding
from yolox_deploy.evaluator import coco_evaluation
from yolox_deploy.model.variants import STRIDES
from yolox_deploy.training.assigner import assign, near_centre

SIZE = (96, 160)


def random_image(random: np.random.Generator) -> LabelledImage:
    """Boxes of whole pixels in and around the image, some without area or with negative sides, some crowds."""
    count = int(random.integers(30))
    corners = random.integers(-20, 90, (count, 4)).astype(np.float64)
    image = labelled_image(0, Path("x.png"), (60, 80), corners.tolist(), random.integers(3, size=count).tolist())
    return replace(image, crowd=random.random(count) < 0.2)


def dataset_of(*images: LabelledImage) -> Dataset:
    return Dataset(Path("d"), images, {1: "cat", 2: "dog", 3: "owl"})


def test_what_is_left_out_is_what_the_doctor_counts(random: np.random.Generator) -> None:
    kinds = ("box outside its image", "box without area", "box with negative sides")
    total = dict.fromkeys(kinds, 0)
    for _ in range(300):
        image = random_image(random)
        counts = count_faults(image, SIZE)
        labels = training_labels(image)
        assert len(labels) + sum(counts[kind] for kind in kinds) == (~image.crowd).sum()
        assert left_out(dataset_of(image)) == sum(counts[kind] for kind in kinds)
        assert counts["crowd region"] == image.crowd.sum()
        assert class_counts(dataset_of(image)) == {
            name: int((labels[:, 4] == index).sum()) for index, name in enumerate(("cat", "dog", "owl"))
        }
        assert len(box_sizes(dataset_of(image), SIZE)) == len(labels)
        total = {kind: total[kind] + counts[kind] for kind in kinds}
    assert min(total.values()) > 20


def test_sizes_are_those_in_the_network_input() -> None:
    image = labelled_image(0, Path("x.png"), (480, 640), [[0, 0, 64, 16], [600, 440, 700, 500]], [0, 0])
    np.testing.assert_allclose(box_sizes(dataset_of(image), (240, 640)), [16, 20])  # half as large; the second is cut
    tiny = labelled_image(0, Path("x.png"), (960, 1280), [[5, 5, 7, 99], [5, 5, 8, 99]], [0, 0])
    assert count_faults(tiny, (480, 640))["box too small for the input"] == 1  # of 1 px, and of 1.5


def test_every_centre_in_the_input_has_1_to_27_anchors(random: np.random.Generator) -> None:
    centres = torch.from_numpy(random.uniform(0, SIZE[::-1], (20000, 2)))
    centres[:4] = torch.tensor([[0, 0], [160, 96], [0, 96], [160, 0]])  # the very corners
    near = near_centre(centres[None].float(), SIZE, STRIDES)[0]
    assert near.sum(dim=1).min() >= 1 and near.sum(dim=1).max() <= 27
    cells = {}
    for cell, row in zip((centres // 8).int().tolist(), near, strict=True):
        cells.setdefault(tuple(cell), row)
        assert torch.equal(cells[tuple(cell)], row) or not any(cell)  # a corner itself lies on the edge of its cell


def test_simota_leaves_out_at_least_as_many_as_are_counted(random: np.random.Generator) -> None:
    """Forty boxes about one point: anchors for 27."""
    sides = random.uniform(4, 40, (40, 2))
    boxes = np.concatenate([84 - sides / 2, 84 + sides / 2], axis=1) - (0, 40, 0, 40)
    assert without_anchor(boxes) == 13 and without_anchor(boxes[:27]) == 0
    centre_form = np.concatenate([np.zeros((40, 1)), np.full((40, 1), 84), np.full((40, 1), 44), sides], axis=1)
    anchors = sum((SIZE[0] // stride) * (SIZE[1] // stride) for stride in STRIDES)
    predicted = torch.tensor([84.0, 44, 20, 20]).expand(1, anchors, 4)
    found = assign(predicted, torch.zeros(1, anchors, 4), [torch.tensor(centre_form).float()], SIZE, STRIDES)
    assert 0 < len(found.objects.unique()) <= 27


def test_full_mosaics_by_counting_all_of_them() -> None:
    counts = [0, 10, 29, 31, 90, 121]
    images = [labelled_image(n, Path(f"{n}.png"), (60, 80), [[1, 1, 9, 9]] * n, [0] * n) for n in counts]
    expected = np.mean([sum(four) > MAX_LABELS for four in product(counts, repeat=4)])
    assert full_mosaics(dataset_of(*images)) == pytest.approx(expected, abs=1e-12) and expected > 0.3


def test_boxes_that_nothing_can_find_are_counted_as_missed() -> None:
    """Of a zero and a negative box, and one that is found: as pycocotools counts them."""
    boxes = [[10, 10, 40, 40], [50, 50, 50, 60], [70, 30, 60, 20]]
    image = labelled_image(0, Path("x.png"), (100, 100), boxes, [0, 0, 0])
    found = Detections(np.array(boxes, np.float32), np.float32([0.9, 0.8, 0.7]), np.zeros(3, np.int64))
    figures = coco_evaluation(dataset_of(image), [found], (1, 2, 3)).figures
    assert pytest.approx(1 / 3) == figures.AR100 and pytest.approx(34 / 101) == figures.AP


@pytest.mark.parametrize("layout", WRITERS)
def test_all_layouts_give_one_report(layout: str, tmp_path: Path) -> None:
    contents = {split.name: split.contents for split in inspect(WRITERS[layout](tmp_path / "d"), SIZE).report.splits}
    train, val = contents["train"], contents["val"]
    assert train is not None and val is not None
    assert (train.images, train.boxes, train.classes) == (2, 3, {"cat": 1, "dog": 1, "owl": 1})
    assert (train.heights.low, train.heights.high, train.widths.high) == (40, 60, 80)
    assert sum(train.box_sizes.values()) == 3 and (val.boxes, val.boxes_per_image.low) == (1, 0)
    assert train.box_sizes["96+"] == 0 and train.box_sizes["32-96"] == 2 and train.box_sizes["16-32"] == 1


def test_images_in_two_splits_are_found_by_content(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "d")
    (root / "ImageSets/Main/trainval.txt").write_text("train0\ntrain1\nval0\nval1\n")  # which is meant to
    assert "image in two splits" not in str(inspect(root, SIZE).report)
    (root / "JPEGImages/val1.png").write_bytes((root / "JPEGImages/train1.png").read_bytes())
    found = [finding for split in inspect(root, SIZE).report.splits for finding in split.findings]
    shared = [finding for finding in found if finding.kind == "image in two splits"]
    assert [finding.examples for finding in shared] == [("val1.png = train1.png of train",)]


def test_the_command_writes_and_exits_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, output = write_coco(tmp_path / "d"), tmp_path / "report"
    assert main([str(root), "--model", "yolox-nano", "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "seen at 416 x 416" in printed and "training would refuse" not in printed
    names = {"report.json", "classes.png", "box_sizes.png", "samples_train.jpg", "samples_val.jpg"}
    assert {file.name for file in output.iterdir()} == names
    report = json.loads((output / "report.json").read_text())
    assert report["trainable"] is True and report["splits"][0]["contents"]["classes"] == {"cat": 1, "dog": 1, "owl": 1}
    samples = cv2.imread(str(output / "samples_train.jpg"))
    corner = samples[round((416 - 4) * 0.9), 30]  # below the first image, 60 x 80, is the padding of the input
    assert samples.shape == (416, 4 * 416, 3) and np.abs(corner.astype(int) - 114).max() < 8
    assert all(cv2.imread(str(output / name)).std() > 5 for name in names if name.endswith("png"))


def test_the_command_exits_with_1_where_training_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_yolo(tmp_path / "d")
    (root / "labels/train/0.txt").write_text("7 0.5 0.5 0.1 0.1\n0 nan 1 1 1\n")
    (root / "images/val/1.png").write_bytes(b"")
    assert main([str(root), "--json", "-"]) == 1
    printed = capsys.readouterr()
    assert "           0.txt:1" in printed.err.splitlines()
    assert json.loads(printed.out)["trainable"] is False
    assert printed.err.splitlines()[-1].endswith("error: training would refuse this data: 3 faults to be mended.")
    assert main([str(root)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if str(root) not in line) <= 80
    assert {"           0.txt:1", "           0.txt:2", "           1.png"} <= set(lines)


def test_without_torch_and_matplotlib(
    tmp_path: Path, run_without: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    root, output = write_yolo(tmp_path / "d"), tmp_path / "out"
    assert run_without(["torch", "matplotlib"], "data", str(root)).returncode == 0
    done = run_without(["matplotlib"], "data", str(root), "--output", str(output))
    assert (done.returncode, done.stderr) == (1, "error: this needs matplotlib: pip install matplotlib\n")
    assert not output.exists()
    assert "pip install pillow" in run_without(["PIL"], "data", str(root)).stderr


def test_what_is_no_data_set_and_no_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, says in (
        ([str(tmp_path / "nowhere")], "does not exist"),
        ([str(tmp_path)], "is not a data set"),
        ([str(tmp_path), "--input-size", "100", "96"], "multiples of 32"),
        (
            [str(write_coco(tmp_path / "d")), "--output", str(tmp_path / "d/annotations/instances_val.json")],
            "is not a folder",
        ),
    ):
        assert main(arguments) == 1
        assert says in capsys.readouterr().err.splitlines()[-1]


def test_long_lists_fit_the_screen() -> None:
    finding = Finding(
        "missing image", True, 7, "add the file, or remove its entry", tuple(f"{n}.jpg" for n in range(7))
    )
    assert str(finding).splitlines()[1].strip() == "0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg ..."


def test_a_data_set_of_which_nothing_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_coco(tmp_path / "d")
    for split in ("train", "val"):
        (root / f"annotations/instances_{split}.json").write_text("{")
    assert main([str(root), "--output", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().out.count("split that cannot be read") == 2
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["report.json"]


def test_two_thousand_boxes(tmp_path: Path) -> None:
    objects = [("cat", n % 70, n // 70, n % 70 + 5 + n / 999, n // 70 + 5) for n in range(2000)]
    splits: Splits = {**SPLITS, "train": [((60, 80), objects)]}
    for layout, writer in WRITERS.items():
        report = inspect(writer(tmp_path / layout, splits), (64, 64)).report
        split = next(split for split in report.splits if split.name == "train")
        kinds = {finding.kind: finding.count for finding in split.findings}
        assert split.contents is not None and split.contents.full_mosaics == 1.0
        assert kinds["more boxes than training takes"] == 1 and kinds["box that no anchor is left for"] > 100


def test_blood_cells_and_coco(shared: Path) -> None:
    cells = {split.name: split for split in inspect(shared / "data" / "bccd-voc", (416, 416)).report.splits}
    assert [finding.kind for finding in cells["train"].findings] == ["box without area"]
    assert cells["test"].contents is not None
    assert cells["test"].contents.classes == {"Platelets": 69, "RBC": 805, "WBC": 71}
    coco = inspect(shared / "data" / "coco-val2017-206", (640, 640)).report
    assert coco
    assert {finding.kind for finding in coco.splits[0].findings} == {"crowd region", "image without boxes"}


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm", "jp2"])
def test_how_much_of_16_bits_is_used(suffix: str, tmp_path: Path) -> None:
    """Of 12 bits 16 grey levels are left, of 14 bits 64; all 16 and 8 bits say nothing."""
    for bits, left in ((12, 16), (14, 64), (16, None), (8, None)):
        dtype = np.uint8 if bits == 8 else np.uint16
        levels = np.linspace(0, 2**bits - 1, 60 * 80).reshape(60, 80).astype(dtype)
        root = write_yolo(tmp_path / str(bits))
        (root / "images/train/0.png").unlink()
        assert cv2.imwrite(str(root / f"images/train/0.{suffix}"), levels)
        found = [
            one for one in inspect(root, SIZE).report.splits[0].findings if one.kind == "16-bit image of few levels"
        ]
        if left is None:
            assert found == []
            continue
        assert found[0].examples == (f"0.{suffix}: up to {2**bits - 1} of 65535; {left} grey levels left in 8 bits",)
        seen = cv2.imread(str(root / f"images/train/0.{suffix}"))
        assert seen is not None and len(np.unique(seen)) == left

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from exporters.matching import iou, is_in_output, match
from exporters.parity import StageCheck, compare
from exporters.report import TOLERANCES, ParityReport, Stage, Tolerance
from exporters.torch_runtime import TorchRuntime
from runtimes import Detections, GraphNMS, InvalidInput, ModelSpec
from runtimes.postprocess import best_rows
from runtimes.preprocess import Image
from runtimes.spec import Precision
from yolox_deploy.model.seeded import seeded_model
from yolox_deploy.model.yolox import YOLOX


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    array = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(array[:, :4], array[:, 4], array[:, 5].astype(np.int64))


def test_iou() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 20, 20]], np.float32)
    assert iou(boxes, boxes).round(4).tolist() == [[1, 0.3333, 0], [0.3333, 1, 0], [0, 0, 0]]


def test_match_pairs_by_class_and_overlap() -> None:
    expected = detections((0, 0, 10, 10, 0.9, 1), (0, 0, 10, 11, 0.8, 1), (50, 50, 60, 60, 0.7, 2))
    actual = detections((0, 0, 10, 11, 0.9, 1), (50, 50, 60, 60, 0.8, 0), (0, 0, 10, 10, 0.7, 1))
    assert sorted(match(expected, actual).tolist()) == [[0, 2], [1, 0]]
    assert match(expected, detections()).shape == (0, 2)


@pytest.fixture(scope="module")
def reference(seeded_nano: YOLOX, small_spec: ModelSpec) -> TorchRuntime:
    return TorchRuntime(seeded_nano, small_spec)


def report_of(model: YOLOX, spec: ModelSpec, reference: TorchRuntime, images: list[Image]) -> ParityReport:
    return compare(reference, TorchRuntime(model, spec), images)


def test_a_model_is_itself(
    seeded_nano: YOLOX, small_spec: ModelSpec, reference: TorchRuntime, images: list[Image]
) -> None:
    report = report_of(seeded_nano, small_spec, reference, images)
    assert report
    assert report.detections > 20
    assert (report.missed, report.extra, report.box_error, report.score_error, report.tensor_error) == (0, 0, 0, 0, 0)
    assert json.loads(report.to_json())["passed"] is True
    assert str(report).startswith("parity: 5 images")


def test_swapped_channels_fail(
    seeded_nano: YOLOX, small_spec: ModelSpec, reference: TorchRuntime, images: list[Image]
) -> None:
    report = report_of(seeded_nano, replace(small_spec, channel_order="RGB"), reference, images)
    assert not report
    assert "NO PARITY" in str(report)


def test_one_percent_on_the_weights_fails(small_spec: ModelSpec, reference: TorchRuntime, images: list[Image]) -> None:
    model = seeded_model("yolox-nano")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.01)
    assert not report_of(model, small_spec, reference, images)


def test_exchanged_classes_fail(small_spec: ModelSpec, reference: TorchRuntime, images: list[Image]) -> None:
    """Boxes and objectness stay the same; only the labels move."""
    model = seeded_model("yolox-nano")
    with torch.no_grad():
        for layer in model.head.cls_preds:
            for parameter in layer.parameters():
                parameter.copy_(parameter.roll(1, dims=0))
    report = report_of(model, small_spec, reference, images)
    assert not report
    assert report.missed > 0


class Shifted(TorchRuntime):
    """Boxes half a cell away, as a decoder with the other convention gives them."""

    def infer(self, images: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        output = super().infer(images)
        output[..., :2] += 0.5
        return output


def test_half_a_cell_fails(
    seeded_nano: YOLOX, small_spec: ModelSpec, reference: TorchRuntime, images: list[Image]
) -> None:
    loose = Tolerance(tensor=1e9)  # so that the detections have to show it
    report = compare(reference, Shifted(seeded_nano, small_spec), images, loose)
    assert not report
    assert report.missed > 0


def test_a_choice_between_equals_is_no_difference() -> None:
    """Two classes of one anchor, and two overlapping boxes, whose scores are equal but for rounding."""
    spec = ModelSpec("m", (64, 64), ("cat", "dog"))
    expected = np.zeros((1, spec.num_anchors, 7), np.float32)
    expected[0, 0] = [20, 20, 16, 16, 0.9, 0.5 + 1e-6, 0.5]
    expected[0, 1:3] = [[40, 40, 20, 20, 0.8, 0.6, 0.0], [41, 40, 20, 20, 0.8, 0.6 - 1e-6, 0.0]]
    actual = expected.copy()
    actual[0, 0, 5:] = [0.5, 0.5 + 1e-6]
    actual[0, 1:3, 5] = [0.6 - 1e-6, 0.6]

    report = compare(Given(spec, expected), Given(spec, actual), [np.zeros((64, 64, 3), np.uint8)])
    assert report
    assert (report.detections, report.tied) == (2, 2)

    actual[0, 0, 5:] = [0.2, 0.5]  # now the class is another
    assert compare(Given(spec, expected), Given(spec, actual), [np.zeros((64, 64, 3), np.uint8)]).missed == 1
    actual = expected.copy()
    actual[0, 1] = 0  # now the box is another
    report = compare(
        Given(spec, expected), Given(spec, actual), [np.zeros((64, 64, 3), np.uint8)], Tolerance(tensor=99)
    )
    assert report.box_error == pytest.approx(1)


def test_a_reference_of_nan_and_no_images_prove_nothing() -> None:
    spec = ModelSpec("m", (64, 64), ("cat", "dog"))
    zeros = np.zeros((1, spec.num_anchors, 7), np.float32)
    images = [np.zeros((64, 64, 3), np.uint8)]
    assert not compare(Given(spec, zeros * np.nan), Given(spec, zeros), images)
    assert not compare(Given(spec, zeros), Given(spec, zeros * np.nan), images)
    with pytest.raises(InvalidInput, match="no images"):
        compare(Given(spec, zeros), Given(spec, zeros), [])


def test_what_stands_in_an_output() -> None:
    output = np.array([[20, 20, 10, 10, 0.5, 0.5, 0.1]], np.float32)
    chosen = detections((7.5, 7.5, 12.5, 12.5, 0.25, 0), (7.5, 7.5, 12.5, 12.5, 0.05, 1), (8, 7.5, 12.5, 12.5, 0.25, 0))
    assert is_in_output(chosen, output, 2.0, 0.01, 1e-4).tolist() == [True, True, False]


class Given:
    """A runtime that gives a fixed output."""

    def __init__(self, spec: ModelSpec, output: np.ndarray) -> None:  # type: ignore[type-arg]
        self.spec, self.output = spec, output

    def infer(self, images: object) -> np.ndarray:  # type: ignore[type-arg]
        return self.output

    def close(self) -> None: ...


PASSED = ParityReport(
    Tolerance(),
    images=1,
    detections=2,
    confident=4,
    missed=0,
    extra=0,
    tied=0,
    box_error=0,
    score_error=0,
    mean_box_error=0,
    mean_score_error=0,
    tensor_error=0,
    mean_error=0,
)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stages": (Stage("tracing", 1e-9), Stage("onnxsim", 0.5, 0.01))}, "onnxsim changes the output by 0.5"),
        ({"stages": (Stage("tracing", float("nan")),)}, "tracing"),
        ({"tensor_error": 0.1}, "loaded file's output differs"),
        ({"tensor_error": float("nan")}, "loaded file's output differs"),
        ({"mean_error": 0.1}, "in the mean"),
        ({"mean_box_error": 0.1}, "boxes are off by 0.1"),
        ({"mean_score_error": 0.1}, "scores are off by 0.1"),
        ({"missed": 1}, "of 4 detections of both sides, 1 are missed"),
        ({"extra": 1}, "1 are extra"),
        ({"box_error": 0.06}, "boxes differ"),
        ({"score_error": float("nan")}, "scores differ"),
    ],
)
def test_each_fault_is_named(change: dict[str, object], says: str) -> None:
    assert PASSED
    report = replace(PASSED, **change)  # type: ignore[arg-type]
    assert not report
    assert says in str(report.problem())


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_lower_precisions_may_differ_a_little_but_not_break(precision: Precision) -> None:
    limits = TOLERANCES[precision]
    close = replace(PASSED, tolerance=limits, confident=100, missed=1, box_error=3, score_error=0.1, tensor_error=9)
    assert not replace(close, mean_box_error=0.2)  # boxes a quarter too large
    assert not replace(close, mean_score_error=0.2)  # objectness halved
    assert close
    assert not replace(close, missed=30)
    assert not replace(close, tensor_error=float("inf"))


def test_topk_rows_are_compared_whatever_their_order() -> None:
    spec = ModelSpec("m", (64, 64), ("cat", "dog"))
    output = np.random.default_rng(0).random((1, spec.num_anchors, 7), np.float32) * [64, 64, 20, 20, 1, 1, 1]
    output = output.astype(np.float32)
    images = [np.zeros((64, 64, 3), np.uint8)]
    rows = best_rows(output, 30)
    candidate = replace(spec, topk=30)
    swapped = rows[:, [1, 0, *range(2, 30)]]
    swapped[0, :2, 4] = rows[0, :2, 4].mean()  # a tie to rounding, resolved the other way
    loose = Tolerance(tensor=0.05, mean=0.01, score=0.05, mean_score=0.05)
    assert compare(Given(spec, output), Given(candidate, swapped), images, loose)
    shifted = rows + np.float32([2, 0, 2, 0, 0, 0])
    report = compare(Given(spec, output), Given(candidate, shifted), images)
    assert "output differs" in str(report.problem())
    assert not compare(Given(spec, output), Given(candidate, rows[:, :20]), images)  # ten of the best are missing


def test_topk_rows_may_choose_between_equal_classes() -> None:
    spec = ModelSpec("m", (64, 64), ("cat", "dog", "owl"))
    candidate = replace(spec, topk=3)
    output = np.zeros((1, spec.num_anchors, 8), np.float32)
    output[0, 0] = [20, 20, 16, 16, 0.9, 0.5 + 1e-6, 0.2, 0.5]
    output[0, 1] = [44, 44, 10, 10, 0.9, 0.1, 0.8, 0.2]
    images = [np.zeros((64, 64, 3), np.uint8)]
    rows = best_rows(output, 3)
    assert rows[0, :2, 5].tolist() == [1, 0]
    rows[0, 1, 5] = 2  # cat and owl are equal but for rounding
    report = compare(Given(spec, output), Given(candidate, rows), images)
    assert report
    assert (report.detections, report.tied) == (2, 1)
    rows[0, 1, 5] = 1
    assert "output differs" in str(compare(Given(spec, output), Given(candidate, rows), images).problem())
    rows[0, 1, 5] = 3  # there is no such class
    assert not compare(Given(spec, output), Given(candidate, rows), images)


def test_stage_check_measures_against_the_reference(
    reference: TorchRuntime, small_spec: ModelSpec, images: list[Image]
) -> None:
    check = StageCheck(reference, replace(small_spec, batch=3), images[:2])
    assert check.inputs.shape == (3, 3, 256, 320)
    check.record("same", check.expected)
    check.record("off", check.expected + 1)
    check.record("broken", check.expected * np.nan)
    assert [stage.tensor_error for stage in check.stages] == [0, 1, float("inf")]


class Fixed:
    """A runtime that gives one output, whatever the image."""

    def __init__(self, spec: ModelSpec, output: np.ndarray) -> None:  # type: ignore[type-arg]
        self.spec, self.output = spec, output

    def infer(self, images: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return self.output.copy()

    def close(self) -> None: ...


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("form", ["plain", "TopK", "NMS"])
@pytest.mark.parametrize("side", ["reference", "candidate", "both"])
@pytest.mark.parametrize("precision", TOLERANCES)
def test_there_is_no_parity_with_nan(
    precision: Precision, side: str, form: str, value: float, images: list[Image]
) -> None:
    """Not even where it is in an anchor that no one would detect, or where both sides have the same."""
    spec = ModelSpec("m", (64, 96), ("cat", "dog", "owl"), batch=1, precision=precision)
    whole = np.zeros((1, spec.num_anchors, 8), np.float32)
    whole[0, :40, :4], whole[0, :40, 4:6] = np.arange(40)[:, None] * 5 + 9, 0.9
    rows = best_rows(whole, 50)
    other = {
        "plain": (spec, whole.copy()),
        "TopK": (replace(spec, topk=50), rows.copy()),
        "NMS": (replace(spec, nms=GraphNMS(0.05, 0.65)), np.concatenate([rows[0, :, :1] * 0, rows[0]], axis=1)[:30]),
    }[form]
    sound = Fixed(spec, whole), Fixed(*other)
    if side != "candidate":
        whole[0, -1, 0] = value
    if side != "reference":
        other[1][..., -1, -4 if form == "plain" else 1] = value
    report = compare(sound[0], sound[1], images[:2], TOLERANCES[precision])
    assert not report
    assert "differs by inf" in str(report)

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtimes import Detections, GraphNMS, ModelSpec
from runtimes.postprocess import Floats, anchor_grid, clip, decode_output, non_maximum_suppression, postprocess

SPEC = ModelSpec("m", (64, 96), ("cat", "dog", "owl"), batch=None)


def plain_nms(xyxy: Floats, scores: Floats, class_ids: np.ndarray, threshold: float) -> list[int]:  # type: ignore[type-arg]
    """The definition, word by word."""
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        x1, y1, x2, y2 = xyxy[index].astype(np.float64)
        suppressed = False
        for other in kept:
            if class_ids[other] != class_ids[index]:
                continue
            a1, b1, a2, b2 = xyxy[other].astype(np.float64)
            shared = max(min(x2, a2) - max(x1, a1), 0) * max(min(y2, b2) - max(y1, b1), 0)
            suppressed |= shared / ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - shared) > threshold
        if not suppressed:
            kept.append(int(index))
    return kept


@pytest.mark.parametrize("seed", range(100))
def test_nms_is_the_definition(seed: int) -> None:
    """Clustered boxes, some beyond the left and the upper border, as YOLOX gives them."""
    random = np.random.default_rng(seed)
    centres = random.uniform(-50, 700, size=(6, 2))[random.integers(6, size=120)] + random.normal(0, 6, (120, 2))
    sizes = random.uniform(20, 120, size=(120, 2))
    xyxy = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1).astype(np.float32)
    scores = random.permutation(np.linspace(0.001, 1, 120)).astype(np.float32)
    class_ids = random.integers(3, size=120)
    kept = non_maximum_suppression(xyxy, scores, class_ids, 0.65)
    assert kept.tolist() == plain_nms(xyxy, scores, class_ids, 0.65)
    assert 10 < len(kept) < 120


def test_nms_keeps_classes_apart_beyond_the_border() -> None:
    """A box at negative coordinates must not meet the next class's region."""
    xyxy = np.array([[-100, -100, -1, -1], [0, 0, 99, 99], [-100, -100, -1, -1]], np.float32)
    kept = non_maximum_suppression(xyxy, np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 1, 2]), 0.65)
    assert kept.tolist() == [0, 1, 2]


def test_detections_are_the_official_ones(golden: Path) -> None:
    """The official decoded outputs give the official detections at threshold 0.01 and NMS 0.65."""
    numbers = np.load(golden / "forward.npz")
    spec = ModelSpec("nano", (416, 416), tuple(map(str, range(80))), batch=None)
    found = postprocess(numbers["raw"], [1.0, 1.0], spec, 0.01, 0.65)
    for index, detections in enumerate(found):
        expected = numbers[f"detections_{index}"]
        assert len(detections) == len(expected) > 5
        assert np.array_equal(detections.class_id, expected[:, 6])
        assert np.abs(detections.xyxy - expected[:, :4]).max() < 1e-4
        assert np.abs(detections.confidence - expected[:, 4] * expected[:, 5]).max() < 1e-6


def output_with(anchors: dict[int, list[float]]) -> Floats:
    """An output (1, A, 8) in which only the given anchors score."""
    output = np.zeros((1, SPEC.num_anchors, 8), np.float32)
    for anchor, values in anchors.items():
        output[0, anchor] = values
    return output


def detect(output: Floats, score_threshold: float, ratio: float = 1.0, spec: ModelSpec = SPEC) -> Detections:
    (detections,) = postprocess(output, [ratio], spec, score_threshold, 0.65)
    return detections


def test_one_class_an_anchor_threshold_included_and_boxes_scaled_back() -> None:
    output = output_with({3: [20, 30, 10, 8, 0.5, 0.5, 0.25, 0.125], 5: [50, 30, 10, 8, 0.5, 0.25, 0.0, 0.0]})
    found = detect(output, 0.25, ratio=0.5)
    assert found.class_id.tolist() == [0]
    assert found.confidence.tolist() == [0.25]
    assert found.xyxy.tolist() == [[30, 52, 50, 68]]
    assert len(detect(output, 0.2501)) == 0
    assert len(detect(output, 0.125)) == 2


def test_boxes_are_not_clipped_and_input_is_not_written_to() -> None:
    output = output_with({0: [0, 0, 40, 40, 1, 1, 0, 0]})
    before = output.copy()
    assert detect(output, 0.1).xyxy.tolist() == [[-20, -20, 20, 20]]
    assert np.array_equal(output, before)


def test_undecoded_output_gives_the_same_detections(random: np.random.Generator) -> None:
    raw = random.normal(size=(2, SPEC.num_anchors, 8)).astype(np.float32)
    raw[..., 4:] = 1 / (1 + np.exp(-3 * raw[..., 4:]))
    undecoded = replace(SPEC, decoded=False)
    decoded = decode_output(raw, undecoded)
    for left, right in zip(
        postprocess(raw, [1, 0.7], undecoded, 0.05, 0.65), postprocess(decoded, [1, 0.7], SPEC, 0.05, 0.65), strict=True
    ):
        assert len(left) > 10
        assert np.array_equal(left.xyxy, right.xyxy)
        assert np.array_equal(left.confidence, right.confidence)


def test_anchor_order_is_level_by_level_row_major() -> None:
    cells, strides = anchor_grid((64, 96), (8, 16, 32))
    assert cells[:2].tolist() == [[0, 0], [1, 0]]
    assert cells[12].tolist() == [0, 1]
    assert strides[95:97].tolist() == [[8], [16]]
    assert cells[-1].tolist() == [2, 1]


def test_rows_of_a_graph_with_nms() -> None:
    spec = replace(SPEC, nms=GraphNMS(0.1, 0.65))
    rows = np.array([[1, 2, 4, 6, 8, 0.9, 2], [0, 1, 1, 3, 3, 0.5, 1], [1, 0, 0, 2, 2, 0.2, 0]], np.float32)
    first, second = postprocess(rows, [1.0, 2.0], spec, 0.3, 0.65)
    assert first.class_id.tolist() == [1]
    assert second.xyxy.tolist() == [[1, 2, 3, 4]]


def test_boxes_that_are_not_finite_are_dropped_and_harm_no_others() -> None:
    good = {index: [20.0 + 30 * index, 30, 10, 8, 1, 1, 0, 0] for index in range(2)}
    bad = {index: [value, 30, value, 8, 1, 1, 0, 0] for index, value in enumerate((np.inf, np.nan, 1e20), start=5)}
    found = detect(output_with({**good, **bad}), 0.5)
    assert np.isfinite(found.xyxy).all()
    assert {tuple(box) for box in found.xyxy.tolist()} >= {(15, 26, 25, 34), (45, 26, 55, 34)}


GOOD = {index: [20.0 + 30 * index, 30, 10, 8, 1, 1, 0, 0] for index in range(2)}
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("decoded", [True, False])
@pytest.mark.parametrize("value", [NAN, INF, -INF, 3e38])
@pytest.mark.parametrize("place", range(8))
def test_numbers_that_are_none_detect_nothing(place: int, value: float, decoded: bool) -> None:
    """In any place of an anchor, over a good one. A score of 3e38 is a number; a place of 3e38 is none any more in the
    original image."""
    spec = replace(SPEC, decoded=decoded)
    cells, strides = anchor_grid(SPEC.input_size, SPEC.strides)

    def raw(anchor: int, row: list[float]) -> list[float]:
        centre, size = np.array(row[:2]) / strides[anchor] - cells[anchor], np.log(np.array(row[2:4]) / strides[anchor])
        return [*centre.tolist(), *size.tolist(), *row[4:]]

    row = [20.0, 30, 10, 8, 1, 1, 0, 0]
    rows = {**GOOD, 5: row} if decoded else {anchor: raw(anchor, row) for anchor, row in {**GOOD, 5: row}.items()}
    rows[5][place] = value
    found = detect(output_with(rows), 0.5, ratio=0.1, spec=spec)
    assert np.isfinite(found.xyxy).all() and np.isfinite(found.confidence).all()
    stays = {(150, 260, 250, 340), (450, 260, 550, 340)}
    assert {tuple(box) for box in found.xyxy.round(1).tolist()} >= stays
    # Of two equal boxes of one class, one stays; not so of another class, nor of no size, of which minus infinity is
    # the logarithm.
    another = (value == 3e38 and place > 5) or (value == -INF and place in (2, 3) and not decoded)
    assert len(found) == 2 + another


def test_nothing_but_nan_is_nothing() -> None:
    for spec in (SPEC, replace(SPEC, decoded=False)):
        for value in (NAN, INF, -INF):
            assert len(detect(np.full((1, SPEC.num_anchors, 8), value, np.float32), 0.0, spec=spec)) == 0
    for spec, width in ((replace(SPEC, topk=3), 6), (replace(SPEC, nms=GraphNMS(0.1, 0.65)), 7)):
        rows = np.full((1, 3, width) if spec.topk else (3, width), NAN, np.float32)
        assert [len(found) for found in postprocess(rows, [1.0], spec, 0.0 if spec.topk else 0.1, 0.65)] == [0]


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("place", range(6))
def test_rows_of_a_graph_that_are_not_finite_are_dropped(place: int, value: float) -> None:
    """From TopK and from NMS in the graph; whose box, score or class it is."""
    rows = np.array([[0, 0, 9, 9, 0.9, 1], [20, 0, 29, 9, 0.8, 1], [40, 0, 49, 9, 0.7, 2]], np.float32)
    rows[0, place] = value
    expected = [[20, 0, 29, 9], [40, 0, 49, 9]]
    (of_topk,) = postprocess(rows[None], [1.0], replace(SPEC, topk=3), 0.1, 0.65)
    with_image = np.concatenate([np.zeros((3, 1), np.float32), rows], axis=1)
    (of_nms,) = postprocess(with_image, [1.0], replace(SPEC, nms=GraphNMS(0.1, 0.65)), 0.1, 0.65)
    assert of_topk.xyxy.tolist() == of_nms.xyxy.tolist() == expected


def test_boxes_end_at_the_edges_of_the_image() -> None:
    boxes = [[-5, -6, 20, 30], [80, 40, 130, 90], [10, 10, 20, 20], [-9, 5, 0, 9], [100, 0, 120, 9], [0, 0, 100, 60]]
    found = Detections(np.array(boxes, np.float32), np.linspace(0.9, 0.4, 6), np.arange(6))
    inside = clip(found, (60, 100))
    assert inside.xyxy.tolist() == [[0, 0, 20, 30], [80, 40, 100, 60], [10, 10, 20, 20], [0, 0, 100, 60]]
    assert inside.class_id.tolist() == [0, 1, 2, 5]
    assert np.array_equal(inside.confidence, found.confidence[[0, 1, 2, 5]])


@pytest.mark.parametrize("form", ["dense", "topk", "nms"])
def test_sizes_clip_what_every_form_of_output_gives(form: str) -> None:
    spec = ModelSpec("m", (64, 96), ("cat",), batch=None)
    row = [-4.0, 2.0, 20.0, 80.0, 0.9, 0.0]
    output = np.zeros((1, spec.num_anchors, 6), np.float32)
    output[0, 3] = [8, 41, 24, 78, 0.9, 1]
    if form == "topk":
        spec, output = replace(spec, topk=1), np.array([[row]], np.float32)
    elif form == "nms":
        spec, output = replace(spec, nms=GraphNMS(0.1, 0.6)), np.array([[0.0, *row]], np.float32)
    for sizes, expected in ((None, [-8, 4, 40, 160]), ([(100, 30)], [0, 4, 30, 100])):
        [found] = postprocess(output, [0.5], spec, 0.1, 0.6, sizes)
        assert found.xyxy.tolist() == [expected]

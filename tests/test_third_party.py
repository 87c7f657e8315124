"""Model files of other exporters: run rightly, or refused in a sentence that leads further."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from runtimes import COCO_CATEGORY_IDS, COCO_CLASS_NAMES, Detections, InvalidInput, foreign_spec, load
from runtimes.detector import Detector
from runtimes.foreign import decodes, names_in
from runtimes.load import model_file
from runtimes.ncnn_focus import without_focus
from runtimes.ncnn_format import parse_param, to_param
from runtimes.ncnn_graph import blob_shapes
from runtimes.preprocess import Image, preprocess
from runtimes.third_party_files import Node
from runtimes.third_party_layout import Port
from runtimes.third_party_rows import read_rows
from yolox_deploy import detect, evaluate
from yolox_deploy.data.open import open_dataset
from yolox_deploy.options import ForeignOptions, open_artifact, read_class_names

COCO = ["--preprocessing", "official", "--class-names", "coco"]


@pytest.fixture(scope="module")
def files(shared: Path) -> Path:
    return shared / "cases" / "files"


@pytest.fixture(scope="module")
def official(shared: Path) -> Path:
    return shared / "weights" / "yolox_nano_official_export.onnx"


@pytest.fixture(scope="module")
def pictures(shared: Path) -> list[Image]:
    return open_dataset(shared / "data" / "coco-val2017-206").read_images()[:4]


@pytest.fixture(scope="module")
def expected(official: Path, pictures: list[Image]) -> list[Detections]:
    return found_by(official, pictures)


def found_by(path: Path, pictures: Sequence[Image], names: Sequence[str] | None = COCO_CLASS_NAMES) -> list[Detections]:
    with load(path, foreign_spec(path, names, "official"), 0.3, threads=1) as detector:
        return detector(pictures)


def same(left: Sequence[Detections], right: Sequence[Detections], tolerance: float = 0.01) -> bool:
    return [len(one) for one in left] == [len(one) for one in right] and all(
        np.allclose(one.xyxy, other.xyxy, atol=tolerance) and np.array_equal(one.class_id, other.class_id)
        for one, other in zip(left, right, strict=True)
    )


# --- The official export in other forms. Each changes the graph's ends, and nothing else ---


def value(name: str, shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def set_outputs(model: onnx.ModelProto, *outputs: onnx.ValueInfoProto) -> None:
    del model.graph.output[:]
    model.graph.output.extend(outputs)


def levels_of(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The three joins of box, objectness and classes."""
    shaped = {node.input[0] for node in model.graph.node if node.op_type == "Reshape"}
    return [node for node in model.graph.node if node.op_type == "Concat" and node.output[0] in shaped]


def turned(model: onnx.ModelProto) -> None:
    last = next(node for node in model.graph.node if node.output[0] == "output")
    model.graph.node.remove(last)
    set_outputs(model, value(last.input[0], [1, 85, 3549]))


def by_level(model: onnx.ModelProto) -> None:
    sides = (52, 26, 13)
    found = [value(node.output[0], [1, 85, n, n]) for node, n in zip(levels_of(model), sides, strict=True)]
    set_outputs(model, *found[::-1])


def by_level_channels_last(model: onnx.ModelProto) -> None:
    made = []
    for node, side in zip(levels_of(model), (52, 26, 13), strict=True):
        name = f"{node.output[0]}_last"
        model.graph.node.append(helper.make_node("Transpose", [node.output[0]], [name], perm=[0, 2, 3, 1]))
        made.append(value(name, [1, side, side, 85]))
    set_outputs(model, *made)


def nine_outputs(model: onnx.ModelProto) -> None:
    pairs = zip(levels_of(model), (52, 26, 13), strict=True)
    set_outputs(
        model,
        *(
            value(name, [1, channels, side, side])
            for node, side in pairs
            for name, channels in zip(node.input, (4, 1, 80), strict=True)
        ),
    )


def feed_through(model: onnx.ModelProto, shape: Sequence[int], kind: int, *nodes: onnx.NodeProto) -> None:
    """Put nodes between the input, of another shape and type, and the graph; the last one gives `fed`."""
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == "images":
                node.input[index] = "fed"
    for index, node in enumerate(nodes):
        model.graph.node.insert(index, node)
    model.graph.input[0].CopyFrom(value("images", shape, kind))


def channels_last(model: onnx.ModelProto) -> None:
    move = helper.make_node("Transpose", ["images"], ["fed"], perm=[0, 3, 1, 2])
    feed_through(model, [1, 416, 416, 3], TensorProto.FLOAT, move)


def whole_numbers(model: onnx.ModelProto) -> None:
    cast = helper.make_node("Cast", ["images"], ["fed"], to=TensorProto.FLOAT)
    feed_through(model, [1, 3, 416, 416], TensorProto.UINT8, cast)


def doubles(model: onnx.ModelProto) -> None:
    cast = helper.make_node("Cast", ["images"], ["fed"], to=TensorProto.FLOAT)
    feed_through(model, [1, 3, 416, 416], TensorProto.DOUBLE, cast)
    cast_output(model, TensorProto.DOUBLE)


def halves(model: onnx.ModelProto) -> None:
    cast = helper.make_node("Cast", ["images"], ["fed"], to=TensorProto.FLOAT)
    feed_through(model, [1, 3, 416, 416], TensorProto.FLOAT16, cast)
    cast_output(model, TensorProto.FLOAT)


def cast_output(model: onnx.ModelProto, kind: int) -> None:
    last = next(node for node in model.graph.node if node.output[0] == "output")
    last.output[0] = "computed"
    model.graph.node.append(helper.make_node("Cast", ["computed"], ["output"], to=kind))
    set_outputs(model, value("output", [1, 3549, 85], kind))


def extra_output(model: onnx.ModelProto) -> None:
    model.graph.output.append(value(levels_of(model)[0].output[0], [1, 85, 52, 52]))


def no_batch(model: onnx.ModelProto) -> None:
    last = next(node for node in model.graph.node if node.output[0] == "output")
    last.output[0] = "computed"
    model.graph.node.append(helper.make_node("Squeeze", ["computed"], ["output"], axes=[0]))
    set_outputs(model, value("output", [3549, 85]))


FORMS = [
    turned, by_level, by_level_channels_last, nine_outputs, channels_last, whole_numbers, doubles, halves, extra_output,
    no_batch,
]  # fmt: skip


def changed(official: Path, path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(official)
    change(model)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_other_forms_detect_the_same(
    form: Callable[[onnx.ModelProto], None],
    official: Path,
    pictures: list[Image],
    expected: list[Detections],
    tmp_path: Path,
) -> None:
    path = changed(official, tmp_path / "m.onnx", form)
    assert sum(map(len, expected)) > 5
    assert same(found_by(path, pictures), expected)


def test_a_spec_file_serves_for_other_forms_too(
    official: Path, pictures: list[Image], expected: list[Detections], tmp_path: Path
) -> None:
    spec = foreign_spec(official, COCO_CLASS_NAMES, "official")
    (tmp_path / "spec.json").write_text(spec.to_json())
    path = changed(official, tmp_path / "m.onnx", nine_outputs)
    with open_artifact(path, ForeignOptions(spec=tmp_path / "spec.json"), 0.3, None, 1) as detector:
        assert same(detector(pictures), expected)


def test_levels_that_only_names_tell_apart(official: Path, tmp_path: Path) -> None:
    """With one class, objectness and class scores have one shape."""

    def one_class(model: onnx.ModelProto, kinds: Sequence[str]) -> None:
        made = []
        for node, side in zip(levels_of(model), (52, 26, 13), strict=True):
            first = [helper.make_tensor(f"{kinds[2]}{side}_{i}", TensorProto.INT64, [1], [i]) for i in (0, 1)]
            model.graph.initializer.extend(first)
            name = f"{kinds[2]}_{side}"
            cut = helper.make_node("Slice", [node.input[2], first[0].name, first[1].name, first[1].name], [name])
            box, obj = f"{kinds[0]}_{side}", f"{kinds[1]}_{side}"
            model.graph.node.extend(
                [
                    cut,
                    helper.make_node("Identity", [node.input[0]], [box]),
                    helper.make_node("Identity", [node.input[1]], [obj]),
                ]
            )
            made += [value(box, [1, 4, side, side]), value(obj, [1, 1, side, side]), value(name, [1, 1, side, side])]
        set_outputs(model, *made[::-1])

    named = changed(official, tmp_path / "named.onnx", lambda model: one_class(model, ("reg", "obj", "cls")))
    with load(named, foreign_spec(named, ["person"], "official"), threads=1) as detector:
        noise = np.zeros((1, 3, 416, 416), np.float32)
        output = detector.runtime.infer(noise)
    session = onnxruntime.InferenceSession(str(official), providers=["CPUExecutionProvider"])
    assert np.allclose(output, session.run(None, {"images": noise})[0][..., :6], atol=1e-4)

    unnamed = changed(official, tmp_path / "unnamed.onnx", lambda model: one_class(model, ("a", "b", "c")))
    with pytest.raises(InvalidInput, match="cannot be told apart"):
        foreign_spec(unnamed, ["person"], "official")


# --- Free sizes ---


def test_a_free_output_is_unknown_and_not_wrong(files: Path, official: Path, pictures: list[Image]) -> None:
    path = files / "official_dynamic_torchscript.onnx"
    with load(path, foreign_spec(path, COCO_CLASS_NAMES, "official"), 0.3, threads=1) as detector:
        assert detector.spec.batch is None
        single = [detector(picture) for picture in pictures]
        together = list(detector.detect_stream(pictures, 4))
    assert sum(map(len, single)) > 5
    assert same(single, together)


def test_a_free_input_size_is_given(
    files: Path, official: Path, pictures: list[Image], expected: list[Detections], tmp_path: Path
) -> None:
    """The file declares 640x640, and its graph would take any size."""
    model = onnx.load(files / "official_dynamic_torchscript.onnx")
    for index, name in ((2, "h"), (3, "w")):
        model.graph.input[0].type.tensor_type.shape.dim[index].dim_param = name
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(InvalidInput, match="--input-size"):
        foreign_spec(tmp_path / "m.onnx", COCO_CLASS_NAMES, "official")
    options = ForeignOptions(preprocessing="official", class_names="coco", input_size=(416, 416))
    with open_artifact(tmp_path / "m.onnx", options, 0.3, None, 1) as detector:
        assert same(detector(pictures), expected)
        assert same(list(detector.detect_stream(pictures, 4)), expected)
    with pytest.raises(InvalidInput, match="416x416 and no other"):
        foreign_spec(official, COCO_CLASS_NAMES, "official", input_size=(320, 320))


def test_a_wrong_output_of_a_free_graph_shows_at_load(files: Path) -> None:
    path = files / "official_dynamic_torchscript.onnx"
    spec = foreign_spec(path, ["a", "b"], "official")
    with pytest.raises(InvalidInput, match="80 classes, but 2"):
        load(path, spec, threads=1)


# --- NMS inside ---


def test_mmdeploy_with_nms_inside(files: Path, pictures: list[Image]) -> None:
    path = files / "mmdeploy_end2end_person.onnx"
    spec = foreign_spec(path, ["person"], "official")
    assert spec.nms is not None
    assert (spec.nms.score_threshold, spec.nms.nms_threshold) == (0.01, 0.65)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    total = 0
    with load(path, spec, 0.2, threads=1) as plain:
        detector = Detector(plain.runtime, 0.2, clip=False)
        for picture in pictures:
            inputs, [ratio] = preprocess([picture], spec)
            boxes, labels = session.run(None, {"input": inputs})
            rows = boxes[0][(boxes[0][:, 4] >= 0.2) & (labels[0] >= 0)]
            found = detector(picture)
            assert np.allclose(found.xyxy, rows[:, :4] / ratio, atol=1e-3)
            assert np.allclose(found.confidence, rows[:, 4])
            total += len(found)
    assert total > 3


def test_rows_of_seven_in_the_order_of_their_name(files: Path, pictures: list[Image]) -> None:
    path = files / "nms_inside_rows7.onnx"
    names = (files / "nms_inside_rows7.names.txt").read_text().split()
    spec = foreign_spec(path, names, "official")
    assert spec.nms is not None
    assert (spec.nms.score_threshold, spec.nms.nms_threshold) == (0.1, 0.45)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with load(path, spec, 0.1, threads=1) as detector:
        for picture in pictures:
            inputs, [ratio] = preprocess([picture], spec)
            rows = session.run(None, {"images": inputs})[0]
            rows = rows[np.argsort(-rows[:, 2], kind="stable")]
            found = Detector(detector.runtime, 0.1, clip=False)(picture)
            assert np.allclose(found.xyxy, rows[:, 3:] / ratio, atol=1e-3)
            assert np.array_equal(found.class_id, rows[:, 1])


GOOD = np.array([[0, 10, 20, 50, 60, 0.9, 2], [1, 5, 6, 70, 80, 0.4, 0]], np.float32)


def ports_of(*arrays: np.ndarray[Any, Any], names: Sequence[str] = ()) -> list[Port]:
    named = names or [f"output{index}" for index in range(len(arrays))]
    return [Port(name, array.dtype.name, array.shape) for name, array in zip(named, arrays, strict=True)]


def test_rows_of_seven_in_other_orders() -> None:
    batch, boxes, score, label = GOOD[:, :1], GOOD[:, 1:5], GOOD[:, 5:6], GOOD[:, 6:]
    for parts in ((batch, boxes, score, label), (batch, boxes, label, score), (batch, label, score, boxes)):
        rows = np.concatenate(parts, axis=1)
        assert np.array_equal(read_rows("m", ports_of(rows), [rows], 2, 3), GOOD)


def test_nms_in_two_to_four_outputs() -> None:
    boxes, scores, labels = GOOD[:, None, 1:5], GOOD[:, None, 5], GOOD[:, None, 6].astype(np.int64)
    fill = np.full((2, 1, 4), 7, np.float32)
    padded = np.concatenate([boxes, fill], axis=1)
    zeros = np.zeros((2, 1), np.float32)
    dets = np.concatenate([padded, np.concatenate([scores, zeros], axis=1)[..., None]], axis=2)
    many = np.array([[1], [1]], np.int32)
    with_labels = np.concatenate([labels, np.full((2, 1), -1)], axis=1)
    six = np.concatenate([dets, with_labels[..., None]], axis=2).astype(np.float32)
    names = ("num_dets", "det_boxes", "det_scores", "det_classes")
    efficient = [many, padded, np.concatenate([scores, zeros + 0.99], axis=1), with_labels]
    assert np.array_equal(read_rows("m", ports_of(dets, with_labels), [dets, with_labels], 2, 3), GOOD)
    assert np.array_equal(read_rows("m", ports_of(with_labels, dets), [with_labels, dets], 2, 3), GOOD)
    assert np.array_equal(read_rows("m", ports_of(six), [six], 2, 3), GOOD)
    assert np.array_equal(read_rows("m", ports_of(*efficient, names=names), efficient, 2, 3), GOOD)


@pytest.mark.parametrize(
    ("column", "wrong", "says"),
    [
        (6, 3.0, "class 3, but 3 class names"),
        (6, 0.5, "whole numbers"),
        (5, 7.0, "scores outside"),
        (3, 2.0, "no corners"),
    ],
)
def test_rows_that_are_something_else_are_refused(column: int, wrong: float, says: str) -> None:
    rows = GOOD[None, :1, 1:].copy()
    rows[0, 0, column - 1] = wrong
    with pytest.raises(InvalidInput, match=says):
        read_rows("m", ports_of(rows), [rows], 1, 3)


def test_rows_in_fractions_are_refused() -> None:
    rows = GOOD[None, :1, 1:].copy()
    rows[..., :4] /= 416
    with pytest.raises(InvalidInput, match="fractions"):
        read_rows("m", ports_of(rows), [rows], 1, 3)


def test_no_rows_are_no_detections() -> None:
    assert read_rows("m", ports_of(GOOD[:0]), [GOOD[:0]], 1, 3).shape == (0, 7)


def test_evaluate_says_what_nms_inside_hides(
    files: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not refused for its threshold of 0.001."""
    data = few(shared / "data" / "coco-val2017-206", tmp_path / "data", ["person"])
    options = ["--data", str(data), "--preprocessing", "official", "--class-names", "person", "--threads", "1"]
    result = tmp_path / "r.json"
    assert evaluate.main([str(files / "mmdeploy_end2end_person.onnx"), *options, "--json", str(result)]) == 0
    assert capsys.readouterr().err.count("NMS inside, from score 0.01 on, at IoU 0.65") == 1
    content = json.loads(result.read_text())
    assert content["AP"] > 0.1
    assert len(content["warnings"]) == 1


def few(source: Path, target: Path, names: Sequence[str]) -> Path:
    """Eight images of a COCO folder that have objects of these classes, and no other classes."""
    annotations = next(iter((source / "annotations").iterdir()))
    content = json.loads(annotations.read_text())
    kept = {category["id"] for category in content["categories"] if category["name"] in names}
    content["annotations"] = [one for one in content["annotations"] if one["category_id"] in kept]
    content["categories"] = [one for one in content["categories"] if one["id"] in kept]
    ids = list(dict.fromkeys(one["image_id"] for one in content["annotations"]))[:8]
    content["images"] = [one for one in content["images"] if one["id"] in ids]
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in ids]
    (target / "annotations").mkdir(parents=True)
    (target / "annotations" / annotations.name).write_text(json.dumps(content))
    (target / "val2017").symlink_to(source / "val2017")
    return target


# --- Outputs that are no probabilities, boxes that are other ones ---


def without_sigmoids(model: onnx.ModelProto) -> None:
    joins = levels_of(model)
    made = {node.output[0]: node for node in model.graph.node if node.op_type == "Sigmoid"}
    cut = 0
    for join in joins:
        for index in (1, 2):
            join.input[index] = made[join.input[index]].input[0]
            cut += 1
    assert cut == 6


def test_logits_are_refused_and_the_advice_helps(
    official: Path, pictures: list[Image], expected: list[Detections], tmp_path: Path
) -> None:
    path = changed(official, tmp_path / "m.onnx", without_sigmoids)
    spec = foreign_spec(path, COCO_CLASS_NAMES, "official")
    with pytest.raises(InvalidInput, match=r"logits, or this is no box detector.*--sigmoid"):
        load(path, spec, threads=1)
    options = ForeignOptions(preprocessing="official", class_names="coco", sigmoid=True)
    with open_artifact(path, options, 0.3, None, 1) as detector:
        assert same(detector(pictures), expected)
    with pytest.raises(InvalidInput, match="leave out --sigmoid"):
        open_artifact(official, options, 0.3, None, 1)


def test_one_level_of_logits_is_enough(official: Path, tmp_path: Path) -> None:
    def cut_one(model: onnx.ModelProto) -> None:
        made = {node.output[0]: node for node in model.graph.node if node.op_type == "Sigmoid"}
        join = levels_of(model)[2]
        join.input[2] = made[join.input[2]].input[0]

    path = changed(official, tmp_path / "m.onnx", cut_one)
    spec = foreign_spec(path, COCO_CLASS_NAMES, "official")
    for sigmoid in (False, True):
        with pytest.raises(InvalidInput, match="probabilities"):
            load(path, spec, threads=1, sigmoid=sigmoid)


@pytest.mark.slow
def test_the_ap_of_logits_with_sigmoid(official: Path, shared: Path, tmp_path: Path) -> None:
    path = changed(official, tmp_path / "m.onnx", without_sigmoids)
    spec = foreign_spec(path, COCO_CLASS_NAMES, "official")
    with load(path, spec, 0.001, sigmoid=True) as detector:
        found = evaluate.evaluate(detector, open_dataset(shared / "data" / "coco-val2017-206")).AP
    assert found == pytest.approx(0.2860, abs=5e-4)


def test_a_wrong_decoded_in_a_spec_is_noticed(official: Path, files: Path, tmp_path: Path) -> None:
    spec = foreign_spec(official, COCO_CLASS_NAMES, "official")
    with pytest.raises(InvalidInput, match=r'are not decoded.*"decoded": false'):
        load(official, replace(spec, decoded=True), threads=1)
    small = files / "person_192.onnx"
    spec = foreign_spec(small, ["person"], "official")
    assert not spec.decoded
    with pytest.raises(InvalidInput, match="are not decoded"):
        load(small, replace(spec, decoded=True), threads=1)


def after_decoding(factor: Sequence[float]) -> Callable[[onnx.ModelProto], None]:
    """Decode the boxes in the graph, and multiply them (cx, cy, w, h)."""

    def change(model: onnx.ModelProto) -> None:
        from runtimes.postprocess import anchor_grid

        cells, strides = anchor_grid((416, 416), (8, 16, 32))
        last = next(node for node in model.graph.node if node.output[0] == "output")
        last.output[0] = "raw"
        numbers = {
            "cells": np.concatenate([cells, np.zeros_like(cells)], 1)[None],
            "steps": np.repeat(strides, 4, axis=1)[None],
            "factor": np.array(factor, np.float32),
        }
        model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in numbers.items())
        model.graph.initializer.append(helper.make_tensor("parts", TensorProto.INT64, [3], [2, 2, 81]))
        model.graph.node.extend(
            [
                helper.make_node("Split", ["raw"], ["xy", "wh", "scores"], axis=2, split=[2, 2, 81]),
                helper.make_node("Exp", ["wh"], ["size"]),
                helper.make_node("Concat", ["xy", "size"], ["box"], axis=2),
                helper.make_node("Add", ["box", "cells"], ["moved"]),
                helper.make_node("Mul", ["moved", "steps"], ["pixels"]),
                helper.make_node("Mul", ["pixels", "factor"], ["scaled"]),
                helper.make_node("Concat", ["scaled", "scores"], ["output"], axis=2),
            ]
        )

    return change


def test_decoded_boxes_are_told_from_raw_ones(
    official: Path, pictures: list[Image], expected: list[Detections], tmp_path: Path
) -> None:
    path = changed(official, tmp_path / "m.onnx", after_decoding([1, 1, 1, 1]))
    spec = foreign_spec(path, COCO_CLASS_NAMES, "official")
    assert spec.decoded
    assert same(found_by(path, pictures), expected)
    with pytest.raises(InvalidInput, match=r'are decoded.*"decoded": true'):
        load(path, replace(spec, decoded=False), threads=1)


def test_boxes_in_fractions_are_refused(official: Path, tmp_path: Path) -> None:
    path = changed(official, tmp_path / "m.onnx", after_decoding([1 / 416] * 4))
    with pytest.raises(InvalidInput, match="fractions of the image"):
        load(path, foreign_spec(path, COCO_CLASS_NAMES, "official"), threads=1)


@pytest.mark.parametrize("factor", [1, 1 / 416])
def test_boxes_by_their_corners_are_refused(factor: float, official: Path, tmp_path: Path) -> None:
    def corners(model: onnx.ModelProto) -> None:
        after_decoding([factor] * 4)(model)
        model.graph.node[-1].output[0] = "whole"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0.5, np.float32), "half"))
        model.graph.node.extend(
            [
                helper.make_node("Split", ["whole"], ["centre", "sides", "rest"], axis=2, split=[2, 2, 81]),
                helper.make_node("Mul", ["sides", "half"], ["halves"]),
                helper.make_node("Sub", ["centre", "halves"], ["first"]),
                helper.make_node("Add", ["centre", "halves"], ["last"]),
                helper.make_node("Concat", ["first", "last", "rest"], ["output"], axis=2),
            ]
        )

    path = changed(official, tmp_path / "m.onnx", corners)
    with pytest.raises(InvalidInput, match="corners"):
        load(path, foreign_spec(path, COCO_CLASS_NAMES, "official"), threads=1)


def test_levels_in_another_order_are_refused(official: Path, tmp_path: Path) -> None:
    """One output that holds the coarse level first."""

    def reverse(model: onnx.ModelProto) -> None:
        after_decoding([1, 1, 1, 1])(model)
        index = np.r_[3380:3549, 2704:3380, :2704].astype(np.int64)
        model.graph.initializer.append(onnx.numpy_helper.from_array(index, "order"))
        model.graph.node[-1].output[0] = "straight"
        model.graph.node.append(helper.make_node("Gather", ["straight", "order"], ["output"], axis=1))

    path = changed(official, tmp_path / "m.onnx", reverse)
    with pytest.raises(InvalidInput, match="another order"):
        load(path, foreign_spec(path, COCO_CLASS_NAMES, "official"), threads=1)


def test_an_exponential_of_an_activation_decodes_nothing() -> None:
    boxes = [Node("Conv", ("x",), ("a",)), Node("Exp", ("a",), ("b",)), Node("Mul", ("b", "s"), ("y",))]
    mish = [Node("Exp", ("i",), ("m",)), Node("Mul", ("m", "i"), ("n",)), Node("Conv", ("n",), ("x",))]
    sigmoid = [Node("Conv", ("x",), ("a",)), Node("Exp", ("a",), ("b",)), Node("Add", ("b", "one"), ("y",))]
    assert [decodes(nodes) for nodes in (boxes, mish, sigmoid, boxes + mish)] == [True, False, False, True]


# --- What is no YOLOX ---


def random_graph(path: Path, *shapes: Sequence[int], inputs: Sequence[onnx.ValueInfoProto] = ()) -> Path:
    images = inputs or [value("images", [1, 3, 416, 416])]
    nodes = [helper.make_node("RandomUniform", [], [f"o{i}"], shape=list(shape)) for i, shape in enumerate(shapes)]
    outputs = [value(f"o{i}", shape) for i, shape in enumerate(shapes)]
    graph = helper.make_graph(nodes, "g", images, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ([(1, 84, 3549)], "no objectness, as YOLOv8"),
        ([(1, 3549, 84)], "no objectness, as YOLOv8"),
        ([(1, 10647, 85)], "three anchors a cell"),
        ([(1, 255, 52, 52), (1, 255, 26, 26), (1, 255, 13, 13)], "three anchors a cell"),
        ([(1, 3, 52, 52, 85), (1, 3, 26, 26, 85), (1, 3, 13, 13, 85)], "three anchors a cell"),
        ([(1, 3549, 136)], "17 key points"),
        ([(1, 300, 80), (1, 300, 4)], "RT-DETR"),
        ([(1, 4, 52, 52), (1, 80, 52, 52)], "cannot be told apart"),
        ([(1, 1000)], r"not the \(N, 3549, 85\)"),
    ],
)
def test_other_detectors_are_named(shapes: list[tuple[int, ...]], says: str, tmp_path: Path) -> None:
    path = random_graph(tmp_path / "m.onnx", *shapes)
    with pytest.raises(InvalidInput, match=says):
        foreign_spec(path, COCO_CLASS_NAMES, "official")


@pytest.mark.parametrize(
    ("inputs", "preprocessing", "says"),
    [
        ([value("images", [1, 3, 416, 416]), value("scale_factor", [1, 2])], "official", "scale_factor"),
        ([value("images", [1, 3, 416, 416], TensorProto.UINT8)], "legacy", "normalised"),
        ([value("images", [1, 3, 416, 416], TensorProto.INT8)], "official", "int8"),
        ([value("images", [1, 416, 416])], "official", "not images"),
    ],
)
def test_other_inputs_are_named(
    inputs: list[onnx.ValueInfoProto], preprocessing: Any, says: str, tmp_path: Path
) -> None:
    path = random_graph(tmp_path / "m.onnx", (1, 3549, 85), inputs=inputs)
    with pytest.raises(InvalidInput, match=says):
        foreign_spec(path, COCO_CLASS_NAMES, preprocessing)


def test_constants_of_text_are_passed_over(official: Path, tmp_path: Path) -> None:
    def text(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(helper.make_tensor("text", TensorProto.STRING, [1], [b"hi"]))

    path = changed(official, tmp_path / "m.onnx", text)
    assert foreign_spec(path, COCO_CLASS_NAMES, "official").input_size == (416, 416)


def test_plugins_are_named(files: Path, tmp_path: Path) -> None:
    model = onnx.load(files / "mmdeploy_end2end_person.onnx")
    for node in model.graph.node:
        if node.op_type == "NonMaxSuppression":
            node.op_type, node.domain = "TRTBatchedNMS", "mmdeploy"
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(InvalidInput, match=r"TRTBatchedNMS, a plugin of mmdeploy.*export the checkpoint"):
        foreign_spec(tmp_path / "m.onnx", ["person"], "official")


@pytest.mark.parametrize(
    ("suffix", "tool"),
    [("rknn", "RKNN"), ("TFLITE", "TensorFlow Lite"), ("mlmodel", "Core ML"), ("mnn", "MNN"), ("pt2", "torch.export")],
)
def test_files_of_other_tools_are_named(suffix: str, tool: str, tmp_path: Path) -> None:
    path = tmp_path / f"m.{suffix}"
    path.write_bytes(b"\0" * 64)
    with pytest.raises(InvalidInput, match=f"{tool}.*yolox-deploy export"):
        model_file(path)


# --- Class names ---


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{0: 'person', 1: 'car'}", ("person", "car")),
        ('{"1": "car", "0": "person"}', ("person", "car")),
        ('["person", "car"]', ("person", "car")),
        ("('person', 'car')", ("person", "car")),
        ('{"person": 0, "car": 1}', ("person", "car")),
        ("{0: 'person', 2: 'car'}", None),
        ("__import__('os').getcwd()", None),
        ("{0: 'a\\x1b[31m'}", None),
        ("[1, 2]", None),
        ("", None),
        ("(" * 5000, None),
    ],
)
def test_names_in_metadata(text: str, names: tuple[str, ...] | None) -> None:
    assert names_in(text) == names


def named_file(official: Path, path: Path, **metadata: str) -> Path:
    def change(model: onnx.ModelProto) -> None:
        helper.set_model_props(model, metadata)

    return changed(official, path, change)


def test_the_names_in_a_file_are_read(official: Path, tmp_path: Path) -> None:
    path = named_file(official, tmp_path / "m.onnx", names=str(dict(enumerate(COCO_CLASS_NAMES))))
    spec = foreign_spec(path, None, "official")
    assert (spec.class_names, spec.category_ids) == (COCO_CLASS_NAMES, COCO_CATEGORY_IDS)
    assert foreign_spec(path, COCO_CLASS_NAMES, "official") == spec
    with pytest.raises(InvalidInput, match="class 0 'person', and 'bicycle'"):
        foreign_spec(path, (COCO_CLASS_NAMES[1], COCO_CLASS_NAMES[0], *COCO_CLASS_NAMES[2:]), "official")


def test_names_that_contradict_each_other_are_not_chosen_from(official: Path, files: Path, tmp_path: Path) -> None:
    person = files / "person_192.onnx"
    path = named_file(official, tmp_path / "m.onnx", names="['a', 'b']", classes="['b', 'a']")
    with pytest.raises(InvalidInput, match="in two ways"):
        foreign_spec(path, None, "official")
    two = named_file(person, tmp_path / "two.onnx", names="['a']", classes="['B b']")
    for name in ("a", "b_B"):  # as the sentence says
        assert foreign_spec(two, [name], "official").class_names == (name,)
    with pytest.raises(InvalidInput, match="'a', and 'c'"):
        foreign_spec(two, ["c"], "official")


def test_names_of_coco_have_its_ids(files: Path) -> None:
    assert foreign_spec(files / "person_192.onnx", ["car"], "official").category_ids == (3,)


def test_class_names_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_class_names("person") == (("person",), (1,))
    assert read_class_names("person, traffic light") == (("person", "traffic light"), (1, 10))
    assert read_class_names(",".join(COCO_CLASS_NAMES)) == (COCO_CLASS_NAMES, COCO_CATEGORY_IDS)
    assert read_class_names("helmet,vest") == (("helmet", "vest"), (1, 2))
    (tmp_path / "person").write_text("helmet\nvest\n")
    assert read_class_names("person")[0] == ("helmet", "vest")
    for wrong in ("names.txt", "lists/names", "a,a", ","):
        with pytest.raises(InvalidInput, match="--class-names"):
            read_class_names(wrong)


# --- OpenVINO and NCNN ---


@pytest.mark.parametrize("form", [None, turned, nine_outputs, halves, without_sigmoids])
def test_openvino_files_of_others(
    form: Callable[[onnx.ModelProto], None] | None,
    official: Path,
    pictures: list[Image],
    expected: list[Detections],
    tmp_path: Path,
) -> None:
    openvino = pytest.importorskip("openvino")
    source = changed(official, tmp_path / "m.onnx", form) if form else official
    path = tmp_path / "model.xml"
    openvino.save_model(openvino.convert_model(str(source)), str(path), compress_to_fp16=False)
    with pytest.raises(InvalidInput, match=r"--preprocessing.*--class-names"):
        load(path)
    options = ForeignOptions(preprocessing="official", class_names="coco", sigmoid=form is without_sigmoids)
    with open_artifact(path, options, 0.3, None, 1) as detector:
        assert same(detector(pictures), expected)


def test_openvino_with_nms_inside(files: Path, pictures: list[Image], tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    source = files / "mmdeploy_end2end_person.onnx"
    openvino.save_model(openvino.convert_model(str(source)), str(tmp_path / "m.xml"), compress_to_fp16=False)
    found = found_by(tmp_path / "m.xml", pictures, ["person"])
    assert same(found, found_by(source, pictures, ["person"]))


def test_focus_is_that_of_yolox() -> None:
    ncnn = pytest.importorskip("ncnn")
    layers = parse_param("7767517\n2 2\nInput images 0 1 images\nYoloV5Focus focus 1 1 images out\n")
    layers = without_focus(layers)
    assert blob_shapes(layers, (3, 6, 8), third_party=True)["out"] == (12, 3, 4)
    net = ncnn.Net()
    assert net.load_param_mem(to_param(layers)) == 0
    image = np.arange(144, dtype=np.float32).reshape(3, 6, 8)
    extractor = net.create_extractor()
    extractor.input("images", ncnn.Mat(image).clone())
    found = np.array(extractor.extract("out")[1])
    corners = [image[:, y::2, x::2] for y, x in ((0, 0), (1, 0), (0, 1), (1, 1))]
    assert np.array_equal(found, np.concatenate(corners))


def test_ncnn_of_the_official_recipe(files: Path, pictures: list[Image]) -> None:
    pytest.importorskip("ncnn")
    path = files / "ncnn_focus_legacy.param"
    with pytest.raises(InvalidInput, match="--preprocessing, --class-names and --input-size"):
        load(path)
    with pytest.raises(InvalidInput, match="--input-size HEIGHT WIDTH"):
        foreign_spec(path, COCO_CLASS_NAMES, "legacy")
    spec = foreign_spec(path, COCO_CLASS_NAMES, "legacy", input_size=(416, 416))
    assert spec.category_ids == COCO_CATEGORY_IDS
    with load(path, spec, 0.3, threads=1) as detector:
        found = detector(pictures)
    assert {COCO_CLASS_NAMES[number] for one in found for number in one.class_id} >= {"person"}


@pytest.mark.slow
def test_the_ap_of_the_official_ncnn_recipe(files: Path, shared: Path) -> None:
    pytest.importorskip("ncnn")
    path = files / "ncnn_focus_legacy.param"
    spec = foreign_spec(path, COCO_CLASS_NAMES, "legacy", input_size=(416, 416))
    with load(path, spec, 0.001, threads=1) as detector:
        found = evaluate.evaluate(detector, open_dataset(shared / "data" / "coco-val2017-206")).AP
    assert found == pytest.approx(0.2817, abs=5e-4)


@pytest.mark.parametrize("damage", ["0=16 1=3 4=1", "7=16", "0=-1 1=85", "0=1 1=2.000000e+00"])
def test_a_damaged_ncnn_file_does_not_reach_native_code(damage: str, files: Path, tmp_path: Path) -> None:
    text = (files / "ncnn_focus_legacy.param").read_text()
    assert damage in text
    (tmp_path / "m.param").write_text(text.replace(damage, damage.replace("1", "9", 1), 1))
    (tmp_path / "m.bin").symlink_to(files / "ncnn_focus_legacy.bin")
    with pytest.raises(InvalidInput):
        path = tmp_path / "m.param"
        load(path, foreign_spec(path, COCO_CLASS_NAMES, "legacy", input_size=(416, 416)), threads=1)


# --- Advice leads further ---


@pytest.mark.parametrize(
    ("first", "advice"),
    [
        ([], "--preprocessing"),
        (["--preprocessing", "official"], "--class-names"),
        (["--preprocessing", "official", "--class-names", "helmet,vest"], "--class-names"),
        ([*COCO, "--sigmoid"], "--sigmoid"),
        ([*COCO, "--input-size", "320", "320"], "--input-size"),
    ],
)
def test_following_the_advice_gets_further(
    first: list[str], advice: str, official: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(next((shared / "data" / "coco-val2017-206" / "val2017").iterdir()))
    then = {
        "--preprocessing": ["--preprocessing", "official"],
        "--class-names": COCO,
        "--sigmoid": COCO,
        "--input-size": COCO,
    }[advice]
    command = [str(official), image, "--output", str(tmp_path / "out"), "--threads", "1"]
    assert detect.main([*command, *first]) == 1
    before = capsys.readouterr().err
    assert advice in before
    code = detect.main([*command, *then])
    after = capsys.readouterr().err
    assert code == 0 or before not in after

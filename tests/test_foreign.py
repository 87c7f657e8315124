from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exporters.artifact import Artifact
from exporters.parity import compare
from exporters.torch_runtime import TorchRuntime
from runtimes import COCO_CATEGORY_IDS, COCO_CLASS_NAMES, InvalidInput, MissingBackend, ModelSpec, foreign_spec, load
from yolox_deploy import detect
from yolox_deploy.data.open import open_dataset
from yolox_deploy.model.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def official_file(shared: Path) -> Path:
    return shared / "weights" / "yolox_nano_official_export.onnx"


def test_the_graph_of_the_official_export_is_read(official_file: Path) -> None:
    spec = foreign_spec(official_file, COCO_CLASS_NAMES, "official", COCO_CATEGORY_IDS)
    assert (spec.input_size, spec.batch, spec.decoded, spec.channel_order) == ((416, 416), 1, False, "BGR")


def test_the_official_export_detects_what_the_checkpoint_detects(
    official_file: Path, shared: Path, nano_checkpoint: Checkpoint
) -> None:
    spec = foreign_spec(official_file, COCO_CLASS_NAMES, "official", COCO_CATEGORY_IDS)
    dataset = open_dataset(shared / "data" / "coco-val2017-206")
    images = dataset.read_images()[:16]
    with load(official_file, spec) as detector:
        report = compare(TorchRuntime(nano_checkpoint.build(), spec), detector.runtime, images)
    assert report
    assert report.detections > 300


def test_a_decoded_graph_is_told_from_a_raw_one(artifact: Artifact, tmp_path: Path) -> None:
    model = onnx.load(artifact.model)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "model.onnx")
    spec = foreign_spec(tmp_path / "model.onnx", COCO_CLASS_NAMES, "official")
    assert spec.decoded
    assert spec.batch is None
    assert spec.input_size == (256, 320)


def test_without_a_spec_it_asks(official_file: Path) -> None:
    with pytest.raises(InvalidInput, match=r"carries no spec.*--preprocessing.*--class-names.*--spec FILE"):
        load(official_file)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "--preprocessing"),
        (["--preprocessing", "official"], "say them with --class-names"),
        (["--class-names", "coco"], "needs --preprocessing"),
    ],
)
def test_the_command_asks_for_what_is_missing(
    options: list[str], says: str, official_file: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next((shared / "data" / "coco-val2017-206" / "val2017").iterdir())
    assert detect.main([str(official_file), str(image), "--output", str(tmp_path / "out"), *options]) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_spec_file_serves_too(official_file: Path, tmp_path: Path) -> None:
    spec = foreign_spec(official_file, COCO_CLASS_NAMES, "official")
    (tmp_path / "spec.json").write_text(spec.to_json())
    assert load(official_file, ModelSpec.read(tmp_path / "spec.json")).spec == spec


def test_another_class_count_names_both(official_file: Path) -> None:
    with pytest.raises(InvalidInput, match=r"80 classes, but 2 class names"):
        foreign_spec(official_file, ("cat", "dog"), "official")


def write_graph(path: Path, input_shape: list[int | str], output_shape: list[int | str]) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output_shape)],
    )
    onnx.save(helper.make_model(graph), path)
    return path


@pytest.mark.parametrize(
    ("input_shape", "output_shape", "says"),
    [
        ([1, 3, "h", "w"], [1, 84, 85], "--input-size HEIGHT WIDTH"),
        ([1, 1, 64, 64], [1, 84, 85], "not images"),
        ([1, 3, 64, 64], [1, 100, 85], r"not the \(N, 84, 85\)"),
        ([1, 3, 64, 64], [1, 84], "not the"),
        ([1, 3, 50, 64], [1, 84, 85], "multiples of 32"),
    ],
)
def test_other_graphs_are_refused(
    input_shape: list[int | str], output_shape: list[int | str], says: str, tmp_path: Path
) -> None:
    path = write_graph(tmp_path / "m.onnx", input_shape, output_shape)
    with pytest.raises(InvalidInput, match=says):
        foreign_spec(path, COCO_CLASS_NAMES, "official")


def test_a_file_that_is_no_graph(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\xff\xfe not a graph")
    with pytest.raises(InvalidInput, match="not an ONNX file"):
        foreign_spec(tmp_path / "m.onnx", COCO_CLASS_NAMES, "official")
    with pytest.raises(InvalidInput):
        foreign_spec(tmp_path / "nothing.onnx", COCO_CLASS_NAMES, "official")


def test_without_onnx_it_says_what_to_type(official_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingBackend, match="pip install onnx"):
        foreign_spec(official_file, COCO_CLASS_NAMES, "official")


def test_the_wrong_preprocessing_shows(official_file: Path, shared: Path, nano_checkpoint: Checkpoint) -> None:
    """Why it is asked for and not guessed."""
    spec = foreign_spec(official_file, COCO_CLASS_NAMES, "official")
    wrong = foreign_spec(official_file, COCO_CLASS_NAMES, "legacy")
    image = open_dataset(shared / "data" / "coco-val2017-206").read_images()[0]
    with load(official_file, spec) as right, load(official_file, wrong) as left:
        assert not np.array_equal(right(image).xyxy, left(image).xyxy)

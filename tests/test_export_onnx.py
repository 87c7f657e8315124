from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import exporters.nms
import exporters.onnx
from exporters.artifact import Artifact, write_artifact
from exporters.options import ExportOptions
from exporters.report import ParityError
from exporters.torch_runtime import TorchRuntime
from runtimes import Detector, GraphNMS, InvalidInput, ModelSpec, load
from runtimes.preprocess import Image
from yolox_deploy import export
from yolox_deploy.model.checkpoint import Checkpoint
from yolox_deploy.model.seeded import seeded_model
from yolox_deploy.model.yolox import YOLOX


def graph_of(artifact: Artifact) -> onnx.GraphProto:
    return onnx.load(artifact.model).graph


def test_the_artifact_is_whole_and_proven(artifact: Artifact, small_spec: ModelSpec) -> None:
    assert sorted(file.name for file in artifact.folder.iterdir()) == ["model.onnx", "parity.json", "spec.json"]
    assert artifact.folder.name == "yolox-nano-onnx-fp32"
    assert ModelSpec.read(artifact.folder / "spec.json") == small_spec
    parity = json.loads((artifact.folder / "parity.json").read_text())
    assert parity["passed"]
    assert parity["detections"] > 20
    assert [stage["name"] for stage in parity["stages"]][-1] == "onnxsim"
    assert load(artifact.folder).spec == small_spec


def test_names_are_those_of_the_official_exporter_and_readable(artifact: Artifact) -> None:
    graph = graph_of(artifact)
    assert [value.name for value in graph.input] == ["images"]
    assert [value.name for value in graph.output] == ["output"]
    names = {node.name for node in graph.node}
    assert len(names) == len(graph.node)
    assert {"backbone.backbone.stem.0/Conv", "backbone.lateral_conv0.0/Conv", "head.obj_preds.2/Conv"} <= names
    weights = {tensor.name for tensor in graph.initializer}
    assert "head.cls_preds.0.weight" in weights


def test_the_graph_is_rewritten_and_holds_no_paths(artifact: Artifact) -> None:
    model = onnx.load(artifact.model)
    operators = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in operators
    assert operators.count("MaxPool") == 3
    first = model.graph.node[0]
    assert (first.op_type, first.input[0]) == ("Conv", "images")  # no Focus slices before it
    assert model.opset_import[0].version == 17
    assert b".py" not in model.SerializeToString()


def test_spec_is_readable_metadata(artifact: Artifact) -> None:
    metadata = {entry.key: entry.value for entry in onnx.load(artifact.model).metadata_props}
    assert metadata["yolox.input_size"] == "[256, 320]"
    assert json.loads(metadata["yolox.class_names"])[0] == "person"


@pytest.mark.parametrize(
    ("change", "opset"),
    [
        pytest.param({"batch": 3}, 18, marks=pytest.mark.slow),
        pytest.param({"batch": 1, "uint8_input": True}, 20, marks=pytest.mark.slow),
        pytest.param({"decoded": False}, 22, marks=pytest.mark.slow),
        pytest.param({"nms": GraphNMS(0.01, 0.65)}, 17, marks=pytest.mark.slow),
        ({"nms": GraphNMS(0.02, 0.5), "batch": 2, "uint8_input": True}, 19),
    ],
    ids=["batch 3", "uint8", "raw", "nms", "nms uint8 batch 2"],
)
def test_every_option_is_proven(
    change: dict[str, object],
    opset: int,
    seeded_nano: YOLOX,
    small_spec: ModelSpec,
    images: list[Image],
    tmp_path: Path,
) -> None:
    spec = replace(small_spec, **change)  # type: ignore[arg-type]
    artifact = write_artifact(seeded_nano, spec, "onnx", tmp_path, images, ExportOptions(opset))
    assert artifact.report
    assert artifact.report.detections > 20
    model = onnx.load(artifact.model)
    assert model.opset_import[0].version == opset
    kinds = {node.op_type for node in model.graph.node}
    assert ("NonMaxSuppression" in kinds) == (spec.nms is not None)
    assert ("Exp" in kinds) == spec.decoded
    assert ("Cast" in kinds) == spec.uint8_input
    with load(artifact.folder) as detector:
        assert detector.spec == spec
        assert [len(found) for found in detector(images)] == [len(detector(image)) for image in images]


def test_legacy_normalisation_in_the_graph(small_spec: ModelSpec, images: list[Image], tmp_path: Path) -> None:
    model = seeded_model("yolox-nano")
    stem = model.get_submodule("backbone.backbone.stem.conv")
    with torch.no_grad():  # so that it gives for pixels around 0 +- 2 what it gave for 0..255
        stem.bn.running_mean -= 114 * stem.conv.weight.sum(dim=(1, 2, 3))  # type: ignore[union-attr, operator]
        stem.conv.weight *= 57  # type: ignore[union-attr, operator]
    spec = replace(small_spec, batch=1, uint8_input=True, channel_order="RGB", normalization="imagenet")
    artifact = write_artifact(model, spec, "onnx", tmp_path, images)
    assert artifact.report.detections > 0
    assert onnx.load(artifact.model).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


@pytest.fixture(scope="module")
def crowded() -> YOLOX:
    """Two classes and boxes seven times their stride: neighbours overlap, so that NMS has much to do."""
    model = seeded_model("yolox-nano", num_classes=2)
    with torch.no_grad():
        for layer in model.head.reg_preds:
            layer.bias[2:] = 2  # type: ignore[index, operator]
    return model


def crowded_spec(small_spec: ModelSpec) -> ModelSpec:
    return replace(small_spec, class_names=("cat", "dog"), category_ids=(1, 2), nms=GraphNMS(0.02, 0.5), batch=1)


def test_nms_in_the_graph_is_ours(crowded: YOLOX, small_spec: ModelSpec, images: list[Image], tmp_path: Path) -> None:
    spec = replace(crowded_spec(small_spec), batch=None)
    artifact = write_artifact(crowded, spec, "onnx", tmp_path, images)
    plain = Detector(TorchRuntime(crowded, spec), 0.02, 0.5)
    without = Detector(TorchRuntime(crowded, spec), 0.02, 1.0)
    with load(artifact.folder, score_threshold=0.02) as ours:
        rows, _ = ours.infer(images)
        assert (np.diff(rows[:, 5]) <= 0).all()
        assert 10 < len(rows) < sum(map(len, without(images))) / 2
        for left, right in zip(ours(images), plain(images), strict=True):
            assert np.array_equal(left.class_id, right.class_id)
            assert np.abs(left.xyxy - right.xyxy).max(initial=0) < 1e-3


def test_nms_that_does_nothing_is_refused(
    crowded: YOLOX, small_spec: ModelSpec, images: list[Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = exporters.nms.append_nms
    monkeypatch.setattr(exporters.nms, "append_nms", lambda model, nms: append(model, GraphNMS(0.02, 0.99)))
    with pytest.raises(ParityError, match="are extra"):
        write_artifact(crowded, crowded_spec(small_spec), "onnx", tmp_path, images)
    assert list(tmp_path.iterdir()) == []


class Broken(nn.Identity):
    """A block whose `inference_form` is not what it is."""

    def inference_form(self) -> nn.Module:
        return nn.Tanh()


def test_a_broken_rewrite_is_named_and_nothing_is_written(
    small_spec: ModelSpec, images: list[Image], tmp_path: Path, artifact: Artifact
) -> None:
    model = seeded_model("yolox-nano")
    assert isinstance(model.backbone, nn.Module)
    model.backbone.add_module("upsample", nn.Sequential(model.backbone.upsample, Broken()))  # type: ignore[arg-type]
    with pytest.raises(ParityError, match="the rewritten PyTorch graph changes the output") as failure:
        write_artifact(model, replace(small_spec, batch=1), "onnx", tmp_path, images)
    assert not failure.value.report
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_older_artifact(
    seeded_nano: YOLOX, small_spec: ModelSpec, images: list[Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "yolox-nano-onnx-fp32"
    folder.mkdir()
    (folder / "model.onnx").write_text("the old one")

    def spoil(graph: object, inputs: object, opset: int) -> onnx.ModelProto:
        raise RuntimeError("the exporter broke")

    monkeypatch.setattr(exporters.onnx, "trace", spoil)
    with pytest.raises(RuntimeError, match="broke"):
        write_artifact(seeded_nano, small_spec, "onnx", tmp_path, images)
    assert (folder / "model.onnx").read_text() == "the old one"
    assert [file.name for file in tmp_path.iterdir()] == [folder.name]


def test_a_folder_with_other_files_is_not_replaced(
    seeded_nano: YOLOX, small_spec: ModelSpec, images: list[Image], tmp_path: Path
) -> None:
    (tmp_path / "yolox-nano-onnx-fp32").mkdir()
    (tmp_path / "yolox-nano-onnx-fp32" / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidInput, match=r"thesis.txt"):
        write_artifact(seeded_nano, small_spec, "onnx", tmp_path, images)


def test_the_command_with_real_weights(
    shared: Path, nano_checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", "yolox-nano", "--weights", str(nano_checkpoint.path), "--target", "onnx"]
    arguments += ["--input-size", "416", "416", "--batch", "1", "--precision", "fp32", "--output", str(tmp_path)]
    assert export.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "parity: 8 images" in printed
    spec = ModelSpec.read(tmp_path / "yolox-nano-onnx-fp32" / "spec.json")
    assert spec.source_sha256 == nano_checkpoint.sha256
    assert (spec.batch, spec.class_names[0], spec.category_ids[-1]) == (1, "person", 90)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--input-size", "400", "416"], "multiples of 32"),
        (["--class-names", "nowhere.txt"], "neither"),
        (["--model", "yolox-s"], "holds a yolox-nano, not the yolox-s"),
        (["--num-classes", "3"], "80 classes, not the 3"),
        (["--nms", "--no-decode"], "leave out --no-decode"),
        (["--nms", "--nms-score-threshold", "0"], "between 0 and 1"),
        (["--verify-images", "nowhere"], "does not exist"),
        (["--name", "../up"], "--name"),
        (["--batch", "0"], "--batch must be at least 1"),
        (["--seeded"], "exclude each other"),
        (["--num-classes", "-1"], "--num-classes must be at least 1"),
        (["--target"], "--target names nothing"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    arguments: list[str], says: str, seeded_nano: YOLOX, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, output = tmp_path / "w.pth", tmp_path / "out"
    torch.save(seeded_nano.state_dict(), weights)
    assert export.main(["--weights", str(weights), "--output", str(output), *arguments]) == 1
    error = capsys.readouterr().err
    *assumed, sentence = error.splitlines()
    assert all(line.startswith("assumed, since ") for line in assumed)
    assert sentence.startswith("error: ")
    assert says in sentence
    assert not output.exists()


def test_an_artifact_is_replaced_only_on_request(
    artifact: Artifact, seeded_nano: YOLOX, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(artifact.folder, tmp_path / "yolox-nano-onnx-fp32")
    torch.save(seeded_nano.state_dict(), tmp_path / "w.pth")
    arguments = ["--weights", str(tmp_path / "w.pth"), "--output", str(tmp_path), "--input-size", "64", "64"]
    assert export.main(arguments) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "yolox-nano-onnx-fp32" / "model.onnx").read_bytes() == artifact.model.read_bytes()
    assert export.main([*arguments, "--overwrite"]) == 0
    assert load(tmp_path / "yolox-nano-onnx-fp32").spec.input_size == (64, 64)


def test_without_a_model_it_says_what_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main([]) == 1
    assert "yolox-deploy export MODEL" in capsys.readouterr().err

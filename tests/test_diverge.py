from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import openvino
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from benchmarks.diverge.__main__ import diverge, main, read_spec
from benchmarks.diverge.input import Recipe, make_input, recipe_of
from benchmarks.diverge.report import INPUT, OUTPUT, Cause, Divergence
from exporters.artifact import Artifact
from exporters.calibration import calibration_batches
from exporters.graph import rewrite
from exporters.ncnn import RawNetwork, convert
from exporters.ncnn_format import to_half, write_model
from exporters.nms import append_nms
from exporters.qdq import quantize_for_onnxruntime
from runtimes import InvalidInput, ModelSpec
from runtimes.ncnn_format import Layer, Weights
from runtimes.onnx import spec_to_metadata
from runtimes.openvino import RT_INFO
from runtimes.preprocess import Image, preprocess
from runtimes.spec import GraphNMS
from yolox_deploy.data.open import open_dataset
from yolox_deploy.model.blocks import Focus
from yolox_deploy.model.checkpoint import Checkpoint
from yolox_deploy.model.open import TrainedModel, describe
from yolox_deploy.model.yolox import YOLOX
from yolox_deploy.options import ForeignOptions

STEM = "backbone.backbone.stem.0"
MIDDLE = "backbone.backbone.dark3.1.conv1.0"
BACKENDS = ("onnx", "openvino", "ncnn")

Write = Callable[..., tuple[Path, ModelSpec]]


@pytest.fixture(scope="module")
def reference(seeded_nano: YOLOX) -> TrainedModel:
    return describe(seeded_nano)


@pytest.fixture(scope="module")
def image(images: list[Image]) -> Image:
    """In 256x320 it is 173.6 rows high, so that truncating and rounding differ."""
    return cv2.resize(images[0], (400, 217)).astype(np.uint8)


@pytest.fixture(scope="module")
def ncnn_files(seeded_nano: YOLOX, small_spec: ModelSpec) -> tuple[list[Layer], dict[str, Weights]]:
    return convert(RawNetwork(seeded_nano).eval(), replace(small_spec, batch=1, decoded=False))


@pytest.fixture
def write(artifact: Artifact, ncnn_files: tuple[list[Layer], dict[str, Weights]], tmp_path: Path) -> Write:
    """Write the rewritten network of a seeded Nano, whatever was planted in its weights, as a file of a backend."""

    def write_file(backend: str, network: nn.Module, precision: str = "fp32") -> tuple[Path, ModelSpec]:
        state = {name: values.numpy() for name, values in network.state_dict().items()}
        if backend == "ncnn":
            layers, weights = ncnn_files
            weights = {
                name: replace(one, weight=state[f"{name}.weight"], bias=state[f"{name}.bias"])
                for name, one in weights.items()
            }
            write_model(tmp_path / "model.param", layers, weights if precision == "fp32" else to_half(weights))
            spec = replace(read_spec(artifact.model, ForeignOptions()), batch=None, decoded=False)
            return tmp_path / "model.param", replace(spec, precision="fp16" if precision == "fp16" else "fp32")
        model = onnx.load(artifact.model)
        for tensor in model.graph.initializer:
            if tensor.name in state:
                tensor.CopyFrom(numpy_helper.from_array(state[tensor.name], tensor.name))
        onnx.save(model, tmp_path / "model.onnx")
        spec = read_spec(tmp_path / "model.onnx", ForeignOptions())
        if backend == "onnx":
            return tmp_path / "model.onnx", spec
        converted = openvino.convert_model(tmp_path / "model.onnx")
        converted.set_rt_info(spec.to_json(), RT_INFO)
        openvino.save_model(converted, tmp_path / "model.xml", compress_to_fp16=precision == "fp16")
        return tmp_path / "model.xml", spec

    return write_file


def planted(found: Divergence) -> list[tuple[Cause, str]]:
    return [(finding.cause, finding.layers[0]) for finding in found.findings]


def changed(network: nn.Module, path: str, factor: float) -> nn.Module:
    network.get_submodule(path).weight.data *= factor  # type: ignore[operator, union-attr]
    return network


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sound_artifact_is_sound(backend: str, write: Write, reference: TrainedModel, image: Image) -> None:
    found = diverge(reference, *write(backend, rewrite(reference.model)), image)
    assert found, found.verdict
    assert (found.rows[0].name, found.rows[1].name, found.rows[-1].name) == (INPUT, STEM, OUTPUT)
    assert len(found.rows) == 2 + sum(isinstance(module, nn.Conv2d) for module in reference.model.modules())
    assert 0 < max(row.error for row in found.rows[:-1]) < 1e-5
    assert found.aligned == "by name"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("path", [MIDDLE, "head.cls_preds.1"])
def test_weights_changed_by_a_hundredth(
    backend: str, path: str, write: Write, reference: TrainedModel, image: Image
) -> None:
    found = diverge(reference, *write(backend, changed(rewrite(reference.model), path, 1.01)), image)
    assert planted(found) == [("changed weights", path)]
    assert len(found.findings[0].layers) == 1
    assert "differ by 1.00%" in found.findings[0].detail
    assert found.findings[0].left < 1e-5 < 1e-4 < found.findings[0].error
    before = [row.error for row in found.rows[: [row.name for row in found.rows].index(path)]]
    assert max(before) < 1e-5  # it grows from there on


@pytest.mark.parametrize(
    ("backend", "eps"),
    [("onnx", 1e-6), *(pytest.param(backend, 1e-5, marks=pytest.mark.slow) for backend in BACKENDS)],
)
def test_the_eps_of_batch_norms(backend: str, eps: float, write: Write, reference: TrainedModel, image: Image) -> None:
    other = copy.deepcopy(reference.model)
    for module in other.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps
    found = diverge(reference, *write(backend, rewrite(other)), image)
    assert [finding.cause for finding in found.findings] == ["batch-norm eps"]
    assert f"eps {eps:g}, the reference's 0.001" in found.findings[0].detail
    assert len(found.findings[0].layers) > 20
    assert found.findings[0].left < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_order_of_focus(
    backend: str, write: Write, reference: TrainedModel, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Focus, "PIXELS", ((0, 0), (0, 1), (1, 0), (1, 1)))
        network = rewrite(reference.model)
    found = diverge(reference, *write(backend, network), image)
    assert planted(found) == [("Focus order", STEM)]
    assert "top-left, top-right, bottom-left, bottom-right" in found.findings[0].detail
    assert found.findings[0].left < 1e-5


def test_a_stem_that_takes_the_channels_in_the_other_order(write: Write, reference: TrainedModel, image: Image) -> None:
    network = rewrite(reference.model)
    stem = network.get_submodule(STEM)
    assert isinstance(stem, nn.Conv2d)
    stem.weight.data = stem.weight.data.flip(1).contiguous()
    path, spec = write("onnx", network)
    assert planted(diverge(reference, path, spec, image)) == [("channel order", STEM)]
    # Fed as it wants to be, it is the reference.
    found = diverge(reference, path, replace(spec, channel_order="RGB"), image)
    assert found
    assert "makes up for it" in found.notes[0]


@pytest.mark.parametrize(
    ("wrong", "causes"),
    [
        ({"channel_order": "RGB"}, ["channel order"]),
        ({"normalization": "imagenet"}, ["normalisation"]),
        ({"pad_value": 0}, ["padding"]),
        ({"channel_order": "RGB", "normalization": "imagenet"}, ["channel order", "normalisation"]),
    ],
)
def test_a_wrong_spec_for_the_input(
    wrong: dict[str, object], causes: list[str], artifact: Artifact, reference: TrainedModel, image: Image
) -> None:
    spec = replace(read_spec(artifact.model, ForeignOptions()), **wrong)  # type: ignore[arg-type]
    found = diverge(reference, artifact.model, spec, image)
    assert planted(found) == [(cause, INPUT) for cause in causes]
    assert found.rows[0].off
    assert found.findings[0].left < 1e-6 < found.findings[0].error
    assert found.rows[1].error > 1e-3  # what that does to the first layer


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"resize": "rounded"}, "resize"),
        ({"resize": "centred"}, "resize"),
        ({"resize": "stretched"}, "resize"),
        ({"interpolation": "nearest"}, "resize"),
        ({"normalisation": "0..1"}, "normalisation"),
        ({"padding": 57}, "padding"),
    ],
)
def test_what_an_app_feeds(
    change: dict[str, str], cause: str, artifact: Artifact, small_spec: ModelSpec, reference: TrainedModel, image: Image
) -> None:
    recipe = replace(recipe_of(small_spec), **change)  # type: ignore[arg-type]
    fed = make_input(image, recipe, small_spec.input_size)
    found = diverge(reference, artifact.model, small_spec, image, fed)
    assert planted(found) == [(cause, INPUT)]
    assert str(next(iter(change.values()))) in found.findings[0].detail


def test_the_recipe_of_a_spec_is_what_preprocess_does(small_spec: ModelSpec, image: Image) -> None:
    for spec in (small_spec, replace(small_spec, channel_order="RGB", normalization="imagenet", pad_value=3)):
        assert np.array_equal(make_input(image, recipe_of(spec), spec.input_size), preprocess([image], spec)[0])
    assert Recipe("rounded", "linear", "BGR", "0..255", 114).differences(recipe_of(small_spec)) == ["resize"]


def test_inputs_that_nothing_explains(
    artifact: Artifact, small_spec: ModelSpec, reference: TrainedModel, image: Image, random: np.random.Generator
) -> None:
    fed = preprocess([image], small_spec)[0]
    other = diverge(
        reference, artifact.model, small_spec, image, fed + random.normal(0, 2, fed.shape).astype("float32")
    )
    assert [finding.detail for finding in other.findings] == ["the image looks resized by other code"]
    noise = diverge(reference, artifact.model, small_spec, image, random.normal(0, 99, fed.shape).astype("float32"))
    assert planted(noise) == [("unknown", INPUT)]


@pytest.mark.parametrize("kind", ["flag", "logits"])
def test_an_output_that_is_not_what_the_spec_says(
    kind: str, artifact: Artifact, small_spec: ModelSpec, reference: TrainedModel, image: Image, tmp_path: Path
) -> None:
    model, spec = onnx.load(artifact.model), small_spec
    if kind == "flag":
        spec = replace(spec, decoded=False)
    else:
        last = next(node for node in model.graph.node if node.name == "decode/Sigmoid")
        last.op_type = "Identity"
    onnx.save(model, tmp_path / "model.onnx")
    found = diverge(reference, tmp_path / "model.onnx", spec, image)
    cause, detail = {
        "flag": ("decode flag", "the boxes are decoded, where the spec says raw"),
        "logits": ("sigmoid", "the scores are logits, where the spec says scores"),
    }[kind]
    assert planted(found) == [(cause, OUTPUT)]
    assert found.findings[0].detail == detail
    assert [row.name for row in found.rows if row.off] == [OUTPUT]


def test_another_activation_is_found_in_the_layer_behind_it(
    artifact: Artifact, small_spec: ModelSpec, reference: TrainedModel, image: Image, tmp_path: Path
) -> None:
    model = onnx.load(artifact.model)
    first = next(node for node in model.graph.node if node.op_type == "Sigmoid")
    first.op_type = "Tanh"
    onnx.save(model, tmp_path / "model.onnx")
    found = diverge(reference, tmp_path / "model.onnx", small_spec, image)
    assert planted(found) == [("unknown", "backbone.backbone.dark2.0.dconv.0")]


def test_two_faults_at_once(write: Write, reference: TrainedModel, image: Image) -> None:
    path, spec = write("onnx", changed(rewrite(reference.model), MIDDLE, 1.01))
    found = diverge(reference, path, replace(spec, channel_order="RGB", decoded=False), image)
    assert planted(found) == [("channel order", INPUT), ("changed weights", MIDDLE), ("decode flag", OUTPUT)]


@pytest.fixture(scope="module")
def int8_file(
    artifact: Artifact, small_spec: ModelSpec, images: list[Image], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("int8") / "model.onnx"
    quantized = quantize_for_onnxruntime(
        onnx.load(artifact.model), calibration_batches(images, small_spec), frozenset()
    )
    onnx.save(quantized, path)
    return path


def test_int8(int8_file: Path, small_spec: ModelSpec, reference: TrainedModel, image: Image, tmp_path: Path) -> None:
    promised = replace(small_spec, precision="int8")
    assert diverge(reference, int8_file, promised, image)
    assert planted(diverge(reference, int8_file, small_spec, image))[0] == ("quantisation", STEM)
    assert planted(diverge(reference, int8_file, promised, image, tolerance=1e-3))[0] == ("quantisation", STEM)

    model = onnx.load(int8_file)
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == f"{MIDDLE}.weight_scale")
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(1.1), scale.name))
    onnx.save(model, tmp_path / "model.onnx")
    found = diverge(reference, tmp_path / "model.onnx", promised, image)
    assert planted(found) == [("quantisation", MIDDLE)]
    assert "int8 weights are off by 10" in found.findings[0].detail


@pytest.mark.parametrize("backend", [pytest.param("openvino", marks=pytest.mark.slow), "ncnn"])
def test_fp16(backend: str, write: Write, reference: TrainedModel, image: Image) -> None:
    path, spec = write(backend, rewrite(reference.model), "fp16")
    assert diverge(reference, path, replace(spec, precision="fp16"), image)
    found = diverge(reference, path, replace(spec, precision="fp32"), image)
    assert {finding.cause for finding in found.findings} == {"reduced precision"}
    assert found.findings[0].layers[0] == STEM
    assert "weights and inputs to fp16 adds" in found.findings[0].detail


def test_changed_weights_in_fp16(write: Write, reference: TrainedModel, image: Image) -> None:
    path, spec = write("ncnn", changed(rewrite(reference.model), MIDDLE, 1.01), "fp16")
    assert planted(diverge(reference, path, spec, image)) == [("changed weights", MIDDLE)]


@pytest.mark.slow
def test_bf16(write: Write, reference: TrainedModel, image: Image) -> None:
    path, spec = write("ncnn", rewrite(reference.model))
    found = diverge(reference, path, spec, image, bf16=True)
    assert planted(found)[0] == ("reduced precision", STEM)
    assert "weights and inputs to bf16 adds" in found.findings[0].detail


def test_nms_in_the_graph_is_left_out(
    artifact: Artifact, small_spec: ModelSpec, reference: TrainedModel, image: Image, tmp_path: Path
) -> None:
    nms = GraphNMS(0.01, 0.65)
    onnx.save(append_nms(onnx.load(artifact.model), nms), tmp_path / "model.onnx")
    found = diverge(reference, tmp_path / "model.onnx", replace(small_spec, nms=nms), image)
    assert found
    assert "NMS" in found.notes[0]
    assert found.rows[-1].name.startswith("head.")


def test_other_classes_are_another_model(artifact: Artifact, small_spec: ModelSpec, image: Image) -> None:
    with pytest.raises(InvalidInput, match=r"another variant, or has other classes"):
        diverge(describe(YOLOX("yolox-nano", 3).eval()), artifact.model, small_spec, image)


@pytest.fixture
def files(reference: TrainedModel, image: Image, tmp_path: Path) -> list[str]:
    """A checkpoint and an image."""
    torch.save({"model": reference.model.state_dict()}, tmp_path / "nano.pth")
    cv2.imwrite(str(tmp_path / "image.png"), image)
    return [str(tmp_path / "nano.pth"), "--image", str(tmp_path / "image.png")]


def test_the_command(
    files: list[str], artifact: Artifact, small_spec: ModelSpec, image: Image, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    written = [tmp_path / "growth.png", tmp_path / "result.json"]
    options = ["--plot", str(written[0]), "--json", str(written[1])]
    assert main([*files, str(artifact.folder), *options]) == 0
    *_, verdict, last = capsys.readouterr().out.strip().splitlines()
    assert verdict.startswith("sound: ")
    assert json.loads(last) == {"sound": True, "first": None, "cause": None, "verdict": verdict}
    everything = json.loads(written[1].read_text())
    assert everything["sound"] is True and len(everything["rows"]) > 100
    assert cv2.imread(str(written[0])).shape[1] > 1000

    # Changed after it was proven: the file is to be diagnosed, not refused.
    folder = tmp_path / "artifact"
    folder.mkdir()
    model = onnx.load(artifact.model)
    onnx.helper.set_model_props(model, spec_to_metadata(replace(small_spec, decoded=False)))
    onnx.save(model, folder / "model.onnx")
    (folder / "parity.json").write_bytes((artifact.folder / "parity.json").read_bytes())
    recipe = replace(recipe_of(small_spec), resize="rounded")
    np.save(tmp_path / "fed.npy", make_input(image, recipe, small_spec.input_size))
    assert (
        main([*files, str(folder), "--input", str(tmp_path / "fed.npy"), "--json", str(tmp_path / "fault.json")]) == 1
    )
    printed = capsys.readouterr()
    table = printed.out.splitlines()
    result = json.loads((tmp_path / "fault.json").read_text())
    assert json.loads(table[-1])["cause"] == "resize"
    assert (result["sound"], result["first"], result["cause"]) == (False, INPUT, "resize")
    assert [finding["cause"] for finding in result["findings"]] == ["resize", "decode flag"]
    assert table[-3].startswith("first divergence: input: resize: the artifact is fed with rounded")
    assert "is not the model in" in printed.err
    bars = {line.split()[0]: line.count("#") for line in table if line.endswith("#")}
    assert bars[OUTPUT] > bars[INPUT] > 0


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"no array", "not an array that numpy saved"), (np.zeros((3, 64, 64), np.float32), "takes float32 of shape")],
)
def test_inputs_that_do_not_fit(
    content: bytes | np.ndarray, says: str, files: list[str], artifact: Artifact, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = tmp_path / "fed.npy"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        np.save(file, content)
    assert main([*files, str(artifact.folder), "--input", str(file)]) == 1
    assert says in capsys.readouterr().err


def test_an_engine_shows_no_layers(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.engine").write_bytes(b"")
    assert main([*files, str(tmp_path / "model.engine")]) == 1
    assert "give the ONNX file" in capsys.readouterr().err


def test_the_official_exporters_file(shared: Path, nano_checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = shared / "weights" / "yolox_nano_official_export.onnx"
    image = open_dataset(shared / "data" / "coco-val2017-206").read_images()[0]
    reference = describe(nano_checkpoint.build(), nano_checkpoint)
    spec = read_spec(path, ForeignOptions(preprocessing="official", class_names="coco"))
    sound = diverge(reference, path, spec, image)
    assert sound, sound.verdict
    assert sound.aligned == "by their weights"

    wrong = read_spec(path, ForeignOptions(preprocessing="legacy", class_names="coco"))
    assert planted(diverge(reference, path, wrong, image)) == [("channel order", INPUT), ("normalisation", INPUT)]

    model = onnx.load(path)
    weights = [node.input[1] for node in model.graph.node if node.op_type == "Conv"]
    for tensor in model.graph.initializer:
        if tensor.name == weights[3]:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.01), tensor.name))
    # Its slices of the pixels in another order.
    concat = next(node for node in model.graph.node if node.op_type == "Concat")
    concat.input[:] = [concat.input[index] for index in (0, 2, 1, 3)]
    onnx.save(model, tmp_path / "model.onnx")
    found = diverge(reference, tmp_path / "model.onnx", spec, image)
    assert planted(found) == [("Focus order", STEM), ("changed weights", "backbone.backbone.dark2.1.conv1.0")]

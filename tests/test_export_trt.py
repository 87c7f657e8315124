"""TensorRT's exporter. Builds run on FAKES of four versions here: see `fake_tensorrt.py` for what those prove.

What is real: the TensorRT-ready graphs. Engines on real hardware are tested in `test_runtime_trt.py`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import nn

from exporters import trt as exporter
from exporters import trt_rtx as rtx_exporter
from exporters.artifact import write_artifact
from exporters.options import ExportOptions, TensorRTOptions
from exporters.parity import StageCheck, compare
from exporters.torch_runtime import TorchRuntime
from exporters.trt import export_trt
from exporters.trt_graph import check_tensorrt_ready
from exporters.trt_nms import MAX_ROWS, append_efficient_nms, check_efficient_nms
from runtimes import GraphNMS, InvalidInput, MissingBackend, ModelSpec
from runtimes.onnx import spec_from_metadata
from runtimes.postprocess import non_maximum_suppression, postprocess, split_rows
from runtimes.preprocess import Image
from runtimes.trt import TensorRTRuntime, nms_rows
from runtimes.trt_build import BuildOptions, library
from runtimes.trt_engine import EngineInfo, rebuild, sha256, write_engine
from tests import fake_tensorrt
from tests.fake_tensorrt import FakeTensorRT

SPEC = ModelSpec("tiny", (64, 64), ("cat", "dog"), batch=None)  # (N, 84, 7) out
VERSIONS = ["8.6.0", "10.4.0", "10.16.1.11", "11.4.0.106"]
NETWORK_FLAGS = {
    "8.6.0": {"EXPLICIT_BATCH"},
    "10.4.0": {"EXPLICIT_BATCH", "STRONGLY_TYPED"},
    "10.16.1.11": {"EXPLICIT_BATCH", "STRONGLY_TYPED"},
    "11.4.0.106": {"STRONGLY_TYPED"},
}
# Of the builder. TF32 is its default; only TensorRT 8 is told the precision.
BUILDER_FLAGS = {
    ("8.6.0", "fp32"): set(),
    ("8.6.0", "fp16"): {"FP16", "TF32"},
    ("8.6.0", "int8"): {"INT8", "TF32"},
}


class Tiny(nn.Module):
    """A model with YOLOX's shapes that exports in seconds."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.levels = nn.ModuleList(nn.Conv2d(3, 7, stride, stride) for stride in (8, 16, 32))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([level(images / 100).flatten(2).transpose(1, 2) for level in self.levels], dim=1)


@pytest.fixture(scope="module")
def surface(shared: Path) -> dict[str, Any]:
    return fake_tensorrt.read_surface(shared)


@pytest.fixture
def install(surface: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeTensorRT]:
    return lambda version="11.4.0.106", **options: fake_tensorrt.install(monkeypatch, surface, version, **options)


def check_of(model: nn.Module, spec: ModelSpec, images: list[Image]) -> StageCheck:
    return StageCheck(TorchRuntime(model, spec), spec, images)


# The build


@pytest.mark.parametrize("batch", [None, 2], ids=["dynamic", "static"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_is_told_what_it_understands(
    version: str, precision: Any, batch: int | None, install: Callable[..., FakeTensorRT], tmp_path: Path
) -> None:
    trt = install(version)
    spec = replace(SPEC, batch=batch, precision=precision)
    path = fake_tensorrt.write_hollow(tmp_path, spec) / "model.engine"
    write_engine(path, BuildOptions(precision, (1, 2, 4)))

    ((flags,),) = trt.called("Builder.create_network")
    assert {flag.name for flag in trt.NetworkDefinitionCreationFlag if flags >> flag & 1} == NETWORK_FLAGS[version]
    builder_flags = BUILDER_FLAGS.get((version, precision), set() if precision == "fp32" else {"TF32"})
    info = EngineInfo.read(path)
    assert set(info.flags) == NETWORK_FLAGS[version] | builder_flags
    shapes = [("images", *((size, 3, 64, 64) for size in (1, 2, 4)))]
    assert trt.called("IOptimizationProfile.set_shape") == ([] if batch else shapes)
    assert info.profile == (None if batch else (1, 2, 4))
    shared = [(trt.PreviewFeature.PROFILE_SHARING_0806, True)] if version == "8.6.0" else []
    assert trt.called("IBuilderConfig.set_preview_feature") == shared
    for untold in ("builder_optimization_level", "set_memory_pool_limit", "create_timing_cache"):
        assert trt.called(f"IBuilderConfig.{untold}") == []


def test_the_fake_has_only_what_the_version_has(install: Callable[..., FakeTensorRT]) -> None:
    eight, eleven = install("8.6.0"), install("11.4.0.106")
    assert eight.BuilderFlag.FP16.name == "FP16"
    with pytest.raises(AttributeError, match="FP16"):
        _ = eleven.BuilderFlag.FP16
    with pytest.raises(AttributeError, match="EXPLICIT_BATCH"):
        _ = eleven.NetworkDefinitionCreationFlag.EXPLICIT_BATCH
    with pytest.raises(AttributeError, match=r"ParserError of 8\.6\.0 has no node_name"):
        eight.ParserError().node_name()
    with pytest.raises(AttributeError, match="has no int8_calibrator"):
        eleven.IBuilderConfig().int8_calibrator = None


def test_engine_json_tells_everything(install: Callable[..., FakeTensorRT], tmp_path: Path) -> None:
    trt = install("10.4.0")
    path = fake_tensorrt.write_hollow(tmp_path, SPEC) / "model.engine"
    write_engine(path, BuildOptions("fp16", (1, 4, 16), 5, 512))
    info = json.loads((tmp_path / "engine.json").read_text())
    assert info.pop("build_seconds") >= 0
    assert info == {
        "library": "tensorrt",
        "version": "10.4.0",
        "gpu": "NVIDIA Fake",
        "compute_capability": "9.0",
        "driver": "13.0",
        "precision": "fp16",
        "flags": ["EXPLICIT_BATCH", "STRONGLY_TYPED", "TF32"],
        "profile": [1, 4, 16],
        "optimization_level": 5,
        "workspace_mib": 512,
        "onnx_sha256": sha256((tmp_path / "model.onnx").read_bytes()),
        "engine_sha256": sha256(path.read_bytes()),
        "rebuild": "python -m runtimes.trt_rebuild model.engine",
    }
    assert trt.called("IBuilderConfig.builder_optimization_level") == [(5,)]
    assert trt.called("IBuilderConfig.set_memory_pool_limit") == [(trt.MemoryPoolType.WORKSPACE, 512 * 2**20)]
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "engine.json",
        "model.engine",
        "model.onnx",
        "spec.json",
    ]


def test_timings_are_kept_by_gpu_version_and_precision(install: Callable[..., FakeTensorRT], tmp_path: Path) -> None:
    path = fake_tensorrt.write_hollow(tmp_path / "artifact", SPEC) / "model.engine"
    caches = tmp_path / "caches"

    def build(precision: Any = "fp32", **options: Any) -> bytes:
        """What the builder was fed."""
        trt = install(**options)
        write_engine(path, BuildOptions(precision), caches / "timings.cache")
        return bytes(trt.called("IBuilderConfig.create_timing_cache")[0][0])

    first = caches / "timings-tensorrt-10.4.0-nvidia-fake-9.0-fp32.cache"
    assert build(version="10.4.0") == b""
    assert build(version="10.4.0") == first.read_bytes()[:-1] == b"timings+"
    assert build(version="10.16.1.11") == b""
    assert build(version="10.4.0", precision="fp16") == b""
    assert build(version="10.4.0", gpus=(("Tesla V100", "7.0"),)) == b""
    assert len(list(caches.iterdir())) == 4
    first.write_bytes(b"damaged")
    assert build(version="10.4.0") == b"damaged"  # which it refuses
    assert first.read_bytes() == b"timings+"


@pytest.mark.parametrize(("version", "node"), [("8.6.0", "number 12"), ("11.4.0.106", "a/Conv Conv")])
def test_what_the_parser_cannot_read_is_one_sentence(
    version: str, node: str, install: Callable[..., FakeTensorRT], tmp_path: Path
) -> None:
    trt = install(version)
    trt.parses = False
    path = fake_tensorrt.write_hollow(tmp_path, SPEC) / "model.engine"
    says = f"TensorRT cannot read the graph at node {node}: Invalid Node - a/Conv because\\.$"
    with pytest.raises(InvalidInput, match=says):
        write_engine(path, BuildOptions())
    assert not path.exists()


def test_what_cannot_be_built_is_one_sentence(
    install: Callable[..., FakeTensorRT], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install()
    monkeypatch.setattr("runtimes.trt_build._add_profile", lambda *arguments: None)
    path = fake_tensorrt.write_hollow(tmp_path, SPEC) / "model.engine"
    with pytest.raises(InvalidInput, match="cannot build this graph: Network has dynamic or shape inputs"):
        write_engine(path, BuildOptions())
    assert not path.exists()


def test_a_version_that_is_known_to_be_bad_is_refused(install: Callable[..., FakeTensorRT]) -> None:
    trt = install("10.4.0")
    trt.__version__ = "10.2.0"
    with pytest.raises(MissingBackend, match=r"10\.2\.0 builds wrong engines: pip install --upgrade"):
        library("tensorrt")
    trt.__version__ = "10.20.0"
    assert library("tensorrt") is trt


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch_profile": (0, 1, 1)}, "rise from 1 on"),
        ({"batch_profile": (1, 4, 2)}, "rise from 1 on"),
        ({"optimization_level": 6}, "between 0 and 5"),
        ({"workspace_mib": 0}, "at least 1 MiB"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], says: str) -> None:
    for module in (exporter, rtx_exporter):
        with pytest.raises(InvalidInput, match=says):
            module.check_can_build(SPEC, ExportOptions(tensorrt=TensorRTOptions(build=False, **options)))


def test_an_opset_that_is_too_new_is_refused_before_any_work(install: Callable[..., FakeTensorRT]) -> None:
    options = ExportOptions(20, tensorrt=TensorRTOptions(build=False))
    for module, title in ((exporter, "TensorRT"), (rtx_exporter, "TensorRT-RTX")):
        module.check_can_build(SPEC, options)
        with pytest.raises(InvalidInput, match=f"^{title} reads ONNX up to opset 20, not 21: leave out --opset"):
            module.check_can_build(SPEC, replace(options, opset=21))
    install("10.4.0")
    exporter.check_can_build(SPEC, ExportOptions(20))
    install("8.6.0")
    exporter.check_can_build(SPEC, ExportOptions(17))
    with pytest.raises(InvalidInput, match=r"^TensorRT 8\.6\.0 reads ONNX up to opset 17, not 18"):
        exporter.check_can_build(SPEC, ExportOptions(18))


# Before any work


def refusal(spec: ModelSpec, build: bool = True) -> str:
    with pytest.raises((InvalidInput, MissingBackend)) as refused:
        exporter.check_can_build(spec, ExportOptions(tensorrt=TensorRTOptions(build)))
    return str(refused.value)


class Untouchable(nn.Module):
    """A model that must not be looked at."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the work has begun: {name}")


@pytest.mark.parametrize("target", ["trt", "trt-rtx"])
def test_it_is_asked_before_any_work(target: str, images: list[Image], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="up to opset 20"):
        write_artifact(Untouchable(), SPEC, target, tmp_path, images, ExportOptions(opset=21))
    assert not list(tmp_path.iterdir())


def test_without_a_gpu_it_says_what_can_be_done(install: Callable[..., FakeTensorRT]) -> None:
    trt = install(gpus=())
    says = refusal(SPEC)
    assert "there is no CUDA GPU here" in says
    assert "; or add --no-build for the TensorRT-ready ONNX, or use --target trt-rtx." in says
    assert trt.calls == []


def test_without_the_package_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert "pip install tensorrt-cu13 cuda-bindings" in refusal(SPEC)


def test_nms_needs_a_build_and_the_plugin(install: Callable[..., FakeTensorRT]) -> None:
    spec = replace(SPEC, nms=GraphNMS(0.1, 0.65))
    assert "leave out --no-build, or use --topk" in refusal(spec, build=False)
    for version in VERSIONS:
        trt = install(version)
        check_efficient_nms(trt)
        trt.plugins = set()
        says = refusal(spec)
        assert f"TensorRT {version} has no EfficientNMS_TRT plugin: use --topk" in says


# The export


def run_onnx(path: Path) -> fake_tensorrt.Compute:
    """What a fake engine computes: its ONNX file, by ONNX Runtime."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: {"output": session.run(None, {"images": images})[0]}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_export_load_and_compare(
    precision: Any, install: Callable[..., FakeTensorRT], images: list[Image], tmp_path: Path
) -> None:
    trt = install()
    model, spec = Tiny().eval(), replace(SPEC, precision=precision)
    path = export_trt(model, spec, tmp_path, ExportOptions(), check_of(model, spec, images))
    assert path == tmp_path / "model.engine"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["engine.json", "model.engine", "model.onnx"]
    assert EngineInfo.read(path).precision == precision
    weights = {tensor.data_type for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer}
    assert (onnx.TensorProto.FLOAT16 in weights) == (precision == "fp16")
    (tmp_path / "spec.json").write_text(spec.to_json())
    trt.compute = run_onnx(tmp_path / "model.onnx")
    report = compare(TorchRuntime(model, spec), TensorRTRuntime(path), images)
    assert report.detections > 20
    assert report.tensor_error is not None
    assert report.tensor_error < (1e-3 if precision == "fp32" else 0.1)


def test_no_build_stops_at_the_onnx_file(images: list[Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    options = ExportOptions(tensorrt=TensorRTOptions(build=False))
    model = Tiny().eval()
    for module, export in ((exporter, export_trt), (rtx_exporter, rtx_exporter.export_trt_rtx)):
        path = export(model, SPEC, tmp_path, options, check_of(model, SPEC, images))
        assert path == tmp_path / "model.onnx", module
        assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
        check_tensorrt_ready(onnx.load(path))


# NMS


def test_nms_is_the_plugin(install: Callable[..., FakeTensorRT], images: list[Image], tmp_path: Path) -> None:
    trt = install("10.4.0")
    spec = replace(SPEC, nms=GraphNMS(0.1, 0.6))
    model = Tiny().eval()
    path = export_trt(model, spec, tmp_path, ExportOptions(), check_of(model, spec, images))
    written = onnx.load(tmp_path / "model.onnx")
    assert spec_from_metadata({entry.key: entry.value for entry in written.metadata_props}, "") == spec
    plugin = written.graph.node[-1]
    assert plugin.op_type == "EfficientNMS_TRT"
    settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in plugin.attribute}
    assert settings["score_threshold"] == pytest.approx(0.1)
    assert settings["score_threshold"] < np.float32(0.1)
    assert settings["iou_threshold"] == pytest.approx(0.6)
    assert (settings["box_coding"], settings["class_agnostic"], settings["plugin_version"]) == (0, 0, b"1")
    check_tensorrt_ready(written)

    trt.initialized = False  # as in a new process
    rebuild(path)

    # The rest of the way: the engine's four outputs, through the runtime, as rows.
    (tmp_path / "spec.json").write_text(spec.to_json())
    trt.compute = efficient_nms(written, spec)
    rows = TensorRTRuntime(path).infer(np.zeros((3, 3, 64, 64), np.float32))
    assert rows.shape[1] == 7
    assert set(rows[:, 0]) == {0, 1, 2}


def efficient_nms(model: onnx.ModelProto, spec: ModelSpec) -> fake_tensorrt.Compute:
    """The graph before the plugin by ONNX Runtime, and behind it what NVIDIA documents of the plugin, in NumPy."""
    assert spec.nms is not None
    before = onnx.ModelProto()
    before.CopyFrom(model)
    del before.graph.node[-1], before.graph.output[:]
    for name in ("nms/boxes", "nms/scores"):
        before.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(before.SerializeToString(), providers=["CPUExecutionProvider"])
    threshold, overlap = spec.nms.score_threshold, spec.nms.nms_threshold

    def compute(images: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        boxes, scores = session.run(None, {session.get_inputs()[0].name: images})
        size = len(boxes)
        out = {
            "num_detections": np.zeros((size, 1), np.int32),
            "detection_boxes": np.full((size, MAX_ROWS, 4), np.nan, np.float32),
            "detection_scores": np.zeros((size, MAX_ROWS), np.float32),
            "detection_classes": np.full((size, MAX_ROWS), -1, np.int32),
        }
        for index in range(size):
            anchors, classes = np.nonzero(scores[index] >= np.float32(threshold))
            chosen = boxes[index][anchors], scores[index][anchors, classes], classes.astype(np.int64)
            kept = non_maximum_suppression(*chosen, overlap)
            out["num_detections"][index] = len(kept)
            names = ("detection_boxes", "detection_scores", "detection_classes")
            for name, values in zip(names, chosen, strict=True):
                out[name][index, : len(kept)] = values[kept]
        return out

    return compute


def test_what_reaches_the_plugin_gives_our_detections(random: np.random.Generator) -> None:
    """One class an anchor, corners, objectness x class: with the plugin behind it, our own post-processing."""
    spec = replace(SPEC, nms=GraphNMS(0.2, 0.5))
    assert spec.nms is not None
    images = helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["batch", 84, 7])
    output = helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, ["batch", 84, 7])
    identity = helper.make_graph([helper.make_node("Identity", ["images"], ["output"])], "g", [images], [output])
    opset = [helper.make_opsetid("", 17)]
    model = append_efficient_nms(helper.make_model(identity, opset_imports=opset, ir_version=8), spec.nms)

    predictions = random.uniform(0, 1, (3, 84, 7)).astype(np.float32)
    predictions[..., :2] *= 64
    predictions[..., 2:4] = predictions[..., 2:4] * 30 + 2
    predictions[2, :, 4] = 0  # an image without detections
    rows = nms_rows(efficient_nms(model, spec)(predictions))
    ratios = [1.0, 0.5, 1.0]
    expected = postprocess(predictions, ratios, replace(spec, nms=None), 0.2, 0.5)
    found = split_rows(rows, ratios, 0.2, 80)
    assert [len(one) for one in found] == [len(one) for one in expected]
    assert len(expected[0]) > 5
    assert len(expected[2]) == 0
    for left, right in zip(found, expected, strict=True):
        assert np.array_equal(left.class_id, right.class_id)
        assert np.allclose(left.xyxy, right.xyxy, atol=1e-4)
        assert np.allclose(left.confidence, right.confidence, atol=1e-6)


# What is ready for TensorRT


class Batches(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.left = [np.random.default_rng(seed).normal(size=(1, 3, 8, 8)).astype(np.float32) for seed in range(3)]

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        return {"images": self.left.pop()} if self.left else None


SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True}


def quantized(folder: Path, options: dict[str, bool], **arguments: Any) -> onnx.ModelProto:
    """One convolution, quantised by ONNX Runtime."""
    random = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name)
        for name, shape in (("weight", (4, 3, 3, 3)), ("bias", (4,)))
    ]
    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("images", [1, 3, 8, 8]), ("output", [1, 4, 6, 6]))
    ]
    node = helper.make_node("Conv", ["images", "weight", "bias"], ["output"], name="stem/Conv")
    graph = helper.make_graph([node], "g", values[:1], values[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "f.onnx")
    arguments = {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8, "per_channel": True, **arguments}
    quantize_static(folder / "f.onnx", folder / "q.onnx", Batches(), extra_options=options, **arguments)
    return onnx.load(folder / "q.onnx")


@pytest.mark.parametrize(
    ("options", "arguments", "says"),
    [
        (SYMMETRIC, {}, "holds a bias as int32; leave biases in float"),
        ({"QuantizeBias": False}, {}, "zero point other than 0; quantise symmetrically"),
        ({**SYMMETRIC, "QuantizeBias": False}, {"activation_type": QuantType.QUInt8}, "quantises to uint8"),
        ({"ActivationSymmetric": True}, {"quant_format": QuantFormat.QOperator}, "operator format"),
    ],
    ids=["bias", "asymmetric", "uint8", "operators"],
)
def test_quantised_graphs_that_tensorrt_does_not_take(
    options: dict[str, bool], arguments: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=f"model.onnx is not ready for TensorRT: .*{says}"):
        check_tensorrt_ready(quantized(tmp_path, options, **arguments), "model.onnx")


CONSTANTS = """<float scale = {0.1}, int8[3] int8_weight = {1, 2, 3}, uint8[3] uint8_weight = {1, 2, 3},
    int16[3] int16_weight = {1, 2, 3}, int16 int16_zero = {0}, uint16 uint16_zero = {0}>"""


def test_a_weight_without_a_zero_point_is_ready() -> None:
    """ONNX means 0 of the weight's own type."""
    text = "y = DequantizeLinear (int8_weight, scale)"
    graph = onnx.parser.parse_graph(f"g (float[1, 3] x) => (float[3] y) {CONSTANTS} {{ {text} }}")
    check_tensorrt_ready(helper.make_model(graph))


def test_a_symmetric_graph_is_ready(tmp_path: Path) -> None:
    check_tensorrt_ready(quantized(tmp_path, {**SYMMETRIC, "QuantizeBias": False}))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("q = QuantizeLinear (x, scale)\n y = DequantizeLinear (q, scale)", "no zero point, which means uint8"),
        ("y = NonMaxSuppression (x, scale)", "use --topk"),
        ("q = QuantizeLinear (x, scale, int16_zero)\n y = DequantizeLinear (q, scale, int16_zero)", "to int16;"),
        ("q = QuantizeLinear (x, scale, uint16_zero)\n y = DequantizeLinear (q, scale, uint16_zero)", "to uint16;"),
        ("y = DequantizeLinear (uint8_weight, scale)", r"y \(DequantizeLinear\) quantises to uint8; .*, to int8"),
        ("y = DequantizeLinear (int16_weight, scale, int16_zero)", "quantises to int16;"),
        (
            "z = Cast <to = 3> (x)\n q = QuantizeLinear (x, scale, z)\n y = DequantizeLinear (q, scale, z)",
            "computes its zero point; it has to be a constant 0",
        ),
        ("z = Cast <to = 3> (x)\n y = DequantizeLinear (int8_weight, scale, z)", r"y .* computes its zero point"),
    ],
)
def test_graphs_that_tensorrt_does_not_take(text: str, says: str) -> None:
    graph = onnx.parser.parse_graph(f"g (float[1, 3] x) => (float[1, 3] y) {CONSTANTS} {{ {text} }}")
    with pytest.raises(InvalidInput, match=says):
        check_tensorrt_ready(helper.make_model(graph))


def test_bytes_go_into_a_cast_alone() -> None:
    cast = "c = Cast <to = 1> (x)\n y = Transpose <perm = [0, 3, 1, 2]> (c)"
    late = "t = Transpose <perm = [0, 3, 1, 2]> (x)\n y = Cast <to = 1> (t)"
    head = "g (uint8[1, 4, 4, 3] x) => (float[1, 3, 4, 4] y)"
    check_tensorrt_ready(helper.make_model(onnx.parser.parse_graph(f"{head} {{ {cast} }}")))
    with pytest.raises(InvalidInput, match=r"t \(Transpose\) takes the uint8 input; only a Cast can"):
        check_tensorrt_ready(helper.make_model(onnx.parser.parse_graph(f"{head} {{ {late} }}")))

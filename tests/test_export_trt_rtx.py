"""TensorRT-RTX's exporter, on the real package: engines are compiled without a GPU. Running them needs an RTX card.

The honest check of every TensorRT-ready graph: NVIDIA's importer takes it, and NVIDIA's compiler finds kernels for it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from exporters.options import ExportOptions, TensorRTOptions
from exporters.parity import StageCheck, compare
from exporters.report import TOLERANCES
from exporters.torch_runtime import TorchRuntime
from exporters.trt_graph import check_tensorrt_ready
from exporters.trt_rtx import check_can_build, export_trt_rtx
from runtimes import GraphNMS, InvalidInput, MissingBackend, ModelSpec, load
from runtimes.cuda import Gpu
from runtimes.preprocess import Image
from runtimes.trt_build import BuildOptions, build_engine
from runtimes.trt_engine import EngineInfo, sha256, write_engine
from tests import fake_tensorrt
from yolox_deploy.model.yolox import YOLOX

ROOT = Path(__file__).parents[1]

trt = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx-cu13, which is real here, not a fake")


@pytest.fixture(scope="module")
def exported(
    seeded_nano: YOLOX, small_spec: ModelSpec, images: list[Image], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Export a seeded Nano with changes to its spec; each only once. Tests only read it."""
    folders: dict[str, Path] = {}

    def export(**change: Any) -> Path:
        if (key := str(change)) not in folders:
            spec, folder = replace(small_spec, **change), tmp_path_factory.mktemp("rtx")
            check = StageCheck(TorchRuntime(seeded_nano, spec), spec, images)
            export_trt_rtx(seeded_nano, spec, folder, ExportOptions(), check)
            (folder / "spec.json").write_text(spec.to_json())
            folders[key] = folder
        return folders[key]

    return export


@pytest.mark.parametrize(
    ("change", "profile"),
    [
        ({}, (1, 1, 8)),
        pytest.param({"batch": 1}, None, marks=pytest.mark.slow),
        ({"precision": "fp16", "batch": 1}, None),
        pytest.param({"topk": 100, "batch": 2}, None, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_seeded_nano_compiles_and_its_graph_is_the_model(
    change: dict[str, Any],
    profile: tuple[int, int, int] | None,
    exported: Callable[..., Path],
    seeded_nano: YOLOX,
    small_spec: ModelSpec,
    images: list[Image],
) -> None:
    folder, spec = exported(**change), replace(small_spec, **change)
    engine = folder / "model.rtx"
    assert engine.stat().st_size > 1_900_000 * (
        1 if spec.precision == "fp16" else 2
    )  # 0.91 million weights and kernels
    info = EngineInfo.read(engine)
    assert (info.library, info.version, info.precision) == ("tensorrt_rtx", trt.__version__, spec.precision)
    assert (info.gpu, info.compute_capability, info.profile) == (None, "8.0+", profile)
    assert ("TF32" in info.flags) == (spec.precision != "fp32")
    assert "STRONGLY_TYPED" in info.flags
    assert info.onnx_sha256 == sha256((folder / "model.onnx").read_bytes())
    assert info.engine_sha256 == sha256(engine.read_bytes())
    with load(folder / "model.onnx") as detector:
        tolerance = replace(TOLERANCES[spec.precision], min_score=0.01)
        report = compare(TorchRuntime(seeded_nano, spec), detector.runtime, images, tolerance)
    assert report, str(report)
    assert report.detections > 20


def test_an_engine_for_turing_is_another(exported: Callable[..., Path]) -> None:
    """By default one engine is for 8.0 and later; where a Turing card is, it is built for that alone."""
    folder = exported(batch=1)
    content = (folder / "model.onnx").read_bytes()
    turing = build_engine(trt, content, BuildOptions(), Gpu("GeForce RTX 2080", "7.5", "13.0"))
    ampere = build_engine(trt, content, BuildOptions(), Gpu("GeForce RTX 3090", "8.6", "13.0"))
    assert len(ampere.engine) == (folder / "model.rtx").stat().st_size
    assert len(turing.engine) > 1.5 * len(ampere.engine)


def test_options_reach_the_real_builder(exported: Callable[..., Path], tmp_path: Path) -> None:
    shutil.copy(exported() / "model.onnx", tmp_path)
    write_engine(tmp_path / "model.rtx", BuildOptions("fp32", (2, 3, 4), 1, 2048))
    info = EngineInfo.read(tmp_path / "model.rtx")
    assert (info.profile, info.optimization_level, info.workspace_mib) == ((2, 3, 4), 1, 2048)


def test_the_command_rebuilds(exported: Callable[..., Path], tmp_path: Path) -> None:
    """From what stands in engine.json, in a process of its own; and where no engine ever was."""
    shutil.copytree(exported(), tmp_path, dirs_exist_ok=True)
    before = EngineInfo.read(tmp_path / "model.rtx")
    for damaged in (["model.rtx"], ["model.rtx", "engine.json"]):
        for name in damaged:
            (tmp_path / name).unlink()
        command = [sys.executable, "-m", "runtimes.trt_rebuild", str(tmp_path / "model.rtx")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "tensorrt_rtx" in done.stdout
        assert "Warning" not in done.stderr
        after = EngineInfo.read(tmp_path / "model.rtx")
        assert replace(after, engine_sha256=before.engine_sha256, build_seconds=before.build_seconds) == before
        assert after.engine_sha256 == sha256((tmp_path / "model.rtx").read_bytes())


def test_it_asks_for_the_package_and_refuses_what_it_has_not(
    small_spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_can_build(small_spec, ExportOptions())
    without_build = ExportOptions(tensorrt=TensorRTOptions(build=False))
    with pytest.raises(InvalidInput, match="no NMS plugin: use --topk"):
        check_can_build(replace(small_spec, nms=GraphNMS(0.1, 0.65)), without_build)
    with pytest.raises(InvalidInput, match="leave out --timing-cache"):
        check_can_build(small_spec, ExportOptions(tensorrt=TensorRTOptions(timing_cache=tmp_path)))
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingBackend, match="pip install tensorrt-rtx-cu13"):
        check_can_build(small_spec, ExportOptions())


def small_model(body: str, head: str, **weights: np.ndarray[Any, Any]) -> onnx.ModelProto:
    graph = onnx.parser.parse_graph(f"g {head} {{ {body} }}")
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def compile_it(model: onnx.ModelProto, precision: Any = "fp32") -> int:
    check_tensorrt_ready(model)
    onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return len(build_engine(trt, model.SerializeToString(), BuildOptions(precision), None).engine)


QDQ = """
    q = QuantizeLinear (x, scale, zero)
    d = DequantizeLinear (q, scale, zero)
    w = DequantizeLinear <axis = 0> (weight, weight_scale, weight_zero)
    {bias}
    y = Conv (d, w, {name})
"""


def qdq_model(int32_bias: bool) -> onnx.ModelProto:
    """A convolution as ONNX Runtime's quantiser writes it; the bias as by default, or as TensorRT wants it."""
    weights: dict[str, np.ndarray[Any, Any]] = {
        "scale": np.float32(0.1),
        "zero": np.int8(0),
        "weight": np.random.default_rng(0).integers(-127, 128, (16, 8, 3, 3)).astype(np.int8),
        "weight_scale": np.full(16, 0.01, np.float32),
        "weight_zero": np.zeros(16, np.int8),
        "bias": np.arange(16).astype(np.int32 if int32_bias else np.float32),
    }
    dequantize = "b = DequantizeLinear <axis = 0> (bias, weight_scale)" if int32_bias else ""
    body = QDQ.format(bias=dequantize, name="b" if int32_bias else "bias")
    weights = {name: np.asarray(value) for name, value in weights.items()}
    return small_model(body, "(float[N, 8, 16, 16] x) => (float[N, 16, 14, 14] y)", **weights)


def test_int8_compiles_and_an_int32_bias_is_refused_by_us() -> None:
    assert compile_it(qdq_model(int32_bias=False), "int8") > 1000
    refused = qdq_model(int32_bias=True)
    with pytest.raises(InvalidInput, match=r"b \(DequantizeLinear\) holds a bias as int32"):
        check_tensorrt_ready(refused)
    # The rule is there for a reason: TensorRT's own words would have been these.
    with pytest.raises(InvalidInput, match=r"cannot read the graph at node|cannot build this graph"):
        build_engine(trt, refused.SerializeToString(), BuildOptions("int8"), None)


def test_bytes_compile_where_they_are_cast_first() -> None:
    head = "(uint8[N, 16, 16, 3] x) => (float[N, 3, 16, 16] y)"
    assert compile_it(small_model("c = Cast <to = 1> (x)\n y = Transpose <perm = [0, 3, 1, 2]> (c)", head)) > 1000
    late = small_model("t = Transpose <perm = [0, 3, 1, 2]> (x)\n y = Cast <to = 1> (t)", head)
    with pytest.raises(InvalidInput, match=r"cannot read the graph at node .*Transpose"):
        build_engine(trt, late.SerializeToString(), BuildOptions(), None)


def test_what_nvidia_cannot_read_is_one_sentence() -> None:
    model = small_model("y = Nonsense (x)", "(float[1, 3] x) => (float[1, 3] y)")
    says = r'^TensorRT-RTX cannot read the graph at node Nonsense: creator && "Plugin not found[^\n]*\.$'
    with pytest.raises(InvalidInput, match=says):
        build_engine(trt, model.SerializeToString(), BuildOptions(), None)
    with pytest.raises(InvalidInput, match=r"^TensorRT-RTX cannot read the graph: [^\n]*Failed to parse[^\n]*\.$"):
        build_engine(trt, b"not a graph", BuildOptions(), None)


def test_the_recorded_api_is_that_of_the_real_package(shared: Path) -> None:
    """The fakes of the other versions come from the same record."""
    recorded = fake_tensorrt.read_surface(shared)["rtx1.7.1"]
    if not trt.__version__.startswith("1.7.1"):
        pytest.skip(f"the record is of 1.7.1, this is {trt.__version__}")
    for name, members in recorded.items():
        real = trt if name == "module" else getattr(trt, name)
        assert [member for member in members if not hasattr(real, member)] == [], name

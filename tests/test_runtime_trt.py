"""TensorRT's runtime. All but the tests marked `gpu` run on FAKES: see `fake_tensorrt.py` for what those prove."""

from __future__ import annotations

import gc
import hashlib
import importlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from exporters.options import ExportOptions
from exporters.parity import StageCheck, compare
from exporters.report import TOLERANCES
from exporters.torch_runtime import TorchRuntime
from exporters.trt import export_trt
from runtimes import GraphNMS, InvalidInput, MissingBackend, ModelSpec, UserError, load
from runtimes.preprocess import Image, preprocess
from runtimes.trt import TensorRTRuntime, nms_rows
from runtimes.trt_build import BuildOptions, logger
from runtimes.trt_engine import EngineInfo, write_engine
from runtimes.trt_rebuild import main as rebuild_main
from runtimes.trt_rtx import TensorRTRTXRuntime
from tests import fake_cuda, fake_tensorrt
from tests.fake_tensorrt import FakeTensorRT
from yolox_deploy.model.yolox import YOLOX

ROOT = Path(__file__).parents[1]
VERSIONS = ["8.6.0", "10.4.0", "10.16.1.11", "11.4.0.106"]
SPEC = ModelSpec("tiny", (64, 64), ("cat", "dog"), batch=None)  # (N, 84, 7) out


@pytest.fixture(scope="module")
def surface(shared: Path) -> dict[str, Any]:
    return fake_tensorrt.read_surface(shared)


def compute(images: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """What the fake engine does: something different for each image and each value."""
    return {"output": images.reshape(len(images), -1)[:, : 84 * 7].reshape(-1, 84, 7).astype(np.float32) * 2 + 1}


def batch(size: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0, 255, (size, 3, 64, 64)).astype(np.float32)


@pytest.fixture(params=VERSIONS)
def trt(request: pytest.FixtureRequest, surface: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    return fake_tensorrt.install(monkeypatch, surface, request.param, compute)


@pytest.fixture
def newest(surface: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    return fake_tensorrt.install(monkeypatch, surface, "11.4.0.106", compute)


@pytest.fixture
def engine(newest: FakeTensorRT, tmp_path: Path) -> Path:
    """An engine of 11.4 for batches of 1 to 8. Building it is not counted."""
    return make_engine(newest, tmp_path)


def make_engine(trt: FakeTensorRT, folder: Path, spec: ModelSpec = SPEC, name: str = "model.engine") -> Path:
    path = fake_tensorrt.write_hollow(folder, spec) / name
    write_engine(path, BuildOptions())
    trt.calls.clear()
    trt.cuda.calls.clear()
    return path


def test_infer_is_the_function_for_every_version_and_batch(trt: FakeTensorRT, tmp_path: Path) -> None:
    runtime = TensorRTRuntime(make_engine(trt, tmp_path))
    assert runtime.spec == SPEC
    for size in (1, 3, 8, 3, 19):  # 19: two parts of the engine's largest batch, and the rest
        images = batch(size, seed=size)
        assert np.array_equal(runtime.infer(images), compute(images)["output"])


def test_a_fixed_batch_uint8_and_topk(newest: FakeTensorRT, tmp_path: Path) -> None:
    spec = replace(SPEC, batch=2, uint8_input=True, topk=5)
    rows = np.arange(60, dtype=np.float32).reshape(2, 5, 6)
    newest.compute = lambda images: {"output": rows + images.sum()}
    runtime = TensorRTRuntime(make_engine(newest, tmp_path, spec))
    images = np.full((2, 64, 64, 3), 1, np.uint8)
    assert np.array_equal(runtime.infer(images), rows + images.sum())
    assert newest.called("IExecutionContext.set_input_shape") == [("images", (2, 64, 64, 3))]


@pytest.mark.parametrize("size", [None, 2], ids=["dynamic", "static"])
def test_several_contexts_in_every_version(size: int | None, trt: FakeTensorRT, tmp_path: Path) -> None:
    """TensorRT 8 gives a profile to one context alone, unless it was told to share it."""
    runtime = TensorRTRuntime(make_engine(trt, tmp_path, replace(SPEC, batch=size)), streams=2)
    images = batch(2)
    pool = runtime._pool
    assert pool is not None
    with pool.lane() as first, pool.lane() as second:
        for lane in (first, second):
            assert np.array_equal(lane.run(images)["output"], compute(images)["output"])
    assert len(trt.called("ICudaEngine.create_execution_context")) == 2


def test_without_the_preview_feature_the_fake_refuses_a_second_context(
    surface: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule of TensorRT 8 that the test above relies on."""
    trt = fake_tensorrt.install(monkeypatch, surface, "8.6.0", compute)
    monkeypatch.delattr(trt, "PreviewFeature")
    runtime = TensorRTRuntime(make_engine(trt, tmp_path))
    runtime.infer(batch(1))
    with pytest.raises(InvalidInput, match="batch of 2: Profile 0 has been chosen by another IExecutionContext"):
        runtime.infer(batch(2))


def test_a_cuda_graph_is_captured_once_for_each_batch_size(newest: FakeTensorRT, engine: Path) -> None:
    runtime = TensorRTRuntime(engine)
    for size in (1, 4, 1, 4, 4, 1):
        runtime.infer(batch(size))
    calls = newest.cuda.calls
    assert calls["cudaGraphInstantiate"] == calls["cudaStreamBeginCapture"] == 2
    assert calls["cudaGraphLaunch"] == 6
    # Each size: once to get ready, once while capturing. Afterwards a call of infer is one launch.
    assert len(newest.called("IExecutionContext.execute_async_v3")) == 4
    assert len(newest.called("ICudaEngine.create_execution_context")) == 2


def test_without_cuda_graphs(newest: FakeTensorRT, engine: Path) -> None:
    runtime = TensorRTRuntime(engine, cuda_graph=False)
    images = batch(2)
    assert np.array_equal(runtime.infer(images), compute(images)["output"])
    assert newest.cuda.calls["cudaStreamBeginCapture"] == 0


def test_buffers_are_allocated_once(newest: FakeTensorRT, engine: Path) -> None:
    runtime = TensorRTRuntime(engine)
    runtime.infer(batch(1))
    before = dict(newest.cuda.calls)
    for size in (8, 2, 1):
        runtime.infer(batch(size))
    assert (before["cudaMalloc"], before["cudaMallocHost"]) == (2, 2)
    assert newest.cuda.calls["cudaMalloc"] == newest.cuda.calls["cudaMallocHost"] == 2
    sizes = {len(memory) for memory in newest.cuda.memory["device"].values()}
    assert sizes == {8 * 3 * 64 * 64 * 4, 8 * 84 * 7 * 4}


def test_results_are_the_callers_own(newest: FakeTensorRT, engine: Path) -> None:
    runtime = TensorRTRuntime(engine)
    first = runtime.infer(batch(1))
    before = first.copy()
    second = runtime.infer(batch(1, seed=1))
    assert np.array_equal(first, before)
    assert not np.array_equal(second, before)
    runtime.close()
    assert np.array_equal(first, before)


def test_threads_share_several_contexts(newest: FakeTensorRT, engine: Path) -> None:
    runtime = TensorRTRuntime(engine, streams=3)
    inputs = [batch(1 + seed % 3, seed) for seed in range(60)]
    with ThreadPoolExecutor(8) as threads:
        outputs = list(threads.map(runtime.infer, inputs))
    assert all(np.array_equal(out, compute(images)["output"]) for out, images in zip(outputs, inputs, strict=True))
    assert newest.cuda.calls["cudaStreamCreateWithFlags"] == 3
    assert newest.cuda.calls["cudaMalloc"] == 6
    assert len(newest.living) <= 1 + 3 * 3  # the engine, and in each lane a context for each size


def test_close_waits_and_frees_everything(newest: FakeTensorRT, engine: Path) -> None:
    runtime = TensorRTRuntime(engine, streams=2)
    runtime.infer(batch(1))
    running, go_on = threading.Event(), threading.Event()

    def slow(images: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        running.set()
        assert go_on.wait(10)
        return compute(images)

    newest.compute = slow
    images = batch(1, seed=1)
    with ThreadPoolExecutor(2) as threads:
        result = threads.submit(runtime.infer, images)
        assert running.wait(10)
        closing = threads.submit(runtime.close)
        assert not closing.done()
        assert newest.cuda.live() > 0
        go_on.set()
        assert np.array_equal(result.result(10), compute(images)["output"])
        closing.result(10)
    assert newest.cuda.live() == 0
    gc.collect()
    assert len(newest.living) == 0
    runtime.close()
    with pytest.raises(InvalidInput, match="tiny is closed"):
        runtime.infer(batch(1))
    with pytest.raises(InvalidInput, match="tiny is closed"):
        runtime.infer_timed(batch(1))


def test_who_still_waits_when_it_closes_is_told(newest: FakeTensorRT, engine: Path) -> None:
    runtime = TensorRTRuntime(engine)
    pool, told = runtime._pool, []
    assert pool is not None
    runtime.close()

    def wait() -> None:
        with pytest.raises(InvalidInput, match="closed"), pool.lane():
            pass
        told.append(True)

    waiting = [threading.Thread(target=wait, daemon=True) for _ in range(3)]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join(10)
    assert told == [True] * 3


def test_a_forgotten_runtime_frees_everything(newest: FakeTensorRT, engine: Path) -> None:
    runtime = TensorRTRuntime(engine)
    runtime.infer(batch(2))
    assert newest.cuda.live() == 2 * 2 + 1 + 1  # two buffers on each side, a stream, a graph
    del runtime
    gc.collect()
    assert newest.cuda.live() == 0


@pytest.mark.parametrize("function", ["cudaMalloc", "cudaMallocHost", "cudaStreamCreateWithFlags"])
def test_out_of_memory_is_a_sentence_and_frees_what_there_was(
    function: str, newest: FakeTensorRT, engine: Path
) -> None:
    newest.cuda.fail[function] = 2
    with pytest.raises(UserError, match=rf"CUDA: out of memory \({function}\)"):
        TensorRTRuntime(engine, streams=2)
    assert newest.cuda.live() == 0


@pytest.mark.parametrize(
    ("function", "left"),
    [("cudaFree", 1), ("cudaFreeHost", 1), ("cudaGraphExecDestroy", 1), ("cudaStreamDestroy", 1), ("cudaSetDevice", 0)],
)
def test_a_failing_close_frees_the_rest_and_wakes_who_waits(
    function: str, left: int, newest: FakeTensorRT, engine: Path
) -> None:
    runtime = TensorRTRuntime(engine, streams=2)
    pool = runtime._pool
    assert pool is not None
    runtime.infer(batch(1))
    newest.cuda.fail[function] = 2
    runtime.close()
    assert newest.cuda.fail == {}, "nothing failed"
    assert newest.cuda.live() == left
    newest.cuda.executables.clear()  # a CUDA graph that could not be destroyed holds its context, in the fake
    gc.collect()
    assert [type(one).__name__ for one in newest.living] == ["ICudaEngine"]  # which the pool keeps
    told = []

    def wait() -> None:
        with pytest.raises(InvalidInput, match="closed"), pool.lane():
            pass
        told.append(True)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    waiting.join(10)
    assert told == [True]
    runtime.close()  # to free anything twice is an error of the fake
    pool.close()


@pytest.mark.parametrize("function", ["cudaEventDestroy", "cudaGraphDestroy"])
def test_what_fails_while_it_tidies_up_is_no_fault(function: str, newest: FakeTensorRT, engine: Path) -> None:
    runtime, images = TensorRTRuntime(engine), batch(1)
    newest.cuda.fail[function] = 2
    assert np.array_equal(runtime.infer(images), compute(images)["output"])
    assert np.array_equal(runtime.infer_timed(images)[0], compute(images)["output"])
    assert newest.cuda.fail == {}
    runtime.close()
    assert newest.cuda.live() == 1  # the one that could not be destroyed


@pytest.mark.parametrize("method", ["infer", "infer_timed"])
def test_a_lane_is_quiet_when_it_comes_back_from_a_failure(method: str, newest: FakeTensorRT, engine: Path) -> None:
    runtime, images = TensorRTRuntime(engine, cuda_graph=False), batch(1)
    runtime.infer(images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(newest.IExecutionContext, "execute_async_v3", lambda self, handle: False)
        with pytest.raises(UserError, match="could not run a batch of 1"):
            getattr(runtime, method)(batch(1, seed=1))
    assert [stream.pending for stream in newest.cuda.streams.values()] == [[]]
    assert np.array_equal(runtime.infer(images), compute(images)["output"])


def test_a_failure_has_its_own_words(newest: FakeTensorRT, engine: Path) -> None:
    """Not those of one before it."""
    runtime = TensorRTRuntime(engine, cuda_graph=False)
    runtime.infer(batch(1))
    for words, said in (("no memory", "no memory"), ("", "does not say why")):

        def fails(self: Any, handle: int, words: str = words) -> bool:
            if words:
                logger(newest).log(newest.ILogger.ERROR, words)
            return False

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(newest.IExecutionContext, "execute_async_v3", fails)
            with pytest.raises(UserError, match=said):
                runtime.infer(batch(1))


@pytest.mark.parametrize("function", ["cudaMemcpyAsync", "cudaGraphInstantiate"])  # while capturing, and after
def test_a_failing_capture_is_told_and_tried_again(function: str, newest: FakeTensorRT, engine: Path) -> None:
    runtime = TensorRTRuntime(engine)
    newest.cuda.fail[function] = 2
    with pytest.raises(UserError, match=function):
        runtime.infer(batch(1))
    images = batch(1)
    assert np.array_equal(runtime.infer(images), compute(images)["output"])
    assert newest.cuda.calls["cudaGraphLaunch"] == 1
    runtime.close()
    assert newest.cuda.live() == 0


def test_the_three_parts_are_timed(newest: FakeTensorRT, engine: Path) -> None:
    runtime = TensorRTRuntime(engine)
    images = batch(2)
    output, times = runtime.infer_timed(images)
    assert np.array_equal(output, compute(images)["output"])
    assert times == {"copy_in": 1.0, "compute": 1.0, "copy_out": 1.0}  # the fake clock ticks once an event
    runtime.close()
    assert newest.cuda.live() == 0
    assert newest.cuda.calls["cudaEventCreate"] == 4


@pytest.mark.parametrize(
    "inputs", [batch(1)[:, :, :32], batch(1).astype(np.uint8), batch(1)[:0]], ids=["shape", "dtype", "empty"]
)
def test_wrong_input_is_refused(inputs: npt.NDArray[Any], newest: FakeTensorRT, engine: Path) -> None:
    with pytest.raises(InvalidInput, match=r"tiny takes float32 of shape \(N, 3, 64, 64\)"):
        TensorRTRuntime(engine).infer(inputs)


@pytest.mark.parametrize("size", [1, 3, 4, 8, 9, 19])
def test_a_batch_below_the_profile_is_filled_up(size: int, newest: FakeTensorRT, tmp_path: Path) -> None:
    """The engine sees no batch under 4, and the caller nothing of what was added."""
    path = fake_tensorrt.write_hollow(tmp_path, SPEC) / "model.engine"
    write_engine(path, BuildOptions(profile=(4, 4, 8)))
    runtime, images = TensorRTRuntime(path), batch(size)
    before = images.copy()
    assert np.array_equal(runtime.infer(images), compute(images)["output"])
    sizes = [shape[0] for _, shape in newest.called("IExecutionContext.set_input_shape")]
    assert min(sizes) >= 4
    if size <= 8:
        output, _ = runtime.infer_timed(images)
        assert np.array_equal(output, compute(images)["output"])
    assert np.array_equal(images, before)


def test_what_is_filled_up_repeats_the_last_image(newest: FakeTensorRT, tmp_path: Path) -> None:
    path = fake_tensorrt.write_hollow(tmp_path, SPEC) / "model.engine"
    write_engine(path, BuildOptions(profile=(4, 4, 8)))
    seen: list[npt.NDArray[Any]] = []
    newest.compute = lambda images: seen.append(images.copy()) or compute(images)
    images = batch(2)
    TensorRTRuntime(path, cuda_graph=False).infer(images)
    assert [len(one) for one in seen] == [4]
    assert np.array_equal(seen[0], images[[0, 1, 1, 1]])


def test_the_detector_warms_up_above_one_image(newest: FakeTensorRT, tmp_path: Path) -> None:
    write_engine(fake_tensorrt.write_hollow(tmp_path, SPEC) / "model.engine", BuildOptions(profile=(4, 4, 8)))
    with load(tmp_path / "model.engine") as detector:
        detector.warmup()


@pytest.mark.parametrize(
    "change", [{"batch": 1}, {"topk": 3}, {"uint8_input": True}, {"input_size": (64, 96)}], ids=str
)
def test_a_spec_that_does_not_fit_is_refused(change: dict[str, Any], newest: FakeTensorRT, engine: Path) -> None:
    with pytest.raises(InvalidInput, match="promises"):
        TensorRTRuntime(engine, replace(SPEC, **change))
    assert newest.cuda.live() == 0


@pytest.mark.parametrize(
    ("side", "says"),
    [
        ("input", "promises input type float32, the graph has float16"),
        ("output", "promises output in float32, the engine has float16"),
    ],
)
def test_types_that_do_not_fit_are_refused(side: str, says: str, newest: FakeTensorRT, tmp_path: Path) -> None:
    path = fake_tensorrt.write_hollow(tmp_path, SPEC) / "model.engine"
    model = onnx.load(tmp_path / "model.onnx")
    getattr(model.graph, side)[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(model, tmp_path / "model.onnx")
    write_engine(path, BuildOptions())
    with pytest.raises(InvalidInput, match=says):
        TensorRTRuntime(path)
    assert newest.cuda.live() == 0


def test_nms_in_the_engine_becomes_rows() -> None:
    outputs = {
        "num_detections": np.array([[2], [0], [1]], np.int32),
        "detection_boxes": np.arange(3 * 4 * 4, dtype=np.float32).reshape(3, 4, 4),
        "detection_scores": np.array([[0.9, 0.5, 0, 0], [0.8, 0, 0, 0], [0.7, 0.6, 0, 0]], np.float32),
        "detection_classes": np.array([[1, 0, 5, 5], [5, 5, 5, 5], [1, 5, 5, 5]], np.int32),
    }
    rows = nms_rows(outputs)
    assert rows.dtype == np.float32
    assert rows.tolist() == [
        [0, 0, 1, 2, 3, np.float32(0.9), 1],
        [2, 32, 33, 34, 35, np.float32(0.7), 1],
        [0, 4, 5, 6, 7, 0.5, 0],
    ]


def test_an_engine_without_the_promised_nms_is_refused(newest: FakeTensorRT, engine: Path) -> None:
    with pytest.raises(InvalidInput, match="promises NMS"):
        TensorRTRuntime(engine, replace(SPEC, nms=GraphNMS(0.1, 0.65)))


# What does not fit this machine: refused before TensorRT sees it.


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:20]), "is damaged, or not the file"),
        (lambda path: path.write_bytes(b""), "is damaged, or not the file"),
        (lambda path: path.write_bytes(b"another engine"), "is damaged, or not the file"),
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.with_name("engine.json").unlink(), "has no engine.json"),
        (lambda path: path.with_name("engine.json").write_text("{"), "is damaged"),
        (lambda path: path.with_name("engine.json").write_text("[]"), "is damaged"),
        (lambda path: path.with_name("engine.json").write_text('{"library": "tensorrt"}'), "is damaged"),
        (lambda path: change_info(path, compute_capability="new"), "is damaged"),
        (lambda path: change_info(path, profile=[3, 2, 1]), "is damaged"),
        (lambda path: change_info(path, version="10.4.0"), "by TensorRT 10.4.0, and this is TensorRT 11.4.0.106"),
        (lambda path: change_info(path, gpu="Tesla T4"), "for a Tesla T4, and this is a NVIDIA Fake"),
        (lambda path: change_info(path, compute_capability="7.0"), "7.0, and this GPU (NVIDIA Fake) has 9.0"),
        (lambda path: change_info(path, library="tensorrt_rtx"), "by TensorRT-RTX 11.4.0.106, and this is TensorRT"),
    ],
    ids=range(14),
)
def test_an_engine_that_does_not_fit_is_refused_or_rebuilt(
    spoil: Any, says: str, newest: FakeTensorRT, engine: Path
) -> None:
    info = EngineInfo.read(engine)
    spoil(engine)
    with pytest.raises((InvalidInput, MissingBackend)) as refusal:
        TensorRTRuntime(engine)
    assert says in str(refusal.value)
    assert f"`python -m runtimes.trt_rebuild {engine}`" in str(refusal.value)
    assert newest.called("Runtime.deserialize_cuda_engine") == []
    images = batch(1)
    assert np.array_equal(TensorRTRuntime(engine, rebuild=True).infer(images), compute(images)["output"])
    assert EngineInfo.read(engine) == info


def change_info(path: Path, **changes: Any) -> None:
    file = path.with_name("engine.json")
    file.write_text(replace(EngineInfo.read(path), **changes).to_json())


def test_a_rebuild_keeps_the_options(newest: FakeTensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fake_tensorrt.write_hollow(tmp_path, SPEC) / "model.engine"
    write_engine(path, BuildOptions("fp16", (2, 3, 5), 4, 100))
    before = EngineInfo.read(path)
    monkeypatch.setattr(newest, "__version__", "11.5")
    assert rebuild_main([str(path)]) == 0
    after = EngineInfo.read(path)
    assert after.version == "11.5"
    assert replace(after, version=before.version, engine_sha256=before.engine_sha256) == before
    assert newest.called("IBuilderConfig.builder_optimization_level") == [(4,), (4,)]
    assert TensorRTRuntime(path).infer(batch(5)).shape == (5, 84, 7)


def test_an_engine_that_fits_is_not_rebuilt(newest: FakeTensorRT, engine: Path) -> None:
    TensorRTRuntime(engine, rebuild=True)
    assert newest.called("Builder.build_serialized_network") == []


def test_what_cannot_be_rebuilt_says_why(
    newest: FakeTensorRT, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.with_name("model.onnx").write_bytes(b"another model")
    engine.write_bytes(b"")
    with pytest.raises(InvalidInput, match=r"is not the file that model\.engine was built from"):
        TensorRTRuntime(engine, rebuild=True)
    engine.with_name("model.onnx").unlink()
    with pytest.raises(InvalidInput, match=r"there is no model.onnx beside it"):
        TensorRTRuntime(engine, rebuild=True)
    assert rebuild_main([str(engine.with_suffix(".onnx"))]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_what_tensorrt_itself_refuses_is_a_sentence_or_rebuilt(newest: FakeTensorRT, engine: Path) -> None:
    engine.write_bytes(b"not a plan")
    change_info(engine, engine_sha256=hashlib.sha256(b"not a plan").hexdigest())
    with pytest.raises(InvalidInput, match=r"TensorRT 11.4.0.106 cannot load .* \(Magic tag does not match\)"):
        TensorRTRuntime(engine)
    images = batch(1)
    assert np.array_equal(TensorRTRuntime(engine, rebuild=True).infer(images), compute(images)["output"])


def test_a_plan_is_read_once(newest: FakeTensorRT, engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was checked is what is loaded, whatever becomes of the file meanwhile."""
    read: list[str] = []
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path.name) or real(path))
    TensorRTRuntime(engine)
    assert read == ["model.engine"]


def test_without_a_driver_tensorrt_is_not_touched(
    surface: dict[str, Any], newest: FakeTensorRT, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = fake_tensorrt.install(monkeypatch, surface, "10.4.0", compute, gpus=())
    with pytest.raises(MissingBackend, match=r"no CUDA GPU here \(CUDA driver version is insufficient"):
        TensorRTRuntime(engine)
    assert bare.calls == []


def test_without_the_packages_it_says_what_to_type(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(MissingBackend, match="pip install cuda-bindings"):
        TensorRTRuntime(engine)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingBackend, match="pip install tensorrt-cu13"):
        TensorRTRuntime(engine)


def test_the_device_is_chosen_in_every_thread(
    surface: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = (("NVIDIA Fake", "9.0"), ("Tesla V100", "7.0"))
    trt = fake_tensorrt.install(monkeypatch, surface, "10.4.0", compute, gpus)
    path = fake_tensorrt.write_hollow(tmp_path, SPEC) / "model.engine"
    write_engine(path, BuildOptions(), device=1)
    assert EngineInfo.read(path).gpu == "Tesla V100"
    with pytest.raises(MissingBackend, match=r"capability 7\.0"):
        TensorRTRuntime(path)
    with pytest.raises(InvalidInput, match="device 2 does not exist; CUDA lists 2"):
        TensorRTRuntime(path, device=2)
    runtime = TensorRTRuntime(path, device=1)
    before = trt.cuda.calls["cudaSetDevice"]
    with ThreadPoolExecutor(1) as thread:
        thread.submit(runtime.infer, batch(1)).result()
    assert trt.cuda.calls["cudaSetDevice"] == before + 1
    with pytest.raises(InvalidInput, match="streams must be a number from 1"):
        TensorRTRuntime(path, streams=0)


# TensorRT-RTX


def test_rtx_captures_graphs_itself(surface: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_tensorrt.install(monkeypatch, surface, "rtx1.7.1", compute, (("GeForce RTX 4090", "8.9"),))
    runtime = TensorRTRTXRuntime(make_engine(trt, tmp_path, name="model.rtx"))
    for size in (1, 5):
        images = batch(size)
        assert np.array_equal(runtime.infer(images), compute(images)["output"])
    assert trt.cuda.calls["cudaStreamBeginCapture"] == 0
    strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    assert trt.called("IRuntimeConfig.cuda_graph_strategy") == [(strategy,)]
    (first,), (second,) = trt.called("ICudaEngine.create_execution_context")
    assert first is second  # one configuration, so that what is compiled is shared
    assert len(trt.called("IRuntimeConfig.set_runtime_cache")) == 1
    runtime.close()
    assert trt.cuda.live() == 0


def test_rtx_without_graphs(surface: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_tensorrt.install(monkeypatch, surface, "rtx1.7.1", compute, (("GeForce RTX 4090", "8.9"),))
    runtime = TensorRTRTXRuntime(make_engine(trt, tmp_path, name="model.rtx"), cuda_graph=False)
    assert np.array_equal(runtime.infer(batch(2)), compute(batch(2))["output"])
    assert trt.cuda.calls["cudaStreamBeginCapture"] == 0
    assert trt.called("IRuntimeConfig.cuda_graph_strategy") == [(trt.CudaGraphStrategy.DISABLED,)]


def test_an_engine_for_turing_runs_on_every_turing_card(
    surface: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = fake_tensorrt.install(monkeypatch, surface, "rtx1.7.1", compute, (("GeForce RTX 2080", "7.5"),))
    path = make_engine(trt, tmp_path, name="model.rtx")
    assert EngineInfo.read(path).compute_capability == "7.5"
    trt.cuda.gpus = (("Quadro RTX 4000", "7.5"),)
    assert np.array_equal(TensorRTRTXRuntime(path).infer(batch(1)), compute(batch(1))["output"])
    trt.cuda.gpus = (("GeForce RTX 3090", "8.6"),)
    with pytest.raises(MissingBackend, match=r"compute capability 7\.5, and this GPU \(GeForce RTX 3090\) has 8\.6"):
        TensorRTRTXRuntime(path)


def test_rtx_rebuilds_what_it_calls_invalid(
    surface: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = fake_tensorrt.install(monkeypatch, surface, "rtx1.7.1", compute)
    path = make_engine(trt, tmp_path, name="model.rtx")
    path.write_bytes(content := path.read_bytes() + b" ")  # JSON, as the fake has it, that differs
    change_info(path, engine_sha256=hashlib.sha256(content).hexdigest())
    valid = lambda plan: trt.EngineValidity["INVALID" if plan == content else "VALID"]  # noqa: E731
    monkeypatch.setattr(trt.Runtime, "get_engine_validity", lambda runtime, plan: (valid(plan), 0))
    with pytest.raises(MissingBackend, match="does not run"):
        TensorRTRTXRuntime(path)
    assert np.array_equal(TensorRTRTXRuntime(path, rebuild=True).infer(batch(1)), compute(batch(1))["output"])
    assert path.read_bytes() != content


@pytest.mark.parametrize(("gpu", "says"), [("7.0", "compute capability 8.0"), ("9.0", "does not run")])
def test_rtx_on_a_card_that_is_not_served(
    gpu: str, says: str, surface: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = fake_tensorrt.install(monkeypatch, surface, "rtx1.7.1", compute, (("NVIDIA Fake", gpu),))
    path = make_engine(trt, tmp_path, name="model.rtx")
    trt.validity = "INVALID"
    with pytest.raises(MissingBackend, match=says):
        TensorRTRTXRuntime(path)
    assert trt.called("Runtime.deserialize_cuda_engine") == []


# The real packages


def test_every_name_of_the_fake_is_one_of_the_real_cuda_bindings() -> None:
    real = pytest.importorskip("cuda.bindings.runtime")
    names = [name for name in vars(fake_cuda.FakeCuda) if name.startswith("cuda")]
    assert len(names) > 20
    assert [name for name in names if not hasattr(real, name)] == []
    for enum in (fake_cuda.FakeCuda.cudaMemcpyKind, fake_cuda.FakeCuda.cudaStreamCaptureMode):
        for member in enum:
            assert int(getattr(getattr(real, enum.__name__), member.name)) == int(member)


@pytest.mark.parametrize(
    "content", [b"", b"text, no engine", b"ftrt\0\0\0\0", "half"], ids=["empty", "text", "magic", "half"]
)
@pytest.mark.parametrize("name", ["model.engine", "model.rtx"])
def test_damaged_files_end_in_a_sentence_in_a_process_of_their_own(
    name: str, content: bytes | str, surface: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With whatever of TensorRT and of drivers this machine has: no native crash."""
    with monkeypatch.context() as patch:
        version = "rtx1.7.1" if name == "model.rtx" else "11.4.0.106"
        path = make_engine(fake_tensorrt.install(patch, surface, version, compute), tmp_path, name=name)
    path.write_bytes(content if isinstance(content, bytes) else path.read_bytes()[:30])
    kind = {"model.engine": "trt import TensorRTRuntime", "model.rtx": "trt_rtx import TensorRTRTXRuntime"}[name]
    code = f"""
from runtimes import UserError
from runtimes.{kind} as Runtime
for rebuild in (False, True):
    try:
        Runtime({str(path)!r}, rebuild=rebuild)
    except UserError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert "Traceback" not in done.stderr


def has_gpu() -> bool:
    try:
        status, count = importlib.import_module("cuda.bindings.runtime").cudaGetDeviceCount()
        importlib.import_module("tensorrt")
    except ImportError:
        return False
    return int(status) == 0 and count > 0


needs_gpu = pytest.mark.skipif(not has_gpu(), reason="needs a CUDA GPU, cuda-bindings and tensorrt")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(
    "change", [{}, {"batch": 1}, {"topk": 100}, {"precision": "fp16"}, {"uint8_input": True}], ids=str
)
def test_real_engines_detect_what_the_model_does(
    change: dict[str, Any], seeded_nano: YOLOX, small_spec: ModelSpec, images: list[Image], tmp_path: Path
) -> None:
    spec = replace(small_spec, **change)
    reference = TorchRuntime(seeded_nano, spec)
    export_trt(seeded_nano, spec, tmp_path, ExportOptions(), StageCheck(reference, spec, images))
    (tmp_path / "spec.json").write_text(spec.to_json())
    runtime = TensorRTRuntime(tmp_path / "model.engine", streams=2)
    report = compare(reference, runtime, images, TOLERANCES[spec.precision])
    assert report, str(report)
    assert report.detections > 20
    inputs, _ = preprocess(images[:1], spec)
    expected = runtime.infer(inputs)
    with ThreadPoolExecutor(4) as threads:
        assert all(np.array_equal(out, expected) for out in threads.map(runtime.infer, [inputs] * 40))
    output, times = runtime.infer_timed(inputs)
    assert np.array_equal(output, expected)
    assert all(milliseconds > 0 for milliseconds in times.values())
    runtime.close()


@pytest.mark.gpu
@needs_gpu
def test_real_engines_give_their_memory_back(
    seeded_nano: YOLOX, small_spec: ModelSpec, images: list[Image], tmp_path: Path
) -> None:
    cuda = importlib.import_module("cuda.bindings.runtime")
    check = StageCheck(TorchRuntime(seeded_nano, small_spec), small_spec, images)
    export_trt(seeded_nano, small_spec, tmp_path, ExportOptions(), check)
    (tmp_path / "spec.json").write_text(small_spec.to_json())
    free = []
    for _ in range(6):
        runtime = TensorRTRuntime(tmp_path / "model.engine", streams=3)
        for size in (1, 4, 8):
            runtime.infer(np.zeros((size, 3, 256, 320), np.float32))
        runtime.close()
        free.append(cuda.cudaMemGetInfo()[1])
    assert free[1] - free[-1] < 2**20  # the first round loads kernels, which stay

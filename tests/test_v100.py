"""The V100 benchmark. All but the tests marked `gpu` run on the processor, or on FAKES: see `fake_tensorrt.py`."""

from __future__ import annotations

import importlib
import json
import types
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from benchmarks import latency
from benchmarks.latency import Latency, clocked, fps, repeat
from benchmarks.stages import STAGES
from benchmarks.v100 import __main__ as v100
from benchmarks.v100 import gpu as v100_gpu
from benchmarks.v100 import paper as v100_paper
from benchmarks.v100 import trt as v100_trt
from benchmarks.v100.gpu import Card
from benchmarks.v100.paper import PAPER, ForwardRuntime, OfficialForward, fuse_norms, time_forward
from exporters.graph import InferenceGraph
from exporters.torch_runtime import TorchRuntime
from runtimes import InvalidInput, MissingBackend, ModelSpec
from runtimes.postprocess import decode_output
from runtimes.preprocess import Image, preprocess
from tests import fake_tensorrt
from yolox_deploy.model.blocks import BaseConv, Focus, SPPBottleneck
from yolox_deploy.model.flops import count_gflops, count_parameters
from yolox_deploy.model.open import TrainedModel, describe
from yolox_deploy.model.variants import VariantName
from yolox_deploy.model.yolox import YOLOX

H200 = Card("NVIDIA H200", "9.0")
V100 = Card("Tesla V100-SXM2-16GB", "7.0")


@pytest.fixture(scope="module")
def small() -> TrainedModel:
    """Random weights of yolox-s, at a size that a processor is quick at."""
    torch.manual_seed(0)
    return describe(YOLOX("yolox-s").eval(), input_size=(64, 64))


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> int:
    """Warm up for two runs: a processor is slow in fp16."""
    monkeypatch.setattr(latency, "WARM_UP_RUNS", 2)
    monkeypatch.setattr(latency, "WARM_UP_SECONDS", 0.0)
    return 2


# What may be called a V100


@pytest.mark.parametrize(
    ("name", "capability", "label"),
    [
        ("Tesla V100-SXM2-16GB", "7.0", "V100"),
        ("Tesla V100-PCIE-32GB", "7.0", "V100"),
        ("Tesla V100-SXM2-16GB", "8.0", "Tesla V100-SXM2-16GB"),
        ("NVIDIA H200", "9.0", "NVIDIA H200"),
        ("NVIDIA V1000", "7.0", "NVIDIA V1000"),
        ("Tesla V100S-PCIE-32GB", "7.0", "Tesla V100S-PCIE-32GB"),
        ("NVIDIA TITAN V", "7.0", "NVIDIA TITAN V"),
    ],
)
def test_only_a_v100_is_called_one(name: str, capability: str, label: str) -> None:
    card = Card(name, capability)
    assert card.label == label
    assert (card.manifest()["label"], card.manifest()["name"]) == (label, name)


def test_the_manifest_asks_the_driver_and_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **options: Any) -> Any:
        commands.append(command)
        return types.SimpleNamespace(stdout="550.54, P0, 1530 MHz, 1530 MHz, 877 MHz, 877 MHz, 300.00 W, 41\n")

    monkeypatch.setattr(v100_gpu.subprocess, "run", run)
    state = replace(V100, uuid="GPU-1").manifest()["state"]
    assert (state["driver_version"], state["clocks.sm"], state["power.limit"]) == ("550.54", "1530 MHz", "300.00 W")
    assert all(option.startswith(("--query-gpu=", "--format=")) for option in commands[0][3:])
    assert commands[0][:3] == ["nvidia-smi", "-i", "GPU-1"]


def test_clocks_that_nobody_tells_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: Any, **options: Any) -> Any:
        raise FileNotFoundError

    monkeypatch.setattr(v100_gpu.subprocess, "run", missing)
    assert v100_gpu.ask_driver("GPU-1") == {}
    assert v100_gpu.read_answer("No devices were found\n") == {}
    assert V100.manifest()["state"] == {}


# Arithmetic


def test_latency() -> None:
    found = Latency(tuple(float(value) for value in range(1, 102)))
    assert (found.median, found.p90, found.p99, found.mean) == (51, 91, 100, 51)
    assert found.to_dict() == {"median": 51, "p90": 91, "p99": 100, "mean": 51}
    assert found.to_dict(everything=True)["times"] == list(found.times)
    assert fps(12.5) == 80


@pytest.mark.parametrize(("seconds", "warm_up"), [(0.001, 200), (0.004, 50), (0.5, 50)])
def test_the_warm_up_takes_its_time_and_its_runs(seconds: float, warm_up: int) -> None:
    now, seen = 0.0, []

    def step(run: int) -> int:
        nonlocal now
        now += seconds
        seen.append(run)
        return run

    assert repeat(step, 7, clock=lambda: round(now, 6)) == list(range(7))
    assert len(seen) == warm_up + 7
    assert clocked(step, clock=lambda: now)(0) == pytest.approx(1e3 * seconds)


@pytest.mark.parametrize("variant", PAPER)
def test_the_papers_rows_agree_with_themselves_and_with_our_models(variant: VariantName) -> None:
    row = PAPER[variant]
    assert row.fps == round(fps(row.milliseconds), 1)
    with torch.device("meta"):
        model = YOLOX(variant)
    assert row.parameters == round(count_parameters(model) / 1e6, 1)
    assert row.gflops == round(count_gflops(model, *v100.SIZE), 1)


def paper_row(milliseconds: float, ap: float | None = None) -> v100_paper.Row:
    return v100_paper.Row("yolox-s", ap, 8_968_255, 26.76, Latency((milliseconds,) * 3))


def test_a_row_beside_the_papers() -> None:
    row = paper_row(4.9, ap=0.4046)
    assert row.ratio == pytest.approx(0.5)
    found = row.to_dict()
    assert (found["fps"], found["ratio"], found["gflops"], found["AP"]) == (204.1, 0.5, 26.8, 0.4046)
    assert (found["paper"]["milliseconds"], found["paper"]["fps"], found["paper"]["AP"]) == (9.8, 102.0, 0.405)
    assert "times" not in found["milliseconds"]
    assert row.to_dict(everything=True)["milliseconds"]["times"] == [4.9] * 3


def test_the_papers_table() -> None:
    header, _, paper, ours, _, note = v100_paper.table([paper_row(4.9, ap=0.4046)], H200).splitlines()
    assert paper == "| yolox-s | paper's V100 | 40.5 | 9.0 | 26.8 | 9.8 | | | 102.0 | |"
    assert ours == "| | NVIDIA H200 | 40.5 | 9.0 | 26.8 | 4.90 | 4.90 | 4.90 | 204.1 | 0.50 |"
    assert all(line.count("|") == header.count("|") for line in (paper, ours))
    assert note.startswith("The NVIDIA H200 is not the paper's V100")
    on_v100 = v100_paper.table([paper_row(9.8)], V100)
    assert "| | V100 |  | 9.0 |" in on_v100
    assert "is not" not in on_v100


# The paper's protocol


def test_the_forward_pass_is_the_models_with_only_its_norms_folded(
    seeded_nano: YOLOX, small_spec: ModelSpec, images: list[Image]
) -> None:
    inputs, _ = preprocess(images[:2], small_spec)
    reference = TorchRuntime(seeded_nano, small_spec)
    expected = decode_output(reference.infer(inputs), reference.spec)
    forward = OfficialForward(seeded_nano)
    with torch.no_grad():
        found = forward(torch.from_numpy(inputs)).numpy()
    assert np.allclose(found, expected, rtol=1e-3, atol=1e-3)
    kinds = [type(module) for module in forward.modules()]
    assert not {nn.BatchNorm2d, BaseConv} & {*kinds}
    assert {Focus, SPPBottleneck} <= {*kinds}  # which an export rewrites
    assert any(isinstance(module, nn.BatchNorm2d) for module in seeded_nano.modules())


def test_darknet53_is_fused_too() -> None:
    model = YOLOX("yolox-darknet53").eval()
    images = torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        assert torch.allclose(fuse_norms(model)(images), model(images), atol=1e-4)


def test_what_ap_is_measured_on_is_what_is_timed(small: TrainedModel, images: list[Image]) -> None:
    runtime = ForwardRuntime(small.model, small.spec, "cpu")
    assert (runtime.spec.decoded, runtime.spec.precision) == (True, "fp16")
    assert {parameter.dtype for parameter in runtime.forward.parameters()} == {torch.float16}
    inputs, _ = preprocess(images[:1], runtime.spec)
    reference = TorchRuntime(small.model, small.spec)
    expected = decode_output(reference.infer(inputs), reference.spec)
    assert np.abs(runtime.infer(inputs) - expected).max() < 1  # pixels: fp16


def test_the_forward_pass_is_timed_on_every_input_in_turn(brief: int, small: TrainedModel, images: list[Image]) -> None:
    runtime = ForwardRuntime(small.model, small.spec, "cpu")
    inputs = [runtime.load(preprocess([image], runtime.spec)[0]) for image in images]
    seen: list[torch.Tensor] = []
    runtime.forward.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    assert len(time_forward(runtime, inputs, 7).times) == 7
    assert len(seen) == brief + 7
    assert [id(one) for one in seen[-7:]] == [id(inputs[run % 5]) for run in range(7)]
    assert all(one.shape == (1, 3, 64, 64) and one.dtype == torch.float16 for one in seen)
    assert not torch.backends.cudnn.benchmark


def test_measuring_a_model_on_the_processor(
    brief: int, small: TrainedModel, images: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def evaluate(detector: Any, dataset: Any) -> Any:
        seen.append((detector.runtime.spec.precision, detector.score_threshold))
        return types.SimpleNamespace(AP=0.405)

    monkeypatch.setattr(v100_paper, "evaluate", evaluate)
    data: Any = object()
    row = v100_paper.measure(small, images, 3, data, device="cpu")
    assert (row.model, row.parameters, row.AP) == ("yolox-s", 8_968_255, 0.405)
    assert row.gflops == pytest.approx(26.8 / 100, abs=0.01)  # of 64x64
    assert seen == [("fp16", 0.001)]
    assert v100_paper.measure(small, images, 3, None, device="cpu").AP is None


def test_a_pytorch_without_kernels_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_kernel(module: nn.Module) -> nn.Module:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors")

    properties = types.SimpleNamespace(name="Tesla V100-SXM2-16GB", major=7, minor=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(nn.Module, "cuda", no_kernel)
    with pytest.raises(MissingBackend, match=r"cannot use Tesla V100.*no kernel image.*device; .*torch==2\.7\.1"):
        v100_paper.find_card()


# The TensorRT protocol, on fakes


@pytest.fixture(scope="module")
def surface(shared: Path) -> dict[str, Any]:
    return fake_tensorrt.read_surface(shared)


Install = Callable[..., fake_tensorrt.FakeTensorRT]


@pytest.fixture
def install(surface: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Install:
    return partial(fake_tensorrt.install, monkeypatch, surface)


def run_graph(trained: TrainedModel) -> Callable[[npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]:
    """What a fake engine computes: the graph, in PyTorch."""
    graph = InferenceGraph(trained.model, replace(trained.spec, decoded=True))

    def compute(images: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        with torch.inference_mode():
            return {"output": graph(torch.from_numpy(images.copy())).numpy()}

    return compute


@pytest.mark.parametrize("version", ["8.6.0", "10.4.0"])
def test_an_engine_is_proven_and_timed_in_parts(
    brief: int, version: str, install: Install, seeded_nano: YOLOX, images: list[Image]
) -> None:
    """Of the FAKE engine and GPU, whose events are a millisecond apart."""
    trained = describe(seeded_nano, input_size=(96, 64))
    trt = install(version, run_graph(trained), (("Tesla V100-SXM2-16GB", "7.0"),))
    card = v100_trt.find_card()
    assert (card.label, card.versions["tensorrt"]) == ("V100", version)
    row = v100_trt.measure(trained, images, 5, None)
    assert [*row.latencies] == [*STAGES, "engine", "total", "graph"]
    assert all(len(found.times) == 5 for found in row.latencies.values())
    for stage in ("copy_in", "compute", "copy_out"):
        assert {*row.latencies[stage].times} == {1.0}
    assert trt.cuda.calls["cudaGraphLaunch"] >= brief + 5
    assert row.parity.startswith("parity: ")
    assert trt.cuda.live() == 0

    text = v100_trt.table([row], card)
    assert "| yolox-nano |  |" in text
    assert text.splitlines()[-1] == v100_trt.NOTE
    found = json.dumps(row.to_dict())
    assert "paper" not in found
    assert not any(str(paper.fps) in text + found for paper in PAPER.values())


def test_a_tensorrt_without_the_v100_is_refused(install: Install) -> None:
    install("10.16.1.11", gpus=(("Tesla V100-SXM2-16GB", "7.0"),))
    with pytest.raises(MissingBackend, match=r"10\.16\.1\.11 has no kernels for Tesla V100.*tensorrt-cu12==10\.4\.0"):
        v100_trt.find_card()
    install("10.16.1.11", gpus=(("NVIDIA H200", "9.0"),))
    assert v100_trt.find_card().label == "NVIDIA H200"


# The command


@pytest.mark.parametrize("protocol", ["paper", "trt"])
def test_without_a_gpu_it_says_what_it_needs(
    protocol: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none() -> Any:
        raise MissingBackend("there is no CUDA GPU here.")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(v100_trt, "find_gpu", none)
    assert v100.main(["--protocol", protocol, "--seeded"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: --protocol {protocol} needs a CUDA GPU")
    assert captured.err.count("\n") == 1
    with pytest.raises(SystemExit):
        v100.main(["--help"])
    helped = capsys.readouterr().out
    for pin in (
        "Python 3.10",
        "torch==2.7.1",
        "tensorrt-cu12==10.4.0",
        "cuda-bindings==12.8.*",
        "tensorrt==8.6.0",
        "nvidia-cudnn-cu12==8.9.*",
        "nvidia-cublas-cu12==12.1.*",
    ):
        assert pin in captured.err
        assert pin in helped


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeded", "--weights", "a.pth"], "exclude each other"),
        (["--seeded", "--data", "coco"], "no AP to measure"),
        (["--split", "val"], "--data PATH"),
        (["--runs", "49"], "at least 50"),
        (["--json", "."], "is a folder"),
    ],
)
def test_options_that_do_not_fit(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert v100.main(["--protocol", "paper", *arguments]) == 1
    assert message in capsys.readouterr().err


def save(folder: Path, variant: VariantName, name: str, classes: int = 80) -> Path:
    path = folder / name
    torch.save({"model": YOLOX(variant, classes).state_dict()}, path)
    return path


def test_which_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = partial(v100.V100Config, "paper")
    assert v100.choose_weights(config(seeded=True)) == dict.fromkeys(PAPER)
    assert v100.choose_weights(config(seeded=True, models=("yolox-x",))) == {"yolox-x": None}
    monkeypatch.setattr(v100, "official_weights", lambda name: Path(name))
    assert v100.choose_weights(config(models=("yolox-l", "yolox-s"))) == {
        "yolox-l": Path("yolox-l"),
        "yolox-s": Path("yolox-s"),
    }
    save(tmp_path, "yolox-nano", "nano.pth")
    with pytest.raises(InvalidInput, match=r"holds yolox-nano, but not yolox-s or .*darknet53"):
        v100.choose_weights(config(weights=(tmp_path,)))
    path = save(tmp_path, "yolox-s", "s.pth")
    assert v100.choose_weights(config(weights=(tmp_path,))) == {"yolox-s": path}
    with pytest.raises(InvalidInput, match="holds yolox-nano, yolox-s, but not yolox-m"):
        v100.choose_weights(config(weights=(tmp_path,), models=("yolox-s", "yolox-m")))
    with pytest.raises(InvalidInput, match=r"both hold a yolox-s"):
        v100.choose_weights(config(weights=(tmp_path, path)))
    with pytest.raises(InvalidInput, match="3 classes, not the 80"):
        v100.choose_weights(config(weights=(save(tmp_path, "yolox-nano", "three.pth", 3),)))


def test_the_whole_command_on_the_processor(
    brief: int,
    small: TrainedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All but the GPU: its card is made up, and the forward pass runs on the processor."""
    torch.save({"model": small.model.state_dict()}, tmp_path / "s.pth")
    monkeypatch.setattr(v100_paper, "find_card", lambda: H200)
    monkeypatch.setattr(v100_paper, "measure", partial(v100_paper.measure, device="cpu"))
    monkeypatch.setattr(v100, "SIZE", (32, 32))
    options = ["--weights", str(tmp_path), "--runs", "50", "--json", str(tmp_path / "v100.json")]
    assert v100.main(["--protocol", "paper", *options]) == 0
    *table, last = capsys.readouterr().out.strip().splitlines()
    assert table[0] == v100_paper.HEADER.splitlines()[0]
    line, full = json.loads(last), json.loads((tmp_path / "v100.json").read_text())
    assert (line["protocol"], line["gpu"]["label"], line["ap_images"]) == ("paper", "NVIDIA H200", None)
    assert line["settings"] == {"precision": "fp16", "batch": 1, "input_size": [32, 32], "runs": 50, "inputs": 8}
    assert len(line["weights"]["yolox-s"]) == 64
    (row,) = line["rows"]
    assert row["fps"] == pytest.approx(1e3 / row["milliseconds"]["median"], abs=0.06)
    assert len(full["rows"][0]["milliseconds"].pop("times")) == 50
    assert full.pop("machine")["packages"]
    assert full == line | {"warnings": []}


# On a GPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a PyTorch with CUDA")
def test_the_papers_protocol_on_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "v100.json"
    options = ["--models", "yolox-s", "--seeded", "--runs", "50", "--json", str(file)]
    assert v100.main(["--protocol", "paper", *options]) == 0
    line = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert line["gpu"]["name"] == torch.cuda.get_device_name(0)
    assert line["rows"][0]["milliseconds"]["median"] > 0
    assert len(json.loads(file.read_text())["rows"][0]["milliseconds"]["times"]) == 50


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a PyTorch with CUDA")
def test_the_forward_pass_on_a_gpu_is_that_of_the_processor(
    seeded_nano: YOLOX, small_spec: ModelSpec, images: list[Image]
) -> None:
    inputs, _ = preprocess(images[:1], small_spec)
    reference = TorchRuntime(seeded_nano, small_spec)
    expected = decode_output(reference.infer(inputs), reference.spec)
    found = ForwardRuntime(seeded_nano, small_spec, "cuda").infer(inputs)
    assert np.abs(found - expected)[..., 4:].mean() < 0.01
    assert np.abs(found - expected)[..., :4].mean() < 1  # pixels


@pytest.mark.gpu
def test_the_tensorrt_protocol_on_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorrt")
    assert v100.main(["--protocol", "trt", "--models", "yolox-s", "--seeded", "--runs", "50"]) == 0
    *_, note, last = capsys.readouterr().out.strip().splitlines()
    assert note == v100_trt.NOTE
    (row,) = json.loads(last)["rows"]
    assert [*row["milliseconds"]] == [*STAGES, "engine", "total", "graph"]
    assert all(found["median"] > 0 for found in row["milliseconds"].values())
    assert importlib.import_module("tensorrt").__version__ == json.loads(last)["gpu"]["versions"]["tensorrt"]

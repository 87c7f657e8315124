from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks.int8_share import onnx_layers
from exporters.artifact import Artifact, write_artifact
from exporters.calibration import Observed, best_range, calibration_batches, channel_ranges, observe
from exporters.options import ExportOptions
from exporters.qdq import SILU_FLOOR, last_convolutions, quantize_for_onnxruntime, quantize_for_tensorrt
from exporters.trt_graph import check_tensorrt_ready
from runtimes import InvalidInput, ModelSpec, load
from runtimes.preprocess import Image
from yolox_deploy.model.yolox import YOLOX

STEM = "backbone.backbone.stem.0"


def test_the_last_convolutions_are_the_predictions(artifact: Artifact) -> None:
    names = last_convolutions(onnx.load(artifact.model).graph)
    assert names == {f"head.{kind}_preds.{level}/Conv" for kind in ("cls", "reg", "obj") for level in range(3)}


def small_model(channels: int = 3) -> onnx.ModelProto:
    """Two convolutions with SiLU between them, whose channels differ a thousandfold in range."""
    random = np.random.default_rng(0)
    gains = np.logspace(-1.5, 1.5, 8).astype(np.float32)
    tensors = {
        "w1": (random.normal(0, 0.02, (8, channels, 3, 3)) * gains[:, None, None, None]).astype(np.float32),
        "b1": random.normal(0, 0.1, 8).astype(np.float32),
        "w2": random.normal(0, 1, (4, 8, 1, 1)).astype(np.float32),
        "b2": np.zeros(4, np.float32),
        "w3": random.normal(0, 1, (2, 4, 1, 1)).astype(np.float32),
    }
    graph = onnx.parser.parse_graph(
        f"""g (float[N, {channels}, 16, 16] images) => (float[N, 2, 16, 16] output) {{
            a = Conv <pads = [1, 1, 1, 1]> (images, w1, b1)
            s = Sigmoid (a)
            y = Mul (a, s)
            b = Conv (y, w2, b2)
            r = Relu (b)
            output = Conv (r, w3)
        }}"""
    )
    for node, name in zip([graph.node[0], graph.node[3], graph.node[5]], ["one", "two", "three"], strict=True):
        node.name = f"{name}/Conv"
    graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in tensors.items())
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def batches(random: np.random.Generator) -> list[np.ndarray]:  # type: ignore[type-arg]
    return [random.integers(0, 256, (1, 3, 16, 16)).astype(np.float32) for _ in range(4)]


def run(model: onnx.ModelProto, batch: np.ndarray, tensor: str = "output") -> np.ndarray:  # type: ignore[type-arg]
    model = copy.deepcopy(model)
    if tensor != "output":
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    output: np.ndarray = session.run([tensor], {"images": batch})[0]  # type: ignore[type-arg]
    return output


def relative_error(model: onnx.ModelProto, batches: list[np.ndarray]) -> float:  # type: ignore[type-arg]
    plain = small_model()
    expected = np.concatenate([run(plain, batch) for batch in batches])
    actual = np.concatenate([run(model, batch) for batch in batches])
    return float(np.abs(actual - expected).mean() / np.abs(expected).mean())


def test_every_channel_keeps_its_own_steps(batches: list[np.ndarray]) -> None:  # type: ignore[type-arg]
    """With one scale for all, the small channels would be lost: they differ a thousandfold."""
    ours = quantize_for_onnxruntime(small_model(), batches, frozenset({"two"}))
    for batch in batches:
        expected, actual = (run(model, batch, "a")[0] for model in (small_model(), ours))
        expected = np.maximum(expected, SILU_FLOOR)
        reach = np.ptp(expected, axis=(1, 2))
        errors = np.abs(actual - expected).max(axis=(1, 2)) / reach
        assert reach.max() > 300 * reach.min()
        assert errors.max() < 0.03
    assert 0 < relative_error(ours, batches) < 0.03


def test_layers_in_float_are_left_as_they_are(batches: list[np.ndarray]) -> None:  # type: ignore[type-arg]
    for quantize in (quantize_for_onnxruntime, quantize_for_tensorrt):
        model = quantize(small_model(), batches, frozenset({"one"}))
        kept = next(node for node in model.graph.node if node.name == "one/Conv")
        assert list(kept.input) == ["images", "w1", "b1"]
        assert all(np.array_equal(run(model, batch, "a"), run(small_model(), batch, "a")) for batch in batches)
        with pytest.raises(InvalidInput, match="no convolution nowhere"):
            quantize(small_model(), batches, frozenset({"nowhere"}))
        with pytest.raises(InvalidInput, match="no convolution is left"):
            quantize(small_model(), batches, frozenset({"one", "two"}))


def test_only_the_first_convolution_of_the_graph_has_weights_of_seven_bits(batches: list[np.ndarray]) -> None:  # type: ignore[type-arg]
    def largest(floats: frozenset[str], name: str) -> int:
        model = quantize_for_onnxruntime(small_model(), batches, floats)
        weight = next(tensor for tensor in model.graph.initializer if tensor.name == name)
        return int(np.abs(onnx.numpy_helper.to_array(weight)).max())

    assert largest(frozenset(), "w1_int") == 63
    assert largest(frozenset(), "w2_int") == largest(frozenset({"one"}), "w2_int") == 127


def test_a_channel_without_weights_keeps_its_bias(batches: list[np.ndarray]) -> None:  # type: ignore[type-arg]
    model = small_model()
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "w1")
    values = onnx.numpy_helper.to_array(weight).copy()
    values[2], values[3] = 0, 1e-30
    weight.CopyFrom(onnx.numpy_helper.from_array(values, "w1"))
    expected = run(model, batches[0], "a")[0, 2:4]
    actual = run(quantize_for_onnxruntime(model, batches, frozenset({"two"})), batches[0], "a")[0, 2:4]
    assert np.abs(actual - expected).max() < 0.01


def test_tensorrts_form_is_symmetric_and_quantizes_no_bias(batches: list[np.ndarray]) -> None:  # type: ignore[type-arg]
    model = quantize_for_tensorrt(small_model(), batches, frozenset())
    check_tensorrt_ready(model)
    zeros = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.name.endswith("_zero")
    }
    assert zeros
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros.values())
    convolutions = {node.name: node for node in model.graph.node if node.op_type == "Conv"}
    assert convolutions["one/Conv"].output[0] == "a"  # nothing between it and its activation
    assert 0 < relative_error(model, batches) < 0.2


def test_the_form_of_onnxruntime_is_refused_for_tensorrt(batches: list[np.ndarray]) -> None:  # type: ignore[type-arg]
    with pytest.raises(InvalidInput):
        check_tensorrt_ready(quantize_for_onnxruntime(small_model(), batches, frozenset()))


def test_pixels_keep_all_their_values(batches: list[np.ndarray]) -> None:  # type: ignore[type-arg]
    batches[0][0, 0, 0, :2] = 0, 255
    model = quantize_for_onnxruntime(small_model(), batches, frozenset())
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "images_scale")
    assert onnx.numpy_helper.to_array(scale) == 1


def test_what_calibration_sees(batches: list[np.ndarray]) -> None:  # type: ignore[type-arg]
    seen = observe(small_model(), ["images", "a"], batches)
    everything = np.concatenate(batches)
    assert np.array_equal(seen["images"].low, everything.min(axis=(0, 2, 3)))
    assert np.allclose(seen["images"].mean, everything.mean(axis=(0, 2, 3)))
    assert np.array_equal(seen["images"].high, everything.max(axis=(0, 2, 3)))
    assert set(seen["images"].sample) <= set(everything.ravel())
    assert seen["a"].low.shape == (8,)
    with pytest.raises(InvalidInput, match="calibration images"):
        observe(small_model(), ["a"], [])


def test_best_range_leaves_out_what_is_far_and_rare() -> None:
    sample = np.random.default_rng(0).normal(0, 1, 100_000)
    seen = Observed(np.array([sample.min()]), np.array([60.0]), np.zeros(1), sample)
    low, high = best_range(seen, symmetric=False)
    assert low == sample.min()
    assert high < 20
    low, high = best_range(seen, symmetric=True)
    assert low == -high
    plain = Observed(np.array([0.0]), np.array([255.0]), np.zeros(1), np.arange(256.0))
    assert best_range(plain, symmetric=False) == (0, 255)


def test_channel_ranges() -> None:
    seen = Observed(np.array([-100.0, -2.0, 1.0]), np.array([50.0, 3.0, 9.0]), np.zeros(3), np.zeros(1))
    low, reach = channel_ranges(seen, -6.0)
    assert np.allclose(low, [-6, -2, 0], atol=0.15)
    assert np.allclose(low + reach, [50, 3, 9], atol=0.15)
    zeros = -low / reach * 255
    assert np.allclose(zeros, zeros.round())


def test_calibration_fills_up_the_last_batch(small_spec: ModelSpec, images: list[Image]) -> None:
    batches = list(calibration_batches(images, replace(small_spec, batch=2)))
    assert [batch.shape for batch in batches] == [(2, 3, 256, 320)] * 3
    assert np.array_equal(batches[2][1], batches[0][0])


def test_int8_files_compute_in_int8(
    seeded_nano: YOLOX, small_spec: ModelSpec, images: list[Image], tmp_path: Path
) -> None:
    spec = replace(small_spec, precision="int8")
    options = ExportOptions(calibration=images, float_layers=frozenset({STEM}))
    artifact = write_artifact(seeded_nano, spec, "onnx", tmp_path, images, options)
    layers = onnx_layers(artifact.model)
    assert len(layers) == 113 - 9 - 1
    assert STEM not in layers
    assert (artifact.folder / "int8.json").exists()
    with load(artifact.folder) as detector:
        assert detector.spec.precision == "int8"

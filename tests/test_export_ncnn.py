from __future__ import annotations

import importlib
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import exporters.ncnn
from exporters.graph import rewrite
from exporters.ncnn import check_ncnn, export_ncnn
from exporters.ncnn_format import to_half, write_model
from exporters.ncnn_int8 import PERCENTILE, int8_layers, measure_thresholds, to_int8
from exporters.options import ExportOptions
from exporters.parity import StageCheck, compare
from exporters.report import TOLERANCES
from exporters.torch_runtime import TorchRuntime
from runtimes import Detector, GraphNMS, InvalidInput, MissingBackend, ModelSpec
from runtimes.ncnn import NcnnRuntime, open_net, run_image
from runtimes.ncnn_format import CONVOLUTIONS, Layer, Weights, read_model
from runtimes.ncnn_graph import output_shape
from runtimes.preprocess import Image, preprocess
from runtimes.spec import Precision
from yolox_deploy.data.open import open_dataset
from yolox_deploy.data.shapes import shapes_images
from yolox_deploy.evaluate import evaluate
from yolox_deploy.model.checkpoint import Checkpoint
from yolox_deploy.model.seeded import seeded_model
from yolox_deploy.model.variants import VARIANTS, VariantName
from yolox_deploy.model.yolox import YOLOX

STEM = "backbone.backbone.stem.0"


def export(
    model: nn.Module, spec: ModelSpec, folder: Path, images: list[Image], options: ExportOptions | None = None
) -> tuple[Path, StageCheck]:
    check = StageCheck(TorchRuntime(model, spec), spec, images)
    return export_ncnn(model, spec, folder, options or ExportOptions(), check), check


@pytest.fixture(scope="module")
def spec(small_spec: ModelSpec) -> ModelSpec:
    return replace(small_spec, decoded=False)


@pytest.fixture(scope="module")
def fp32(
    seeded_nano: YOLOX, spec: ModelSpec, images: list[Image], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, StageCheck]:
    """A seeded Nano. Tests only read it."""
    return export(seeded_nano, spec, tmp_path_factory.mktemp("fp32"), images)


@pytest.fixture(scope="module")
def int8(
    seeded_nano: YOLOX, spec: ModelSpec, images: list[Image], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, StageCheck]:
    options = ExportOptions(calibration=shapes_images(8, seed=3), float_layers=frozenset({STEM}))
    return export(seeded_nano, replace(spec, precision="int8"), tmp_path_factory.mktemp("int8"), images, options)


def test_every_step_is_recorded_and_exact(fp32: tuple[Path, StageCheck]) -> None:
    path, check = fp32
    assert path.name == "model.param"
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.bin", "model.param"]
    assert [stage.name for stage in check.stages] == ["the rewritten PyTorch graph", "pnnx"]
    assert all(stage.tensor_error < 1e-4 for stage in check.stages)


@pytest.mark.parametrize("size", [(256, 320), (416, 288)])
def test_detections_are_those_of_the_model(
    size: tuple[int, int], fp32: tuple[Path, StageCheck], seeded_nano: YOLOX, spec: ModelSpec, images: list[Image]
) -> None:
    runtime = NcnnRuntime(fp32[0], spec, threads=1, input_size=size)
    report = compare(TorchRuntime(seeded_nano, runtime.spec), runtime, images)
    assert report, str(report)
    assert report.detections > 20
    assert report.box_error < 0.05
    assert report.score_error < 1e-3


def test_the_graph_is_plain_and_readable(fp32: tuple[Path, StageCheck], seeded_nano: YOLOX) -> None:
    layers, weights = read_model(fp32[0])
    kinds = Counter(layer.kind for layer in layers)
    assert set(kinds) == {
        "Input", "Convolution", "ConvolutionDepthWise", "Swish", "Sigmoid", "Pooling", "Concat", "BinaryOp", "Interp",
        "Split", "Reshape", "Slice",
    }  # fmt: skip
    assert (kinds["Convolution"], kinds["ConvolutionDepthWise"], kinds["Pooling"], kinds["Swish"]) == (83, 30, 3, 104)
    assert (layers[1].kind, layers[1].name, layers[1].integer(1), layers[1].integer(3)) == ("Convolution", STEM, 6, 2)
    modules = {path for path, module in rewrite(seeded_nano).named_modules() if isinstance(module, nn.Conv2d)}
    assert set(weights) == modules
    names = [layer.name for layer in layers]
    assert len(set(names)) == len(names)
    assert f"{STEM}/Swish" in names
    assert output_shape(layers, (3, 64, 128)) == (85, 8 * 16 + 4 * 8 + 2 * 4)


def test_weights_are_those_of_the_modules(fp32: tuple[Path, StageCheck], seeded_nano: YOLOX) -> None:
    _, weights = read_model(fp32[0])
    network = rewrite(seeded_nano)
    for name, one in weights.items():
        module = network.get_submodule(name)
        assert isinstance(module, nn.Conv2d)
        assert np.array_equal(one.weight, module.weight.detach().numpy())
        assert one.bias is not None
        assert module.bias is not None
        assert np.array_equal(one.bias, module.bias.detach().numpy())


@pytest.mark.parametrize(
    "variant", ["yolox-tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in list(VARIANTS)[2:])]
)
def test_every_variant(variant: VariantName, spec: ModelSpec, images: list[Image], tmp_path: Path) -> None:
    model = seeded_model(variant)
    named = replace(spec, name=variant, batch=1)
    path, check = export(model, named, tmp_path, images)
    assert [stage.tensor_error < 1e-3 for stage in check.stages] == [True, True]
    assert check.expected[..., 4].max() > 0.01  # there is something to compare
    activations = {layer.parameters.get(-23310) for layer in read_model(path)[0] if layer.kind == "Convolution"}
    assert ("1,0.1" in activations) == (variant == "yolox-darknet53")  # leaky ReLU is a part of the convolution


def test_fp16_rounds_to_nearest_and_keeps_subnormals(
    seeded_nano: YOLOX, spec: ModelSpec, images: list[Image], fp32: tuple[Path, StageCheck], tmp_path: Path
) -> None:
    path, check = export(seeded_nano, replace(spec, precision="fp16"), tmp_path, images)
    _, exact = read_model(fp32[0])
    _, halves = read_model(path)
    subnormal = 0
    for name, one in halves.items():
        assert one.weight.dtype == np.float16
        wanted = torch.from_numpy(exact[name].weight.copy()).half().numpy()
        assert np.array_equal(one.weight.view(np.uint16), wanted.view(np.uint16))
        assert one.bias is not None
        assert np.array_equal(one.bias, exact[name].bias)
        subnormal += int(((one.weight != 0) & (np.abs(one.weight) < 2**-14)).sum())
    assert subnormal > 100
    assert 1e-5 < check.stages[-1].tensor_error < 0.01
    assert path.with_suffix(".bin").stat().st_size < 0.55 * fp32[0].with_suffix(".bin").stat().st_size


def convolution(weights: Weights, folder: Path, term: str = "0") -> Path:
    """A file that holds nothing but one convolution over the input, without padding."""
    outputs, _, height, width = weights.weight.shape
    sizes = {0: outputs, 1: width, 11: height, 2: 1, 12: 1, 3: 1, 13: 1, 5: int(weights.bias is not None)}
    parameters = {key: str(value) for key, value in sizes.items()} | {6: str(weights.weight.size), 8: term}
    layers = [
        Layer("Input", "in0", (), ("in0",)),
        Layer("Convolution", "only", ("in0",), ("out0",), parameters),
    ]
    return write_model(folder / "model.param", layers, {"only": weights})


def test_ncnn_reads_every_half(tmp_path: Path) -> None:
    positive = np.arange(0x7C00, dtype=np.uint16).view(np.float16)  # 0, 1023 subnormals, and the others up to 65504
    halves = np.concatenate([positive, -positive])
    path = convolution(Weights(halves.reshape(-1, 1, 1, 1), None), tmp_path)
    found = run_image(open_net(path, threads=1), np.ones((1, 1, 1), np.float32))[0]
    assert np.array_equal(found.ravel(), halves.astype(np.float32))


def test_a_weight_too_large_for_fp16_is_refused() -> None:
    fits, beyond, broken = (np.full((1, 1, 1, 1), value, np.float32) for value in (65504, 65536, np.nan))
    assert to_half({"a": Weights(fits, None)})["a"].weight == 65504
    for weight in (beyond, broken):
        with pytest.raises(InvalidInput, match=r"a has a weight of .* too large for fp16"):
            to_half({"a": Weights(weight, None)})


def test_int8_is_computed_as_its_scales_say(tmp_path: Path, random: np.random.Generator) -> None:
    weight = random.normal(size=(8, 4, 3, 3)).astype(np.float32) * np.arange(8, dtype=np.float32)[:, None, None, None]
    bias = random.normal(size=8).astype(np.float32)
    image = random.normal(size=(4, 9, 12)).astype(np.float32)
    stored = to_int8(Weights(weight, bias), threshold=2.0)
    assert stored.weight_scales is not None
    assert stored.weight_scales[0] == 1  # of a channel of zeros
    assert np.allclose(stored.weight / stored.weight_scales[:, None, None, None], weight, atol=7 * 4 / 127 / 2)
    assert np.abs(stored.weight[1:]).reshape(7, -1).max(axis=1).tolist() == [127] * 7
    found = run_image(open_net(convolution(stored, tmp_path, "2"), threads=1), image)[0]
    rounded = np.rint(image * 127 / 2).clip(-127, 127)
    products = torch.conv2d(torch.from_numpy(rounded)[None].double(), torch.from_numpy(stored.weight.astype(float)))
    expected = products[0].numpy() / stored.weight_scales[:, None, None] * 2 / 127 + bias[:, None, None]
    assert np.abs(found - expected).max() < 1e-4
    plain = torch.conv2d(torch.from_numpy(image)[None], torch.from_numpy(weight), torch.from_numpy(bias))[0].numpy()
    assert np.abs(found - plain).max() > 0.1  # the threshold cuts, so it was not computed in float


def test_int8_is_where_it_should_be(int8: tuple[Path, StageCheck], fp32: tuple[Path, StageCheck]) -> None:
    layers, weights = read_model(int8[0])
    in_float = {layer.name for layer in layers if layer.kind in CONVOLUTIONS and layer.integer(8) == 0}
    predictions = {f"head.{kind}_preds.{level}" for kind in ("cls", "reg", "obj") for level in range(3)}
    depthwise = {layer.name for layer in layers if layer.kind == "ConvolutionDepthWise"}
    assert in_float == predictions | depthwise | {STEM}
    assert {name for name, one in weights.items() if one.weight.dtype == np.float32} == in_float
    assert [stage.name for stage in int8[1].stages] == ["the rewritten PyTorch graph", "pnnx", "int8"]
    assert set(int8_layers(read_model(fp32[0])[0])) == set(weights) - predictions - depthwise


def test_thresholds_are_measured(fp32: tuple[Path, StageCheck], spec: ModelSpec, images: list[Image]) -> None:
    layers, _ = read_model(fp32[0])
    chosen = [layer for layer in layers if layer.name in (STEM, "head.stems.1.0")]
    thresholds = measure_thresholds(fp32[0], chosen, spec, images[:2])
    pixels, _ = preprocess(images[:2], spec)
    wanted = [np.percentile(image, PERCENTILE, method="inverted_cdf") for image in pixels]
    assert thresholds[STEM] == pytest.approx(np.mean(wanted))
    assert 0 < thresholds["head.stems.1.0"] < 100


def test_int8_detects_much_the_same(
    int8: tuple[Path, StageCheck], seeded_nano: YOLOX, spec: ModelSpec, images: list[Image]
) -> None:
    runtime = NcnnRuntime(int8[0], replace(spec, precision="int8"), threads=1)
    pixels, _ = preprocess(images, runtime.spec)
    difference = np.abs(runtime.infer(pixels) - TorchRuntime(seeded_nano, spec).infer(pixels))
    assert 1e-4 < difference[..., 4:].mean() < 0.01


def test_what_int8_needs(
    seeded_nano: YOLOX, spec: ModelSpec, images: list[Image], fp32: tuple[Path, StageCheck], tmp_path: Path
) -> None:
    quantized = replace(spec, precision="int8")
    unknown = ExportOptions(calibration=images, float_layers=frozenset({"stem"}))
    with pytest.raises(InvalidInput, match=r"no convolution 'stem' that could"):
        export(seeded_nano, quantized, tmp_path, images, unknown)
    everything = ExportOptions(calibration=images, float_layers=frozenset(read_model(fp32[0])[1]))
    with pytest.raises(InvalidInput, match="is left for int8"):
        export(seeded_nano, quantized, tmp_path, images, everything)


@pytest.mark.parametrize(
    "change", [{"decoded": True}, {"uint8_input": True}, {"decoded": True, "nms": GraphNMS(0.1, 0.5)}]
)
def test_what_ncnn_files_cannot_hold(change: dict[str, object], spec: ModelSpec) -> None:
    wrong = replace(spec, **change)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="leave boxes raw"):
        check_ncnn(wrong, ExportOptions())


class Toy(nn.Module):
    """(N, 3, 32, 32) to (N, 16, 7), with something of its own at the beginning."""

    def __init__(self, first: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first = first
        self.conv = nn.Conv2d(3, 7, 8, 8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv(self.first(images)).flatten(2).transpose(1, 2)
        return out


TOY_SPEC = ModelSpec("toy", (32, 32), ("a", "b"), strides=(8,), decoded=False)


def export_toy(first: Callable[[torch.Tensor], torch.Tensor], folder: Path) -> Path:
    check: Any = SimpleNamespace(inputs=np.zeros((1, 3, 32, 32), np.float32), record=lambda step, output: None)
    return export_ncnn(Toy(first), TOY_SPEC, folder, ExportOptions(), check)


def test_any_module_is_exported(tmp_path: Path) -> None:
    layers, weights = read_model(export_toy(nn.SiLU(), tmp_path))
    assert list(weights) == ["conv"]
    assert output_shape(layers, (3, 64, 32)) == (7, 32)


def test_a_first_layer_that_works_in_place(tmp_path: Path) -> None:
    """It asks who else holds its input: memory of ours cannot tell NCNN, and has to be copied."""
    path = export_toy(nn.SiLU(), tmp_path)
    detector = Detector(NcnnRuntime(path, TOY_SPEC, threads=1))
    images = [np.full((32, 32, 3), shade, np.uint8) for shade in (0, 100)]
    outputs = [detector.infer([image])[0] for image in images * 2]
    assert np.array_equal(outputs[0], outputs[2]) and np.array_equal(outputs[1], outputs[3])
    expected = NcnnRuntime(path, TOY_SPEC, threads=1).infer(np.full((1, 3, 32, 32), 100, np.float32))
    assert np.array_equal(outputs[1], expected)


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (lambda images: images.abs(), "holds a layer of the kind UnaryOp, which is not run here"),
        (lambda images: images * 2, "the parameters of mul_0 do not fit"),
        (lambda images: nn.functional.pad(images, (0, 4, 0, 4)), "the parameters of padconv_0 do not fit"),
        # pnnx drops slices like those of the official Focus without a word
        (lambda images: nn.functional.interpolate(images[..., ::2, ::2], scale_factor=2), r"of shape \(7, 64\)"),
    ],
    ids=["absolute", "product", "padding", "slices"],
)
def test_what_pnnx_leaves_over_is_refused(
    first: Callable[[torch.Tensor], torch.Tensor], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=says):
        export_toy(first, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_convolution_that_serves_twice_cannot_be_named(tmp_path: Path) -> None:
    twice = nn.Conv2d(3, 3, 1)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice = twice

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.twice(self.twice(images))
            return out

    with pytest.raises(InvalidInput, match="uses them twice"):
        export_toy(Twice(), tmp_path)


def test_pnnx_that_fails_is_one_sentence(
    seeded_nano: YOLOX, spec: ModelSpec, images: list[Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], 139, "", "")
    monkeypatch.setattr(exporters.ncnn.subprocess, "run", lambda *arguments, **options: failed)
    with pytest.raises(InvalidInput, match="pnnx could not convert the model: it ended with 139"):
        export(seeded_nano, spec, tmp_path, images)


@pytest.mark.parametrize("package", ["ncnn", "pnnx"])
def test_without_the_toolchain_it_says_what_to_type(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "exporters.ncnn")
    with pytest.raises(MissingBackend, match=f"pip install {package}"):
        importlib.import_module("exporters.ncnn")


def real_spec(spec: ModelSpec) -> ModelSpec:
    return replace(spec, input_size=(416, 416))


def calibration(shared: Path, count: int) -> list[Image]:
    return list(open_dataset(shared / "data" / "coco-train2017-128").read_images()[:count])


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_real_weights(
    precision: Precision, shared: Path, nano_checkpoint: Checkpoint, spec: ModelSpec, tmp_path: Path
) -> None:
    model, stored = nano_checkpoint.build(), replace(real_spec(spec), precision=precision)
    options = ExportOptions(calibration=calibration(shared, 8))
    images = list(open_dataset(shared / "data" / "coco-val2017-206").read_images()[:8])
    path, _ = export(model, stored, tmp_path, images, options)
    runtime = NcnnRuntime(path, stored, threads=1)
    report = compare(TorchRuntime(model, stored), runtime, images, TOLERANCES[precision])
    assert report, str(report)
    assert report.detections > 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "bf16", "lowest"),
    [("fp32", False, 0.2855), ("fp32", True, 0.2840), ("fp16", False, 0.2840), ("int8", False, 0.2820)],
)
def test_average_precision(
    precision: Precision,
    bf16: bool,
    lowest: float,
    shared: Path,
    nano_checkpoint: Checkpoint,
    spec: ModelSpec,
    tmp_path: Path,
) -> None:
    stored = replace(real_spec(spec), precision=precision)
    images = calibration(shared, 128)
    path, _ = export(nano_checkpoint.build(), stored, tmp_path, images[:2], ExportOptions(calibration=images))
    with Detector(NcnnRuntime(path, stored, threads=1, bf16=bf16), 0.001) as detector:
        figures = evaluate(detector, open_dataset(shared / "data" / "coco-val2017-206"))
    assert lowest < figures.AP < 0.2900

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import openvino
import pytest

from exporters.artifact import write_artifact
from exporters.options import ExportOptions
from runtimes import GraphNMS, InvalidInput, ModelSpec, load
from runtimes.openvino import RT_INFO
from runtimes.preprocess import Image
from yolox_deploy.model.yolox import YOLOX


@pytest.fixture(scope="module")
def single(small_spec: ModelSpec) -> ModelSpec:
    return replace(small_spec, batch=1)


def test_the_spec_travels_inside(seeded_nano: YOLOX, single: ModelSpec, images: list[Image], tmp_path: Path) -> None:
    artifact = write_artifact(seeded_nano, single, "openvino", tmp_path, images)
    assert artifact.folder.name == "yolox-nano-openvino-fp32"
    files = sorted(file.name for file in artifact.folder.iterdir())
    assert files == ["model.bin", "model.xml", "parity.json", "spec.json"]
    assert artifact.report.detections > 20
    assert artifact.report.stages[-1].name == "OpenVINO's conversion"
    model = openvino.Core().read_model(artifact.model)
    assert ModelSpec.from_json(str(model.get_rt_info(RT_INFO).value)) == single
    (artifact.folder / "spec.json").unlink()
    assert load(artifact.model).spec == single


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"batch": 4}, marks=pytest.mark.slow),
        pytest.param({"batch": None, "topk": 200}, marks=pytest.mark.slow),
        pytest.param({"batch": 2, "uint8_input": True}, marks=pytest.mark.slow),
        pytest.param({"decoded": False}, marks=pytest.mark.slow),
        pytest.param({"nms": GraphNMS(0.01, 0.65), "batch": None}, marks=pytest.mark.slow),
    ],
    ids=["batch 4", "topk any batch", "uint8", "raw", "nms any batch"],
)
def test_every_option_is_proven(
    change: dict[str, object], seeded_nano: YOLOX, single: ModelSpec, images: list[Image], tmp_path: Path
) -> None:
    spec = replace(single, **change)  # type: ignore[arg-type]
    artifact = write_artifact(seeded_nano, spec, "openvino", tmp_path, images)
    assert artifact.report.detections > 20
    with load(artifact.folder) as detector:
        assert detector.spec == spec
        assert [len(found) for found in detector(images)] == [len(detector(image)) for image in images]


@pytest.mark.slow
def test_fp16_halves_the_weights(seeded_nano: YOLOX, single: ModelSpec, images: list[Image], tmp_path: Path) -> None:
    sizes = {}
    for precision in ("fp32", "fp16"):
        spec = replace(single, precision=precision)  # type: ignore[arg-type]
        artifact = write_artifact(seeded_nano, spec, "openvino", tmp_path, images)
        sizes[precision] = artifact.model.with_suffix(".bin").stat().st_size
    assert sizes["fp16"] < 0.55 * sizes["fp32"]


def test_int8_leaves_the_named_layers_and_the_predictions_in_float(
    seeded_nano: YOLOX, single: ModelSpec, images: list[Image], tmp_path: Path
) -> None:
    from benchmarks.int8_share import openvino_layers

    spec = replace(single, precision="int8")
    stem = "backbone.backbone.stem.0"
    options = ExportOptions(calibration=images, float_layers=frozenset({stem}))
    artifact = write_artifact(seeded_nano, spec, "openvino", tmp_path, images, options)
    int8 = openvino_layers(artifact.model)
    assert stem not in int8
    assert not any("_preds" in layer for layer in int8)
    convolutions = {
        operation.get_friendly_name().split("/Conv")[0]
        for operation in openvino.Core().read_model(artifact.model).get_ops()
        if "Convolution" in operation.get_type_name()
    }
    assert len(convolutions) == 113
    assert int8 == {layer for layer in convolutions if "_preds" not in layer} - {stem}


def test_int8_needs_images(seeded_nano: YOLOX, single: ModelSpec, images: list[Image], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="calibration images"):
        write_artifact(seeded_nano, replace(single, precision="int8"), "openvino", tmp_path, images)

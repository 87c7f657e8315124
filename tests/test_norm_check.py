"""Batch norms that do not fit what comes in are noticed, and no others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from runtimes import ModelSpec
from runtimes.foreign import PREPROCESSING, Preprocessing
from runtimes.preprocess import Image
from runtimes.spec import Activation
from yolox_deploy import checkpoint as command
from yolox_deploy import evaluate, export, train
from yolox_deploy.data.images import ImageFiles, find_images
from yolox_deploy.data.scenes import ScenesConfig, scene, write_scenes
from yolox_deploy.data.shapes import shapes_images
from yolox_deploy.model.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from yolox_deploy.model.norm_check import BEYOND, SUSPICIOUS, check_norms
from yolox_deploy.model.seeded import seeded_model
from yolox_deploy.model.trained_with import TrainedWith
from yolox_deploy.model.variants import VARIANTS, VariantName

SCENES = Path(__file__).parents[1] / "yolox_deploy" / "weights" / "yolox-nano-scenes.safetensors"


@pytest.fixture(scope="module")
def bundled() -> Checkpoint:
    return read_checkpoint(SCENES)


@pytest.fixture(scope="module")
def scenes() -> list[Image]:
    return [scene(0, 1, index).image for index in range(4)]


def check(
    checkpoint: Checkpoint,
    images: Sequence[Image],
    size: tuple[int, int],
    activation: Activation = "silu",
    eps: float = 1e-3,
    preprocessing: Preprocessing = "official",
) -> Any:
    model = replace(checkpoint, trained_with=TrainedWith(activation, eps)).build()
    names = tuple(f"class {index}" for index in range(checkpoint.num_classes))
    return check_norms(model, ModelSpec("m", size, names, batch=None, **PREPROCESSING[preprocessing]), images)


def test_the_right_network_fits(bundled: Checkpoint, scenes: list[Image]) -> None:
    found = check(bundled, scenes, (320, 320))
    assert found and found.cause is None and found.tried == ()
    assert 0 < found.distance < SUSPICIOUS / 2
    assert "fit" in str(found) and "\n" not in str(found)
    assert found.images == 4


WRONG: list[Any] = [
    ({"activation": "relu"}, "--activation silu"),
    pytest.param({"activation": "lrelu"}, "--activation silu", marks=pytest.mark.slow),
    pytest.param({"preprocessing": "legacy"}, "--preprocessing official", marks=pytest.mark.slow),
    ({"preprocessing": "legacy", "activation": "lrelu"}, "--activation silu --preprocessing official"),
]


@pytest.mark.parametrize(("wrong", "option"), WRONG, ids=str)
def test_what_was_wrong_is_named_with_the_option_to_type(
    wrong: dict[str, Any], option: str, bundled: Checkpoint, scenes: list[Image]
) -> None:
    found = check(bundled, scenes, (320, 320), **wrong)
    assert not found
    assert found.cause is not None and found.cause.options == option
    assert option in str(found) and "\n" not in str(found)
    assert found.cause.distance < found.distance * 0.4
    assert found.tried[0].distance <= found.cause.distance
    content = found.to_json()
    assert json.loads(json.dumps(content))["cause"]["options"] == option
    assert content["fits"] is False and len(content["layers"]) == len(found.layers)


def test_generated_images_do_where_there_are_no_others(bundled: Checkpoint) -> None:
    assert check(bundled, shapes_images(4), (320, 320))
    found = check(bundled, shapes_images(4), (320, 320), activation="relu")
    assert found.cause is not None and found.cause.options == "--activation silu"


def test_weights_for_input_in_0_to_1_are_told_from_others(bundled: Checkpoint, scenes: list[Image]) -> None:
    """The first convolution takes the scale, so that these weights are exactly those of such a training."""
    state = dict(bundled.state_dict)
    stem = "backbone.backbone.stem.conv.conv.weight"
    state[stem] = state[stem] * 255
    found = check(replace(bundled, state_dict=state), scenes, (320, 320))
    assert found.cause is not None and found.cause.input == "unit"
    assert "1/255" in str(found)
    repaired = replace(bundled, state_dict={**state, stem: state[stem] / 255})
    assert check(repaired, scenes, (320, 320))


def test_a_network_that_fits_nothing_has_no_cause(bundled: Checkpoint, scenes: list[Image]) -> None:
    state = {
        key: torch.zeros_like(value) if "running_mean" in key else value for key, value in bundled.state_dict.items()
    }
    state |= {key: torch.full_like(value, 1e4) for key, value in state.items() if "running_var" in key}
    found = check(replace(bundled, state_dict=state), scenes, (320, 320))
    assert not found and found.cause is None and found.first > BEYOND
    assert "no cause" in str(found)


@pytest.mark.parametrize("variant", ["yolox-nano"])
def test_untrained_weights_name_no_cause(variant: VariantName) -> None:
    seeded(variant)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_untrained_variant_names_a_cause(variant: VariantName) -> None:
    seeded(variant)


def seeded(variant: VariantName) -> None:
    model = seeded_model(variant)
    spec = ModelSpec("m", (256, 256), tuple(f"class {index}" for index in range(80)), batch=None)
    found = check_norms(model, spec, shapes_images(4, seed=7))
    assert found, found.table()


@pytest.mark.parametrize("size", [(416, 416), pytest.param((256, 448), marks=pytest.mark.slow)])
@pytest.mark.parametrize("split", ["coco-val2017-206/val2017", "coco-train2017-128/train2017"])
def test_the_real_nano_fits_photographs(
    size: tuple[int, int], split: str, nano_checkpoint: Checkpoint, shared: Path
) -> None:
    found = check(nano_checkpoint, ImageFiles(find_images(shared / "data" / split)), size)
    assert found and found.distance < SUSPICIOUS / 2


@pytest.mark.slow
def test_no_false_alarms_of_the_real_nano(nano_checkpoint: Checkpoint, shared: Path) -> None:
    """Every four photographs of calibration and validation, at several sizes; other images, and one photograph."""
    data = shared / "data"
    photographs = [
        *find_images(data / "coco-val2017-206" / "val2017")[::6],
        *find_images(data / "coco-train2017-128" / "train2017")[::6],
    ]
    for size in ((416, 416), (256, 448), (640, 640)):
        for start in range(0, len(photographs), 4):
            assert check(nano_checkpoint, ImageFiles(photographs[start : start + 4]), size)
    for images in (ImageFiles(find_images(data / "bccd-voc" / "JPEGImages")), shapes_images(8), shapes_images(8, 3)):
        assert check(nano_checkpoint, images, (416, 416))
    for path in photographs[:12]:
        assert check(nano_checkpoint, ImageFiles([path]), (416, 416))


@pytest.mark.slow
@pytest.mark.parametrize(("wrong", "option"), WRONG, ids=str)
def test_the_real_nano_in_a_wrong_network(
    wrong: dict[str, Any], option: str, nano_checkpoint: Checkpoint, shared: Path
) -> None:
    images = ImageFiles(find_images(shared / "data" / "coco-val2017-206" / "val2017"))
    found = check(nano_checkpoint, images, (416, 416), **wrong)
    assert found.cause is not None and found.cause.options == option


# The commands


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "data"
    write_scenes(ScenesConfig(folder, train=8, val=4))
    return folder


@pytest.fixture(scope="module")
def official(bundled: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled weights as a file that does not say what they were trained with."""
    path = tmp_path_factory.mktemp("official") / "m.pth"
    save_checkpoint(replace(bundled, trained_with=TrainedWith()), path, "official")
    return path


def test_checkpoint_reports_in_detail(
    official: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    options = ["--images", str(data / "val"), "--json", str(file)]
    assert command.main([str(official), *options]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "Leaky" in printed.out or "leaky ReLU" in printed.out
    assert "backbone" in printed.out
    found = json.loads(file.read_text())
    assert found["norm_check"]["fits"] and len(found["norm_check"]["tried"]) >= 5
    assert set(found["assumed"]) == {"activation", "batch_norm_eps", "preprocessing"}
    assert command.main([str(official), *options, "--activation", "relu"]) == 0
    assert capsys.readouterr().err.count("--activation silu") == 1
    assert not json.loads(file.read_text())["norm_check"]["fits"]


def test_evaluate_says_what_it_assumes_and_warns(
    official: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    arguments = [str(official), "--data", str(data), "--split", "val", "--json", str(file)]
    assert evaluate.main(arguments) == 0
    error = capsys.readouterr().err
    assert error.count(f"assumed, since {official} does not say: SiLU, batch-norm eps 0.001, BGR 0..255") == 1
    assert "warning" not in error and json.loads(file.read_text())["warnings"] == []
    assert evaluate.main([*arguments, "--activation", "relu"]) == 0
    error = capsys.readouterr().err
    assert error.count("warning: ") == 1 and "--activation silu" in error
    (warning,) = json.loads(file.read_text())["warnings"]
    assert "--activation silu" in warning


def test_export_warns_before_anything_is_written_and_keeps_the_facts(
    official: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--weights", str(official), "--output", str(tmp_path), "--verify-images", str(data / "val")]
    file = tmp_path / "found.json"
    assert export.main([*arguments, "--preprocessing", "legacy", "--dry-run", "--json", str(file)]) == 0
    error = capsys.readouterr().err
    assert error.count("--preprocessing official") == 1
    assert error.count(f"assumed, since {official} does not say: SiLU, batch-norm eps 0.001") == 1
    assert "--preprocessing official" in json.loads(file.read_text())["warnings"][0]
    assert export.main([*arguments, "--batch-norm-eps", "1e-4"]) == 0
    spec = ModelSpec.read(tmp_path / "yolox-nano-onnx-fp32" / "spec.json")
    assert (spec.activation, spec.batch_norm_eps, spec.normalization) == ("silu", 1e-4, None)
    capsys.readouterr()
    artifact = str(tmp_path / "yolox-nano-onnx-fp32")
    assert evaluate.main([artifact, "--data", str(data), "--split", "val", "--activation", "relu"]) == 1
    assert "--activation is for checkpoints" in capsys.readouterr().err
    assert export.main(["--seeded", "--activation", "relu", "--output", str(tmp_path)]) == 1


TINY = [
    "--model",
    "yolox-nano",
    "--input-size",
    "64",
    "64",
    "--multi-scale",
    "64",
    "64",
    "--batch",
    "4",
    "--epochs",
    "1",
]
TINY += ["--warmup-epochs", "0", "--no-augmentation-epochs", "0", "--logger", "--workers", "0"]


def test_training_starts_from_the_facts_and_writes_them(
    official: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(data), "--output", str(tmp_path / "run"), *TINY]
    network = ["--activation", "relu", "--batch-norm-eps", "1e-5"]
    assert train.main([*options, "--weights", str(official), *network]) == 0
    error = capsys.readouterr().err
    assert "--activation silu" in error and error.count("warning: ") == 1
    found = read_checkpoint(tmp_path / "run" / "last.pth")
    assert found.trained_with == TrainedWith("relu", 1e-5, "official")
    assert train.main([*options, "--resume", "--activation", "silu"]) == 1
    assert "says relu, not the silu" in capsys.readouterr().err
    assert train.main([*options, "--resume", "--dry-run"]) == 0
    again = ["--data", str(data), "--output", str(tmp_path / "next"), *TINY, "--dry-run"]
    assert train.main([*again, "--weights", str(tmp_path / "run" / "last.pth")]) == 0
    assert "assumed" not in capsys.readouterr().err


def test_training_does_not_take_classes_by_their_order(
    bundled: Checkpoint, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unnamed = tmp_path / "unnamed.pth"
    torch.save({"model": bundled.state_dict}, unnamed)
    options = ["--data", str(data), "--output", str(tmp_path / "run"), *TINY, "--weights", str(unnamed), "--dry-run"]
    assert train.main(options) == 1
    assert "--class-names FILE" in capsys.readouterr().err
    assert train.main([*options, "--new-classes"]) == 0
    names = tmp_path / "names.txt"
    names.write_text("\n".join(bundled.class_names))
    assert train.main([*options, "--class-names", str(names)]) == 0
    names.write_text("\n".join(bundled.class_names[::-1]))
    capsys.readouterr()
    assert train.main([*options, "--class-names", str(names)]) == 1
    assert "knows 10 classes" in capsys.readouterr().err


def test_training_refuses_weights_of_another_input(
    bundled: Checkpoint, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    legacy = tmp_path / "legacy.pth"
    save_checkpoint(replace(bundled, trained_with=TrainedWith(preprocessing="legacy")), legacy, "official")
    options = ["--data", str(data), "--output", str(tmp_path / "run"), *TINY, "--weights", str(legacy), "--dry-run"]
    assert train.main(options) == 1
    assert "ImageNet" in capsys.readouterr().err


@pytest.mark.slow
def test_networks_that_were_really_trained(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The case relu.pth: fine-tuned with ReLU, opened as SiLU and as ReLU; and SiLU as SiLU."""
    folder = tmp_path / "scenes"
    write_scenes(ScenesConfig(folder, train=160, val=4))
    images = [scene(0, 1, index).image for index in range(4)]
    for activation in ("relu", "silu"):
        output = tmp_path / activation
        options = ["--data", str(folder), "--output", str(output), *TINY, "--weights", str(SCENES)]
        sizes = ["--input-size", "160", "160", "--multi-scale", "160", "160", "--epochs", "4", "--batch", "8"]
        forced = tmp_path / f"{activation}.pth"
        save_checkpoint(replace(read_checkpoint(SCENES), trained_with=TrainedWith(activation)), forced, "official")
        options[options.index(str(SCENES))] = str(forced)
        assert train.main([*options, *sizes]) == 0
        trained = read_checkpoint(output / "last.pth")
        assert check(trained, images, (160, 160), activation=activation)  # type: ignore[arg-type]
        wrong = check(trained, images, (160, 160), activation="silu" if activation == "relu" else "relu")
        assert wrong.cause is not None and wrong.cause.options == f"--activation {activation}"

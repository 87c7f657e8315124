"""export with int8, an AP budget and several targets: what is measured, kept, refused and written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.int8_share import int8_share
from exporters.artifact import Artifact
from exporters.report import ParityError, ParityReport, Stage, Tolerance
from exporters.sensitivity import Layer, SensitivityMap, digest, network_inputs
from exporters.torch_runtime import TorchRuntime
from runtimes import Detector, InvalidInput, ModelSpec, UserError
from runtimes.load import model_file
from runtimes.preprocess import Image
from yolox_deploy import export, int8
from yolox_deploy.accuracy import AccuracyCheck, AccuracyLost, AccuracyReport
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.data.open import open_dataset
from yolox_deploy.evaluate import evaluate
from yolox_deploy.int8 import CALIBRATION_IMAGES, calibration_images, sensitivity_map, write_int8
from yolox_deploy.model.checkpoint import Checkpoint
from yolox_deploy.model.open import describe
from yolox_deploy.model.yolox import YOLOX

REPORT = ParityReport(
    tolerance=Tolerance(), images=1, detections=9, confident=18, missed=0, extra=0, tied=0, box_error=0, score_error=0,
    mean_box_error=0, mean_score_error=0, tensor_error=0, mean_error=0,)  # fmt: skip

MAP = SensitivityMap("abc", "def", 2, {f"{n:03}": Layer(0.1 / (n + 1), 10) for n in range(200)})


def test_more_layers_go_to_float_until_the_accuracy_holds(capsys: pytest.CaptureFixture[str]) -> None:
    tried: list[int] = []

    def write(floats: frozenset[str]) -> Artifact:
        tried.append(len(floats))
        if len(floats) < 15:
            raise AccuracyLost("too low.")
        return Artifact(Path("folder"), Path("model"), None)  # type: ignore[arg-type]

    assert write_int8(write, MAP).folder == Path("folder")
    assert tried == [4, 8, 16]  # 2, 4 and 8 % of the work
    assert "too low. Trying with more layers in float." in capsys.readouterr().out


def test_it_says_when_it_cannot_hold() -> None:
    tried: list[frozenset[str]] = []

    def write(floats: frozenset[str]) -> Artifact:
        tried.append(floats)
        raise AccuracyLost("too low.")

    with pytest.raises(AccuracyLost):
        write_int8(write, MAP)
    assert MAP.share(tried[-1]) <= 0.5
    assert all(before < after for before, after in pairwise(tried))


def test_a_fault_before_int8_ends_it() -> None:
    tried: list[int] = []

    def write(floats: frozenset[str]) -> Artifact:
        tried.append(len(floats))
        raise ParityError("model", replace(REPORT, stages=(Stage("tracing", 1.0, 0.01),)))

    with pytest.raises(ParityError):
        write_int8(write, MAP)
    assert tried == [4]


def test_other_errors_end_it() -> None:
    def write(floats: frozenset[str]) -> Artifact:
        raise InvalidInput("no space")

    with pytest.raises(InvalidInput, match="no space"):
        write_int8(write, MAP)


def test_generated_images_come_with_a_loud_warning() -> None:
    found = calibration_images(None)
    assert len(found) == len(found.images) == 32
    assert found.warning.startswith("WARNING: int8 is calibrated on generated images")
    assert "\n" not in found.warning


@pytest.mark.parametrize(("count", "used"), [(3, 3), (128, 128), (129, 128), (300, 128)])
def test_calibration_images_are_chosen_evenly(count: int, used: int, tmp_path: Path) -> None:
    encoded = cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1].tobytes()
    for index in range(count):
        (tmp_path / f"{index:04}.png").write_bytes(encoded)
    chosen = calibration_images(tmp_path)
    assert len(chosen) == used <= CALIBRATION_IMAGES
    assert chosen.images.paths[0].name == "0000.png"  # type: ignore[attr-defined]
    assert bool(chosen.warning) == (count < 48)


def test_the_map_is_kept_for_the_same_weights_and_images(
    seeded_nano: YOLOX, small_spec: ModelSpec, images: list[Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def measure(model: YOLOX, spec: ModelSpec, images: list[Image], progress: object) -> SensitivityMap:
        measured.append(spec.source_sha256)
        return replace(MAP, source_sha256=spec.source_sha256, inputs_sha256=digest(network_inputs(images, spec)))

    monkeypatch.setattr(int8, "measure_sensitivity", measure)
    spec, file = replace(small_spec, source_sha256="abc"), tmp_path / "map.json"
    first = sensitivity_map(seeded_nano, spec, images, file)
    assert sensitivity_map(seeded_nano, spec, images, file) == first
    assert len(measured) == 1
    for other, seen in (
        (replace(spec, source_sha256="other"), images),
        (spec, images[::-1]),
        (replace(spec, input_size=(64, 64)), images),
        (replace(spec, channel_order="RGB"), images),
    ):
        before = len(measured)
        sensitivity_map(seeded_nano, other, seen, file)  # type: ignore[arg-type]
        assert len(measured) == before + 1
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="not a sensitivity map"):
        sensitivity_map(seeded_nano, spec, images, file)
    file.write_text("{")
    with pytest.raises(InvalidInput, match="not a sensitivity map"):
        sensitivity_map(seeded_nano, spec, images, file)


@pytest.fixture
def dataset(tmp_path: Path, images: list[Image]) -> Dataset:
    """Two images whose labels are what the seeded model itself finds best in them."""
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir(parents=True)
    (folder / "set").mkdir()
    entries, labels = [], []
    for index, image in enumerate(images[:2]):
        cv2.imwrite(str(folder / "set" / f"{index}.png"), image)
        height, width = image.shape[:2]
        entries.append({"id": index, "file_name": f"{index}.png", "height": height, "width": width})
        labels.append({"id": index + 1, "image_id": index, "category_id": 1, "bbox": [5, 5, 50, 40], "area": 2000})
    content = {
        "images": entries,
        "annotations": [{**label, "iscrowd": 0} for label in labels],
        "categories": [{"id": 1, "name": "person"}],
    }
    (folder / "annotations" / "instances_set.json").write_text(json.dumps(content))
    return open_dataset(folder)


class Fixed:
    """A runtime that finds one person at (5, 5, 50, 40) of the network input, with a shift."""

    def __init__(self, shift: float) -> None:
        self.spec = ModelSpec("fixed", (64, 64), ("person",), batch=None)
        self.shift = shift

    def infer(self, images: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        output = np.zeros((len(images), self.spec.num_anchors, 6), np.float32)
        output[:, 0] = [self.shift, self.shift, 20, 20, 1, 1]
        return output

    def close(self) -> None: ...


def test_an_artifact_that_loses_too_much_is_refused(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {"reference": 0.40, "close": 0.398, "far": 0.39}
    monkeypatch.setattr(AccuracyCheck, "_ap", lambda self, runtime: figures[runtime.name])
    reference, close, far = Fixed(0), Fixed(0), Fixed(0)
    reference.name, close.name, far.name = "reference", "close", "far"  # type: ignore[attr-defined]
    check = AccuracyCheck(reference, dataset, max_drop=0.3)
    check(Detector(close), tmp_path)
    kept = json.loads((tmp_path / "accuracy.json").read_text())
    assert kept == {
        "AP": 0.398,
        "reference_AP": 0.4,
        "AP_drop": pytest.approx(0.002),
        "images": 2,
        "note": "",
        "warnings": [],
    }
    with pytest.raises(AccuracyLost, match=r"AP 39\.00, PyTorch 40\.00, drop 1\.00 \(2 images\); 0\.3 are allowed"):
        check(Detector(far), tmp_path)
    AccuracyCheck(reference, dataset, max_drop=None)(Detector(far), tmp_path, "not run here")
    kept = json.loads((tmp_path / "accuracy.json").read_text())
    assert kept["AP_drop"] == pytest.approx(0.01)
    assert kept["note"] == "not run here"
    exactly = AccuracyCheck(reference, dataset, max_drop=1.0, warnings=["AP counts 1 of the 2 classes."])
    exactly(Detector(far), tmp_path)  # 1 point is not more than 1, however it is rounded
    assert AccuracyReport.read(tmp_path / "accuracy.json") == AccuracyReport(
        0.39, 0.4, 0.4 - 0.39, 2, warnings=("AP counts 1 of the 2 classes.",)
    )


def test_what_earlier_versions_wrote_is_not_misread(tmp_path: Path) -> None:
    """In points, under other keys."""
    file = tmp_path / "accuracy.json"
    file.write_text('{"ap": 28.5, "reference_ap": 28.6, "drop": 0.1, "images": 206, "note": "old"}')
    found = AccuracyReport.read(file)
    assert (found.AP, found.reference_AP, found.AP_drop) == pytest.approx((0.285, 0.286, 0.001))
    assert (found.images, found.note, found.warnings) == (206, "old", ())
    for text in ("{}", '{"ap": 28.5}', '{"AP": "x", "reference_AP": 1, "AP_drop": 0, "images": 3}', "[]"):
        file.write_text(text)
        with pytest.raises(InvalidInput, match=r"accuracy\.json"):
            AccuracyReport.read(file)


def test_a_reference_that_finds_nothing_proves_nothing(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="the checkpoint itself has no AP"):
        AccuracyCheck(Fixed(1e4), dataset, max_drop=0.3)(Detector(Fixed(0)), tmp_path)
    assert not (tmp_path / "accuracy.json").exists()


def test_ap_is_that_of_evaluate(shared: Path, nano_checkpoint: Checkpoint) -> None:
    dataset = open_dataset(shared / "data" / "coco-val2017-206")
    few = replace(dataset, images=dataset.images[:12])
    model = nano_checkpoint.build()
    reference = TorchRuntime(model, describe(model, nano_checkpoint).spec)
    expected = evaluate(Detector(reference, 0.001), few).AP
    assert expected > 0.01
    assert AccuracyCheck(reference, few, None).reference_ap == expected


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "openvino", "ncnn"])
def test_int8_keeps_its_ap(target: str, shared: Path, nano_checkpoint: Checkpoint, tmp_path: Path) -> None:
    data = shared / "data"
    arguments = [
        "--weights",
        str(nano_checkpoint.path),
        "--target",
        target,
        "--precision",
        "int8",
        "--max-ap-drop",
        "0.3",
    ]
    arguments += ["--calibration", str(data / "coco-train2017-128" / "train2017"), "--output", str(tmp_path)]
    assert export.main([*arguments, "--data", str(data / "coco-val2017-206")]) == 0
    folder = tmp_path / f"yolox-nano-{target}-int8"
    assert json.loads((folder / "accuracy.json").read_text())["AP_drop"] <= 0.003
    text = (tmp_path / "yolox-nano.sensitivity.json").read_text()
    assert int8_share(model_file(folder), SensitivityMap.from_json(text, "map")) >= 0.8


ARGUMENTS = ["--seeded", "--input-size", "64", "96", "--target", "onnx", "trt-rtx"]


@pytest.mark.slow
def test_one_call_writes_every_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*ARGUMENTS, "--precision", "int8", "--output", str(tmp_path)]
    assert export.main(arguments) == 0
    printed = capsys.readouterr()
    assert "generated images" in printed.err
    assert printed.out.count("error in int8") == 1  # one map serves all
    names = {folder.name for folder in tmp_path.iterdir() if folder.is_dir()}
    targets = ("onnx", "trt-rtx")
    assert names == {f"yolox-nano-seeded-{target}-int8" for target in targets}
    engine = tmp_path / "yolox-nano-seeded-trt-rtx-int8"
    assert {"model.rtx", "engine.json", "model.onnx", "spec.json", "parity.json", "int8.json"} == {
        f.name for f in engine.iterdir()
    }
    assert "compiled, but not run" in json.loads((engine / "parity.json").read_text())["note"]


@pytest.mark.slow
def test_one_that_fails_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from exporters import openvino as exporter

    def fail(*arguments: object) -> None:
        raise UserError("the converter is out of order.")

    monkeypatch.setattr(exporter, "run", fail)
    arguments = ["--seeded", "--input-size", "64", "64", "--target", "openvino", "onnx", "--output", str(tmp_path)]
    assert export.main(arguments) == 1
    assert capsys.readouterr().err.count("error: ") == 2
    assert [folder.name for folder in tmp_path.iterdir()] == ["yolox-nano-seeded-onnx-fp32"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--max-ap-drop", "0.3"], "--data DIR"),
        (["--max-ap-drop", "nan", "--data", "."], "0 to 100"),
        (["--max-ap-drop", "-1", "--data", "."], "0 to 100"),
        (["--calibration", "."], "for --precision int8"),
        (["--workspace-mib", "64"], "for --target trt"),
        (["--precision"], "--precision names nothing"),
        (["--precision", "int8", "--calibration", "nowhere"], "names no image"),
        (["--topk", "0"], "--topk must be at least 1"),
        (["--topk", "9999999"], "more than the"),
        (["--topk", "10", "--nms"], "exclude each other"),
        (["--topk", "10", "--no-decode"], "decoded boxes"),
        (["--target", "ncnn", "--nms"], "leave ncnn out"),
        (["--target", "trt-rtx", "--nms"], "--topk"),
        (["--target", "trt"], "--no-build"),
        (["--target", "trt-rtx", "--batch", "dynamic", "--batch-profile", "4", "2", "8"], "must rise"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import exporters.graph
    import exporters.ncnn  # imported now, it would keep what is put in the place of `rewrite`
    import exporters.onnx

    def work(*arguments: object) -> None:
        raise AssertionError("work has begun")

    monkeypatch.setattr(exporters.graph, "rewrite", work)
    output = tmp_path / "out"
    assert export.main(["--seeded", *arguments, "--output", str(output)]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.count("error: ") == 1
    assert not output.exists()


@pytest.mark.parametrize(
    ("target", "missing", "says"),
    [
        ("openvino", "openvino", "pip install openvino"),
        pytest.param("ncnn", "pnnx", "pip install pnnx", marks=pytest.mark.slow),
        pytest.param("trt-rtx", "tensorrt_rtx", "pip install tensorrt-rtx-cu13", marks=pytest.mark.slow),
        ("trt", "tensorrt", "pip install tensorrt-cu13"),
        ("onnx", "onnxsim", "pip install onnxsim"),
    ],
)
def test_a_missing_backend_is_one_sentence(
    target: str, missing: str, says: str, run_without: Callable[..., object], tmp_path: Path
) -> None:
    done = run_without([missing], "export", "--seeded", "--target", target, "--output", str(tmp_path / "out"))
    assert done.returncode == 1  # type: ignore[attr-defined]
    assert says in done.stderr  # type: ignore[attr-defined]
    assert "Traceback" not in done.stderr  # type: ignore[attr-defined]
    assert not (tmp_path / "out").exists()

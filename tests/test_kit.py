from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from benchmarks.kit import __main__ as kit_command
from benchmarks.kit import score as kit_score
from benchmarks.kit.rows import compare_rows
from benchmarks.kit.score import StepScore, score_results
from exporters.artifact import Artifact
from exporters.kit.cases import image_cases, made_output, truncated_side
from exporters.kit.manifest import Kit, tolerances
from exporters.kit.readme import kit_readme
from exporters.kit.steps import MAKE, STEPS, Array, Settings, make_candidates, make_clipped, write_step
from exporters.matching import iou
from exporters.report import Tolerance
from exporters.torch_runtime import TorchRuntime
from runtimes import Detector, InvalidInput, ModelSpec
from runtimes.preprocess import letterbox
from yolox_deploy.data.images import read_image
from yolox_deploy.data.shapes import shapes_images
from yolox_deploy.model.yolox import YOLOX

THRESHOLD = 0.006  # the seeded model is not sure of anything
CASES = ["truncated", "tall", "wide", "small", "made"]

Fault = Callable[[Any, Settings, float], Any]


@pytest.fixture(scope="module")
def kit(seeded_nano: YOLOX, small_spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Of the model itself, by the command. Tests only read it."""
    folder = tmp_path_factory.mktemp("kit")
    torch.save({"model": seeded_nano.state_dict()}, folder / "seeded.pth")
    size = [str(side) for side in small_spec.input_size]
    arguments = [str(folder / "seeded.pth"), "--output", str(folder / "kit"), "--input-size", *size]
    assert kit_command.main([*arguments, "--score-threshold", str(THRESHOLD)]) == 0
    return Kit.read(folder / "kit")


@pytest.fixture(scope="module")
def runtime(seeded_nano: YOLOX, small_spec: ModelSpec) -> TorchRuntime:
    return TorchRuntime(seeded_nano, small_spec)


def boxed(image: Array, settings: Settings, ratio: float) -> Array:
    return letterbox(image, settings.spec.input_size)[0]


def size_of(kit: Kit, case: str) -> tuple[int, int]:
    height, width = kit.cases[case]["files"]["image"]["shape"][:2]
    return height, width


def run(kit: Kit, runtime: TorchRuntime, folder: Path, **faults: Fault) -> dict[str, StepScore]:
    """Score what a runtime with faults writes, from image to detections."""
    settings = kit.settings
    for case in kit.cases:
        array, ratio = None, float(kit.cases[case]["ratio"])
        make: dict[str, Fault] = {
            "letterbox": boxed,
            "output": lambda array, settings, ratio: runtime.infer(array[None])[0],
            **MAKE,
            "clipped": lambda array, settings, ratio, case=case: make_clipped(array, size_of(kit, case)),
        }
        for step in kit.steps(case):
            if step == "letterbox":
                array = read_image(kit.folder / case / "image.png")
            if array is None:
                array = kit.load(case, step)  # the network's output, as given
            elif step == "output" and step in faults:
                array = faults[step](make[step](array, settings, ratio), settings, ratio)
            else:
                array = faults.get(step, make[step])(array, settings, ratio)
            write_step(folder / case / f"{step}.bin", step, array, settings.spec)
    return score_results(kit, folder)


def failed(steps: dict[str, StepScore]) -> list[str]:
    return [step for step, score in steps.items() if score.result == "FAIL"]


# --- what is written


def test_the_manifest_is_all_that_it_takes_to_read_it(kit: Kit) -> None:
    content = json.loads((kit.folder / "kit.json").read_text())
    assert content["byte_order"] == "little"
    assert content["thresholds"] == {"score": THRESHOLD, "nms": 0.65}
    assert content["spec"]["class_names"][0] == "person"
    assert [case["name"] for case in content["cases"]] == CASES
    for case in content["cases"]:
        assert [*case["files"]] == (["output", *STEPS[3:-1]] if case["name"] == "made" else ["image", *STEPS])
        for entry in case["files"].values():
            path = kit.folder / entry["file"]
            array = np.fromfile(path, {"uint8": "u1", "float32": "<f4"}[entry["dtype"]])
            assert array.size == np.prod(entry["shape"])
            assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    assert set(content["tolerances"]) == {"letterbox", "input", "exact", "fp32", "fp16", "int8"}


def test_it_ends_in_what_the_detector_detects(kit: Kit, runtime: TorchRuntime) -> None:
    detectors = {clip: Detector(runtime, THRESHOLD, 0.65, clip=clip) for clip in (False, True)}
    total = 0
    for case in CASES[:4]:
        image = read_image(kit.folder / case / "image.png")
        raw = np.fromfile(kit.folder / case / "image.bin", np.uint8)
        assert np.array_equal(raw, image.ravel())
        for clip, step in ((False, "detections"), (True, "clipped")):
            found, rows = detectors[clip](image), kit.load(case, step)
            assert np.array_equal(rows[:, :4], found.xyxy)
            assert np.array_equal(rows[:, 4], found.confidence)
            assert np.array_equal(rows[:, 5], found.class_id)
            total += len(rows)
    assert total > 20


@pytest.mark.parametrize("size", [(256, 320), (416, 416), (640, 640), (1280, 736)])
def test_sizes_are_awkward(size: tuple[int, int]) -> None:
    width = size[1]
    images = {case.name: case.image for case in image_cases(shapes_images(4), size)}
    assert all(side % 2 or name == "truncated" for name, image in images.items() for side in image.shape[:2])
    canvas, ratio = letterbox(images["truncated"], size)
    assert (canvas[:, -1] == 114).all()
    assert not (canvas[0, -2] == 114).all()  # one column short, no more
    assert int(images["truncated"].shape[1] * ratio) == width - 1
    assert letterbox(images["small"], size)[1] > 1
    assert (letterbox(images["tall"], size)[0][:, -1] == 114).all()
    assert (letterbox(images["wide"], size)[0][-1] == 114).all()


def test_a_length_that_truncates() -> None:
    assert truncated_side(640) == 1077
    assert int(1077 * (640 / 1077)) == 639


def test_the_made_up_output_has_overlaps_on_both_sides_of_the_threshold(kit: Kit) -> None:
    rows = kit.load("made", "candidates")
    overlaps = iou(rows[:, :4], rows[:, :4])[np.triu_indices(len(rows), 1)]
    assert ((overlaps > 0.6) & (overlaps < 0.65)).sum() > 5
    assert ((overlaps > 0.65) & (overlaps < 0.7)).sum() > 5
    spec = kit.settings.spec
    decoded = replace(kit.settings, spec=replace(spec, decoded=True))
    same = make_candidates(made_output(decoded.spec), decoded, 1)
    assert np.array_equal(same, rows)


def test_the_readme_says_what_this_kit_is(kit: Kit) -> None:
    text = (kit.folder / "README.md").read_text()
    assert "H x W = 256 x 320" in text
    assert "(output[0] + x) * s" in text
    other = replace(kit.settings.spec, decoded=True, channel_order="RGB", normalization="imagenet", uint8_input=False)
    assert all(len(line) <= 120 for line in text.splitlines())
    text = kit_readme(Settings(other, 0.3, 0.5))
    assert "**output**" not in text
    assert "its graph decodes" in text
    assert "/ 255 - mean" in text
    assert "NMS threshold 0.5" in text
    assert all(len(line) <= 120 for line in text.splitlines())


def test_what_cannot_be_written(kit: Kit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(kit.folder.parent / "seeded.pth")
    assert kit_command.main([model, "--output", str(kit.folder)]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert kit_command.main([model, "--output", str(tmp_path / "kit"), "--score-threshold", "0"]) == 1
    assert "--score-threshold must be over 0" in capsys.readouterr().err
    assert kit_command.main([str(tmp_path / "no.onnx"), "--output", str(tmp_path / "kit")]) == 1
    assert not (tmp_path / "kit").exists()


# --- our own runtimes


@pytest.fixture(scope="module", params=["onnx", "ncnn"])
def results(
    request: pytest.FixtureRequest,
    exported: Callable[[str, ModelSpec], Artifact],
    small_spec: ModelSpec,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """What the runtime writes: a kit of its own artifact."""
    artifact = exported(request.param, replace(small_spec, decoded=request.param != "ncnn"))
    output = tmp_path_factory.mktemp("results") / "results"
    arguments = [str(artifact.folder), "--output", str(output), "--score-threshold", str(THRESHOLD)]
    assert kit_command.main(arguments) == 0
    return output


def test_our_runtimes_do_every_step_right(kit: Kit, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    decoded = Kit.read(results).settings.spec.decoded  # then its output is the kit's decoded
    assert kit_score.main([str(kit.folder), str(results)]) == 0
    *lines, last = capsys.readouterr().out.strip().splitlines()
    content = json.loads(last)
    assert (content["passed"], content["failed"]) == (True, [])
    assert [step for step, score in content["steps"].items() if score["result"] == "absent"] == ["output"] * decoded
    assert [line.split()[0] for line in lines] == [*STEPS]
    for step, score in content["steps"].items():
        if score["result"] == "PASS":
            assert score["cases"] == score["of"] == (4 if step in ("letterbox", "input", "clipped") else 5)
            assert score["largest"].get("missed", 0) == score["largest"].get("extra", 0) == 0
    assert content["steps"]["letterbox"]["largest"] == {"value": 0}
    assert content["steps"]["decoded"]["largest"]["value"] < 1e-3


def test_detections_alone_are_enough(kit: Kit, results: Path, tmp_path: Path) -> None:
    for case in CASES:
        (tmp_path / case).mkdir()
        shutil.copy(results / case / "detections.bin", tmp_path / case)
    steps = score_results(kit, tmp_path)
    assert {step: score.result for step, score in steps.items()} == {
        **dict.fromkeys(STEPS, "absent"), "detections": "PASS"
    }  # fmt: skip
    assert 0 < steps["detections"].largest["box"] < 0.05  # it did not compute them by our PyTorch


# --- faults, each at its step


def rounded(image: Array, settings: Settings, ratio: float) -> Array:
    """The letterbox of those who round the scaled sides."""
    height, width = (round(side * ratio) for side in image.shape[:2])
    canvas = np.full((*settings.spec.input_size, 3), 114, np.uint8)
    canvas[:height, :width] = cv2.resize(image, (width, height))
    return canvas


def half_a_cell(output: Array, settings: Settings, ratio: float) -> Array:
    shifted = output.copy()
    shifted[:, :2] += 0.5
    return MAKE["decoded"](shifted, settings, ratio)


def without_objectness(decoded: Array, settings: Settings, ratio: float) -> Array:
    sure = decoded.copy()
    sure[:, 4] = decoded[:, 4] > settings.score_threshold
    return MAKE["candidates"](sure, settings, ratio)


def nms_by(rows: Array, settings: Settings, more: float, same_class: bool) -> Array:
    """The definition, with a number added to the sides of boxes, and with or without regard to classes."""
    kept: list[int] = []
    for index, row in enumerate(rows):
        better = rows[kept]
        sides = np.minimum(better[:, 2:4], row[2:4]) - np.maximum(better[:, :2], row[:2]) + more
        shared = np.clip(sides, 0, None).prod(axis=1)
        areas = [(boxes[..., 2:4] - boxes[..., :2] + more).prod(axis=-1) for boxes in (better, row)]
        over = shared / (areas[0] + areas[1] - shared) > settings.nms_threshold
        if not (over & (better[:, 5] == row[5]) if same_class else over).any():
            kept.append(index)
    return rows[kept]


FAULTS: dict[str, tuple[str, Fault]] = {
    "red first": ("input", lambda a, settings, ratio: MAKE["input"](a, settings, ratio)[::-1].copy()),
    "0 to 1": ("input", lambda a, settings, ratio: MAKE["input"](a, settings, ratio) / 255),
    "one percent": ("output", lambda a, settings, ratio: a * np.float32(1.01)),
    "half a cell": ("decoded", half_a_cell),
    "no objectness": ("candidates", without_objectness),
    "the last level forgotten": ("candidates", lambda a, s, r: MAKE["candidates"](a[:-80], s, r)),
    "classes ignored": ("nms", lambda a, settings, ratio: nms_by(a, settings, 0, False)),
    "areas with + 1": ("nms", lambda a, settings, ratio: nms_by(a, settings, 1, True)),
    "no nms": ("nms", lambda a, settings, ratio: a),
    "not scaled back": ("detections", lambda a, settings, ratio: a),
    "whole pixels": ("detections", lambda a, s, r: np.round(MAKE["detections"](a, s, r) * [1, 1, 1, 1, 0, 0]) +
                     MAKE["detections"](a, s, r) * [0, 0, 0, 0, 1, 1]),
    "not clipped": ("clipped", lambda a, settings, ratio: a),
}  # fmt: skip


def test_without_a_fault_nothing_fails(kit: Kit, runtime: TorchRuntime, tmp_path: Path) -> None:
    steps = run(kit, runtime, tmp_path, nms=lambda a, settings, ratio: nms_by(a, settings, 0, True))
    assert {score.result for score in steps.values()} == {"PASS"}


@pytest.mark.parametrize("name", [*FAULTS])
def test_a_fault_fails_at_its_step(name: str, kit: Kit, runtime: TorchRuntime, tmp_path: Path) -> None:
    step, fault = FAULTS[name]
    found = failed(run(kit, runtime, tmp_path, **{step: fault}))
    assert found[0] == step
    # What is made of it is what it should be, but for the network, and from end to end.
    assert set(found[1:]) <= ({"output", "detections"} if step == "input" else {"detections"})


def test_what_a_loose_tolerance_lets_pass_shows_from_end_to_end(kit: Kit, tmp_path: Path) -> None:
    """Half a cell is little in the mean of an output; across an int8 network, no step alone shows it."""
    settings = kit.settings
    for case in CASES[:4]:
        array, ratio = half_a_cell(kit.load(case, "output"), settings, 1), float(kit.cases[case]["ratio"])
        for step in STEPS[3:-1]:
            array = array if step == "decoded" else MAKE[step](array, settings, ratio)
            write_step(tmp_path / case / f"{step}.bin", step, array, settings.spec)
    sure = replace(kit, limits={**kit.limits, "int8": {**kit.limits["int8"], "min_score": 0.01, "alone_score": 0.01}})
    steps = score_results(sure, tmp_path, "int8")  # at this threshold, since the seeded model is never sure
    assert failed(steps) == ["detections"]
    assert steps["detections"].problem.startswith("from end to end, ")


def test_rounding_the_letterbox_fails(kit: Kit, runtime: TorchRuntime, tmp_path: Path) -> None:
    steps = run(kit, runtime, tmp_path, letterbox=rounded)
    assert failed(steps)[0] == "letterbox"
    assert steps["letterbox"].case == "truncated"
    assert steps["input"].result == "PASS"


def test_faults_of_nms_show_without_any_image(kit: Kit, tmp_path: Path) -> None:
    """Whatever the model finds in the images, the made-up case shows them."""
    candidates = kit.load("made", "candidates")
    for more, same_class, result in ((0, True, "PASS"), (1, True, "FAIL"), (0, False, "FAIL")):
        rows = nms_by(candidates, kit.settings, more, same_class)
        write_step(tmp_path / "made" / "nms.bin", "nms", rows, kit.settings.spec)
        steps = score_results(kit, tmp_path)
        assert (steps["nms"].result, steps["nms"].cases) == (result, 1)
        assert steps["detections"].result == "absent"


def test_lower_precision_has_its_tolerance(kit: Kit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).normal(0, 1e-3, kit.load("wide", "output").shape)
    write_step(tmp_path / "wide" / "output.bin", "output", kit.load("wide", "output") + noise, kit.settings.spec)
    arguments = [str(kit.folder), str(tmp_path)]
    assert kit_score.main(arguments) == 1
    assert "1 of 8 steps fail; begin with output." in capsys.readouterr().err
    report = tmp_path / "score.json"
    assert kit_score.main([*arguments, "--precision", "fp16", "--json", str(report)]) == 0
    assert json.loads(report.read_text())["passed"] is True


# --- files that are none


@pytest.mark.parametrize(
    ("step", "content", "says"),
    [
        ("letterbox", b"\0" * 100, "letterbox.bin holds 100 bytes, not 245760"),
        ("nms", b"\0" * 25, "nms.bin holds 25 bytes, not a multiple of 24"),
        ("nms", np.full(6, np.nan, "<f4").tobytes(), "nms.bin holds NaN or infinite values"),
        ("nms", np.full(6, 80, "<f4").tobytes(), "class index that is none of 0 to 79"),
        ("nms", np.full(6, 0.5, "<f4").tobytes(), "class index that is none of 0 to 79"),
        ("nms", b"", "175 are missed"),
    ],
)
def test_files_that_are_none_fail(kit: Kit, tmp_path: Path, step: str, content: bytes, says: str) -> None:
    case = "made" if step == "nms" else "wide"
    (tmp_path / case).mkdir()
    (tmp_path / case / f"{step}.bin").write_bytes(content)
    score = score_results(kit, tmp_path)[step]
    assert score.result == "FAIL"
    assert says.replace("175", str(len(kit.load("made", "nms")))) in score.problem


def test_no_results_and_no_kit(kit: Kit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kit_score.main([str(kit.folder), str(tmp_path)]) == 1
    assert "holds no file of the kit's names, such as truncated/detections.bin" in capsys.readouterr().err
    assert kit_score.main([str(tmp_path), str(kit.folder)]) == 1
    assert "is no conformance kit" in capsys.readouterr().err
    copy = Path(shutil.copytree(kit.folder, tmp_path / "copy"))
    content: dict[str, Any] = json.loads((copy / "kit.json").read_text())
    for damage, says in (({"format": 2}, "has format 2"), ({"spec": 3}, "is damaged"), ({"cases": [3]}, "is damaged")):
        (copy / "kit.json").write_text(json.dumps({**content, **damage}))
        assert kit_score.main([str(copy), str(kit.folder)]) == 1
        assert says in capsys.readouterr().err


def test_a_kit_that_was_changed_is_refused(kit: Kit, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(kit.folder, tmp_path / "copy"))
    (copy / "made" / "output.bin").write_bytes(bytes((copy / "made" / "output.bin").stat().st_size))
    with pytest.raises(InvalidInput, match="was changed"):
        score_results(Kit.read(copy), kit.folder)


def test_ties_are_excused_only_across_networks() -> None:
    limit = Tolerance(min_score=0.01, alone_score=0.01)
    expected = np.array([[10, 10, 30, 30, 0.5, 0], [60, 60, 80, 80, 0.3, 1]], np.float32)
    other = expected + np.array([[2, 0, 2, 0, -1e-4, 1], [0] * 6], np.float32)  # its rival, as good but for rounding
    assert compare_rows(expected, other, limit).figures["missed"] == 1
    assert compare_rows(expected, other, limit, 0.65).problem is None
    assert compare_rows(expected, other[1:], limit, 0.65).figures["missed"] == 1
    worse = other - np.array([[0, 0, 0, 0, 0.01, 0], [0] * 6], np.float32)
    assert compare_rows(expected, worse, limit, 0.65).figures["missed"] == 1


def test_the_tolerance_of_normalised_inputs_is_one_level_too(kit: Kit) -> None:
    normalised = replace(kit.settings, spec=replace(kit.settings.spec, normalization="imagenet"))
    assert tolerances(normalised)["input"] == pytest.approx(1 / 255 / 0.224, rel=0.02)
    assert tolerances(kit.settings)["input"] == 1

"""examples/cpp: built, scored by the conformance kit, and given what it cannot use."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.kit import __main__ as kit_command
from benchmarks.kit.score import score_results
from exporters.artifact import Artifact, write_artifact
from exporters.kit.manifest import Kit
from runtimes import ModelSpec, load
from runtimes.preprocess import Image
from runtimes.spec import GraphNMS
from yolox_deploy.data.images import read_image
from yolox_deploy.data.scenes import scene
from yolox_deploy.model.checkpoint import read_checkpoint
from yolox_deploy.model.open import describe
from yolox_deploy.model.yolox import YOLOX

ROOT = Path(__file__).parents[1]
BUNDLED = ROOT / "yolox_deploy" / "weights" / "yolox-nano-scenes.safetensors"

Build = Callable[..., Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Build one program as the README says. Skips where what it needs is not here."""

    def run(target: str, *options: str) -> Path:
        for tool in ("cmake", "c++"):
            if shutil.which(tool) is None:
                pytest.skip(f"needs {tool}")
        folder = tmp_path_factory.mktemp("build")
        configure = ["cmake", "-S", str(ROOT / "examples" / "cpp"), "-B", str(folder), *options]
        done = subprocess.run(
            [*configure, f"-DPython3_EXECUTABLE={sys.executable}"], capture_output=True, text=True, check=False
        )
        for reason in ("nlohmann-json is missing", f"No yolox_{target}", "download"):
            if reason in done.stdout + done.stderr and not (done.returncode == 0 and reason == "download"):
                pytest.skip(f"cannot build yolox_{target}: {reason}")
        assert done.returncode == 0, done.stderr
        command = ["cmake", "--build", str(folder), "--target", f"yolox_{target}", "--parallel", "2"]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stdout + built.stderr
        assert "examples/cpp" not in built.stderr, f"warnings of the compiler:\n{built.stderr}"
        return folder / f"yolox_{target}"

    return run


@pytest.fixture(scope="module")
def openvino_program(build: Build) -> Path:
    return build("openvino")


@pytest.fixture(scope="module")
def scenes_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The bundled weights for OpenVINO. Tests only read it."""
    return export_scenes(tmp_path_factory.mktemp("scenes"), uint8_input=True)


def export_scenes(folder: Path, **changes: object) -> Artifact:
    checkpoint = read_checkpoint(BUNDLED)
    trained = describe(checkpoint.build(), checkpoint)
    spec = replace(trained.spec, batch=1, **changes)  # type: ignore[arg-type]
    return write_artifact(trained.model, spec, "openvino", folder, [scene(5, 1, 0).image])


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)


def score(program: Path, artifact: Artifact, folder: Path) -> None:
    """Every step as the Python runtime has it, of images whose letterboxes are the same to the byte."""
    threshold = ["--score-threshold", "0.006"]  # the seeded model is not sure of anything
    assert kit_command.main([str(artifact.folder), "--output", str(folder / "kit"), *threshold]) == 0
    done = run(program, artifact.folder, "--kit", folder / "kit", folder / "results")
    assert (done.returncode, done.stderr) == (0, "")
    kit = Kit.read(folder / "kit")
    steps = score_results(kit, folder / "results")
    assert {step: one.result for step, one in steps.items()} == dict.fromkeys(kit.settings.steps, "PASS")
    assert steps["letterbox"].largest == {"value": 0}
    for step in ("candidates", "nms", "detections"):
        largest = steps[step].largest
        assert (steps[step].cases, largest["missed"], largest["extra"]) == (5, 0, 0)
        assert largest["box"] < 1e-2 and largest["score"] < 1e-5
    assert sum(len(kit.load(case, "detections")) for case in kit.cases) > 50


FORMS = {
    "bytes, decoded": {"uint8_input": True},
    "floats, raw boxes, red first, ImageNet": {
        "decoded": False,
        "channel_order": "RGB",
        "normalization": "imagenet",
        "pad_value": 0,
    },
}


@pytest.mark.parametrize(
    "form", [form if form == "bytes, decoded" else pytest.param(form, marks=pytest.mark.slow) for form in FORMS]
)
def test_openvino_passes_the_kit(
    openvino_program: Path, seeded_nano: YOLOX, small_spec: ModelSpec, images: list[Image], tmp_path: Path, form: str
) -> None:
    spec = replace(small_spec, batch=1, **FORMS[form])  # type: ignore[arg-type]
    score(openvino_program, write_artifact(seeded_nano, spec, "openvino", tmp_path, images), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("program", "target", "decoded"), [("onnx", "onnx", True), ("ncnn", "ncnn", False)])
def test_the_others_pass_the_kit(
    build: Build,
    seeded_nano: YOLOX,
    small_spec: ModelSpec,
    images: list[Image],
    tmp_path: Path,
    program: str,
    target: str,
    decoded: bool,
) -> None:
    """Downloads the headers of ONNX Runtime and the source of NCNN, and builds that: several minutes."""
    spec = replace(small_spec, batch=1, decoded=decoded)
    artifact = write_artifact(seeded_nano, spec, target, tmp_path, images)
    score(build(program, "-DFETCH=ON"), artifact, tmp_path)


def check_detections(program: Path, artifact: Artifact, folder: Path) -> None:
    """A line for each of the Python detector's detections, of every image."""
    paths = [folder / f"{index}.ppm" for index in range(3)]
    for index, path in enumerate(paths):
        cv2.imwrite(str(path), scene(5, 1, index).image)
    done = run(program, artifact.folder, *paths)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    with load(artifact.folder) as detector:
        for path in paths:
            found, own = detector(read_image(path)), [line for line in lines if line["image"] == str(path)]
            assert len(found) > 1
            assert [line["class"] for line in own] == [detector.spec.class_names[number] for number in found.class_id]
            assert np.abs(np.array([line["box"] for line in own]) - found.xyxy).max() < 0.01
            assert np.abs(np.array([line["score"] for line in own]) - found.confidence).max() < 1e-5


def test_images_give_what_the_detector_gives(openvino_program: Path, scenes_artifact: Artifact, tmp_path: Path) -> None:
    check_detections(openvino_program, scenes_artifact, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["nms", "topk"])
def test_graphs_that_end_in_more(openvino_program: Path, tmp_path: Path, ending: str) -> None:
    changes = {"nms": GraphNMS(0.25, 0.65)} if ending == "nms" else {"topk": 100}
    check_detections(openvino_program, export_scenes(tmp_path, decoded=True, **changes), tmp_path)


def test_bad_input_ends_in_one_sentence(openvino_program: Path, scenes_artifact: Artifact, tmp_path: Path) -> None:
    folder, changed, short = scenes_artifact.folder, tmp_path / "changed", tmp_path / "short.ppm"
    shutil.copytree(folder, changed)
    spec = json.loads((folder / "spec.json").read_text())
    short.write_bytes(b"P6\n640 480\n255\nabc")
    (tmp_path / "text.ppm").write_text("no image")
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "kit.json").write_text(json.dumps({"spec": {**spec, "input_size": [64, 64]}, "cases": []}))

    def complains(text: str, *arguments: object) -> None:
        done = run(openvino_program, *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        last = done.stderr.splitlines()[-1]  # OpenVINO prints warnings of its own about a damaged file
        assert last.startswith("error: ") and text in last
        assert done.stderr.count("error: ") == 1

    complains("usage:")
    complains("cannot read", tmp_path / "nowhere", short)
    complains("cannot read", folder, tmp_path / "nowhere.ppm")
    complains("no whole binary PPM", folder, short)
    complains("no whole binary PPM", folder, tmp_path / "text.ppm")
    complains("is of another model", folder, "--kit", tmp_path / "kit", tmp_path / "results")
    assert not (tmp_path / "results").exists()

    def with_spec(text: str, content: str) -> None:
        (changed / "spec.json").write_text(content)
        complains(text, changed, short)

    with_spec("holds no JSON object", "{")
    with_spec("unknown field 'keypoints'", json.dumps({**spec, "keypoints": 17}))
    with_spec("decoded", json.dumps({key: value for key, value in spec.items() if key != "decoded"}))
    with_spec("several images at a time", json.dumps({**spec, "batch": 4}))
    with_spec("multiples of 32", json.dumps({**spec, "input_size": [100, 100]}))
    with_spec("multiples of 32", json.dumps({**spec, "input_size": [2**30, 2**30]}))
    with_spec("strides", json.dumps({**spec, "strides": [0]}))
    with_spec("is not what its spec.json says", json.dumps({**spec, "input_size": [640, 640]}))
    with_spec("is not what its spec.json says", json.dumps({**spec, "uint8_input": False}))
    with_spec("is not what its spec.json says", json.dumps({**spec, "class_names": ["one"], "category_ids": [1]}))
    (changed / "model.xml").write_text("<net")
    with_spec("OpenVINO cannot read", json.dumps(spec))

from __future__ import annotations

import json
import shutil
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from benchmarks.compare import __main__ as compare
from benchmarks.diverge import __main__ as diverge
from benchmarks.kit import __main__ as kit
from benchmarks.parity import __main__ as parity
from benchmarks.parity.checks import FIGURES, Check, Examined, check_figures, check_spec, difference, report_notes
from benchmarks.parity.junit import junit_xml
from benchmarks.reference import AnyBatch, open_reference
from exporters.artifact import Artifact
from exporters.report import TOLERANCES, ParityReport
from runtimes import InvalidInput, ModelSpec
from yolox_deploy.data.shapes import write_images
from yolox_deploy.model.yolox import YOLOX
from yolox_deploy.options import ModelOptions

ALL = ["load", "spec", "run", "tensors", "detections", "boxes", "scores"]

Change = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def checkpoint(seeded_nano: YOLOX, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "seeded.pth"
    torch.save({"model": seeded_nano.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images, to be quick."""
    path = tmp_path_factory.mktemp("images")
    write_images(path, 2)
    return path


@pytest.fixture
def planted(artifact: Artifact, tmp_path: Path) -> Callable[[Change], Path]:
    """A copy of the sound artifact with something wrong in its model file, and nothing beside that would tell."""

    def plant(change: Change) -> Path:
        copy = Path(shutil.copytree(artifact.folder, tmp_path / "planted"))
        model = onnx.load(copy / "model.onnx")
        change(model)
        onnx.save(model, copy / "model.onnx")
        for name in ("parity.json", "spec.json"):
            (copy / name).unlink()
        return copy

    return plant


Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def run(checkpoint: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """The exit code, and the last line."""

    def call(*arguments: object) -> tuple[int, dict[str, Any]]:
        common = ["--reference", checkpoint, "--images", folder, "--input-size", 256, 320]
        code = parity.main([str(argument) for argument in [*arguments, *common]])
        return code, json.loads(capsys.readouterr().out.strip().splitlines()[-1])

    return call


def results(last: dict[str, Any], index: int = 0) -> dict[str, str]:
    return {check["name"]: check["result"] for check in last["artifacts"][index]["checks"]}


def message(last: dict[str, Any], name: str) -> str:
    return str(next(check["message"] for check in last["artifacts"][0]["checks"] if check["name"] == name))


def metadata(model: onnx.ModelProto, name: str) -> Any:
    return next(entry for entry in model.metadata_props if entry.key == f"yolox.{name}")


def one_percent(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim == 4:  # the convolutions' weights
            tensor.CopyFrom(numpy_helper.from_array(values * np.float32(1.01), tensor.name))


def swapped_channels(model: onnx.ModelProto) -> None:
    graph = model.graph
    for node in graph.node:
        node.input[:] = ["swapped" if name == "images" else name for name in node.input]
    graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0]), "order"))
    graph.node.insert(0, helper.make_node("Gather", ["images", "order"], ["swapped"], axis=1))


def shuffled_names(model: onnx.ModelProto) -> None:
    entry = metadata(model, "class_names")
    names = json.loads(entry.value)
    entry.value = json.dumps([names[1], names[0], *names[2:]])


def test_what_export_leaves_beside_artifacts_is_none(
    artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`artifacts/*` names the sensitivity map too."""
    beside = tmp_path / "yolox-nano.sensitivity.json"
    beside.write_text("{}")
    assert parity.main([str(artifact.folder), str(beside), "--reference", str(artifact.folder)]) == 0
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["artifacts"]) == 1
    assert parity.main([str(beside), "--reference", str(artifact.folder)]) == 1
    assert "name the artifacts" in capsys.readouterr().err


def test_a_sound_artifact_passes(artifact: Artifact, run: Run) -> None:
    code, last = run(artifact.folder)
    assert (code, last["passed"], last["images"]) == (0, True, 2)
    assert results(last) == dict.fromkeys(ALL, "passed")
    assert last["artifacts"][0]["figures"]["detections"] > 20
    assert ["only the figures prove it" in note for note in last["artifacts"][0]["notes"]] == [True]


def test_one_percent_on_the_weights_fails(planted: Callable[[Change], Path], run: Run) -> None:
    code, last = run(planted(one_percent))
    assert (code, last["passed"]) == (1, False)
    found = results(last)
    assert (found["spec"], found["tensors"], found["scores"]) == ("passed", "failed", "failed")
    assert "output differs by" in message(last, "tensors")


def test_swapped_channels_fail(planted: Callable[[Change], Path], run: Run) -> None:
    code, last = run(planted(swapped_channels))
    assert code == 1
    found = results(last)
    assert (found["spec"], found["tensors"], found["detections"]) == ("passed", "failed", "failed")


def test_shuffled_class_names_fail(planted: Callable[[Change], Path], run: Run) -> None:
    code, last = run(planted(shuffled_names))
    assert code == 1
    assert results(last) == dict.fromkeys(ALL, "passed") | {"spec": "failed"}
    assert message(last, "spec") == "2 of 80 class_names differ: class 0 is 'bicycle', not 'person'"


def test_the_spec_beside_the_model_must_be_the_one_inside(
    artifact: Artifact, small_spec: ModelSpec, planted: Callable[[Change], Path], run: Run
) -> None:
    path = planted(lambda model: None)
    names = small_spec.class_names
    (path / "spec.json").write_text(replace(small_spec, class_names=(*names[1:], names[0])).to_json())
    code, last = run(path)
    assert code == 1
    assert results(last) == dict.fromkeys(ALL, "passed") | {"spec": "failed"}
    assert message(last, "spec") == "spec.json says another class_names than the model file"


def test_another_checkpoint_fails(planted: Callable[[Change], Path], run: Run) -> None:
    def other_source(model: onnx.ModelProto) -> None:
        metadata(model, "source_sha256").value = json.dumps("0123456789abcdef")

    code, last = run(planted(other_source))
    assert code == 1
    assert message(last, "spec").startswith("it was made from another checkpoint (0123456789ab, not ")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"channel_order": "RGB"}, "channel_order is 'RGB', not 'BGR'"),
        ({"normalization": "imagenet"}, "normalization is 'imagenet', not None"),
        ({"pad_value": 0}, "pad_value is 0, not 114"),
        ({"input_size": (320, 256)}, "input_size is (320, 256), not (256, 320)"),
        ({"strides": (32, 16, 8)}, "strides is (32, 16, 8), not (8, 16, 32)"),
        ({"class_names": ("cat",), "category_ids": (1,)}, "there are 1 class_names, not 80; there are 1 category_ids"),
        ({"category_ids": tuple(range(80))}, "80 of 80 category_ids differ: class 0 is 0, not 1"),
        ({"name": "mine", "batch": 4, "precision": "fp16", "decoded": False}, ""),
    ],
)
def test_what_changes_the_meaning(small_spec: ModelSpec, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    (tmp_path / "model.onnx").touch()
    check = check_spec(replace(small_spec, **change), small_spec, tmp_path)
    assert check.message.startswith(says) if says else check.message == ""
    assert check.result == ("failed" if says else "passed")


def test_equal_fields_are_no_difference() -> None:
    assert difference("class_names", ("a", "b"), ("a", "b")) == ""


PERFECT: dict[str, Any] = {one.name: 0 for one in fields(ParityReport) if one.default_factory is one.default is MISSING}
REPORT = ParityReport(**{**PERFECT, "tolerance": TOLERANCES["fp32"], "images": 1, "detections": 30, "confident": 60})


@pytest.mark.parametrize(("name", "figure"), [(name, figure) for name, own in FIGURES.items() for figure in own])
def test_each_figure_fails_its_own_check(name: str, figure: str) -> None:
    report = replace(REPORT, **{figure: float("inf")})  # type: ignore[arg-type]
    assert not report
    failed = {other for other in FIGURES if check_figures(other, report).result == "failed"}
    assert failed == {name}


def test_what_proves_nothing_is_skipped() -> None:
    inside = replace(REPORT, tensor_error=None, mean_error=None)
    assert check_figures("tensors", inside).result == "skipped"
    empty = replace(REPORT, detections=0, confident=0)
    assert [check_figures(name, empty).result for name in FIGURES] == ["passed", *["skipped"] * 3]
    assert check_figures("detections", replace(empty, extra=1, confident=1)).result == "failed"
    assert len(report_notes(replace(REPORT, detections=3))) == 1
    assert report_notes(REPORT) == []


def test_few_detections_decide_nothing_in_lower_precisions() -> None:
    """They are skipped, with a reason; the anchors are among the tensors."""
    few = replace(
        REPORT, tolerance=TOLERANCES["int8"], detections=1, confident=1, missed=1, anchor_box_error=0.01,
        anchor_score_error=0.01, mean_box_error=0.5, mean_score_error=0.5,
    )  # fmt: skip
    found = {name: check_figures(name, few) for name in FIGURES}
    assert [check.result for check in found.values()] == ["passed", *["skipped"] * 3]
    assert all("too few detections" in check.message for check in found.values() if check.result == "skipped")
    assert "all anchors decide" in report_notes(few)[0]
    assert check_figures("tensors", replace(few, anchor_score_error=0.6)).result == "failed"
    enough = replace(few, confident=20, missed=3)
    assert [check_figures(name, enough).result for name in FIGURES] == ["passed", *["failed"] * 3]


THIRD_PARTY = ["--class-names", "coco", "--preprocessing", "official"]


def test_a_third_party_file_against_its_checkpoint(
    shared: Path, folder: Path, artifact: Artifact, capsys: pytest.CaptureFixture[str]
) -> None:
    """The options are for the file that carries no spec, on whichever side it is; an artifact beside it has its own."""
    exported, weights = shared / "weights" / "yolox_nano_official_export.onnx", shared / "weights" / "yolox_nano.pth"
    common = ["--images", str(folder)]
    assert parity.main([str(exported), "--reference", str(weights), *THIRD_PARTY, *common]) == 0
    last = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert results(last) == dict.fromkeys(ALL, "passed") and last["source"] == str(folder)
    assert parity.main([str(exported), str(artifact.folder), "--reference", str(exported), *THIRD_PARTY, *common]) == 1
    last = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert results(last) == dict.fromkeys(ALL, "passed")
    assert results(last, 1)["load"] == "passed" and results(last, 1)["spec"] == "failed"  # it is of another size
    legacy = [*THIRD_PARTY[:2], "--preprocessing", "legacy"]
    assert parity.main([str(exported), "--reference", str(artifact.folder), *legacy, *common]) == 1
    last = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert "channel_order is 'RGB', not 'BGR'" in message(last, "spec")
    assert parity.main([str(exported), "--reference", str(weights), *common]) == 1
    last = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert "--preprocessing" in message(last, "load") and "--class-names" in message(last, "load")


def test_options_that_no_file_needs_are_refused(artifact: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main([str(artifact.folder), "--reference", str(artifact.folder), *THIRD_PARTY]) == 1
    assert "all of these carry one: leave them out" in capsys.readouterr().err


def test_junit_is_what_ci_reads(
    artifact: Artifact, planted: Callable[[Change], Path], run: Run, tmp_path: Path
) -> None:
    path, xml = planted(shuffled_names), tmp_path / "reports" / "parity.xml"
    code, last = run(artifact.folder, path, tmp_path / "nothing", "--junit", xml, "--json", tmp_path / "all.json")
    assert code == 1
    assert json.loads((tmp_path / "all.json").read_text()) == last | {"warnings": []}
    root = ET.parse(xml).getroot()
    assert root.tag == "testsuites"
    assert [suite.get("name") for suite in root] == [str(artifact.folder), str(path), str(tmp_path / "nothing")]
    assert {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "15", "failures": "2", "errors": "0", "skipped": "0"
    }  # fmt: skip
    assert [suite.get("failures") for suite in root] == ["0", "1", "1"]
    cases = list(root.iter("testcase"))
    assert [case.get("name") for case in cases[:7]] == ALL
    assert all(float(case.get("time", "nan")) >= 0 for case in cases)
    assert float(cases[2].get("time", "nan")) > 0.01  # where the work is
    spec = root[1].findall("testcase")[1]
    assert (spec.get("classname"), spec.get("name")) == (str(path), "spec")
    failure = spec.find("failure")
    assert failure is not None
    assert failure.get("message") == failure.text
    assert "class 0 is 'bicycle', not 'person'" in str(failure.text)
    assert "does not exist" in str(cases[-1].find("failure").get("message"))  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_missing_backend_fails_or_is_skipped(
    artifact: Artifact, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, last = run(artifact.folder)
    assert (code, results(last)) == (1, {"load": "failed"})
    assert "pip install onnxruntime" in message(last, "load")
    xml = tmp_path / "parity.xml"
    code, last = run(artifact.folder, "--skip-missing", "--junit", xml)
    assert (code, results(last)) == (0, {"load": "skipped"})
    skipped = ET.parse(xml).getroot().find("testsuite/testcase/skipped")
    assert skipped is not None
    assert "pip install onnxruntime" in str(skipped.get("message"))
    code, last = run(tmp_path / "nothing", "--skip-missing")  # that is no backend
    assert (code, results(last)) == (1, {"load": "failed"})


def test_xml_holds_any_text() -> None:
    odd = Examined("a\x00<b>&\ud800", (Check("spec", "failed", "class 0 is '\x1b[31m'"),))
    root = ET.fromstring(junit_xml([odd]).encode())
    assert root[0].get("name") == "a?<b>&?"
    assert root.find(".//failure").text == "class 0 is '?[31m'"  # type: ignore[union-attr]


def test_an_artifact_of_another_shape_is_told_by_its_spec(
    artifact: Artifact, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parity.main([str(artifact.folder), "--reference", str(checkpoint)]) == 1
    out = capsys.readouterr().out.strip().splitlines()
    assert "generated images" in out[0]
    last = json.loads(out[-1])
    assert results(last) == {"load": "passed", "spec": "failed", **dict.fromkeys(FIGURES, "skipped")}
    assert message(last, "spec").startswith("input_size is (256, 320), not (416, 416)")
    advice = message(last, "spec").split(" with ")[1].split()
    assert parity.main([str(artifact.folder), "--reference", str(checkpoint), *advice]) in (0, 1)
    last = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert results(last)["spec"] == "passed" and "skipped" not in results(last)["tensors"]


def test_an_artifact_can_be_the_reference(
    artifact: Artifact, planted: Callable[[Change], Path], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = ["--images", str(folder)]
    assert parity.main([str(artifact.folder), "--reference", str(artifact.model), *images]) == 0
    assert parity.main([str(planted(one_percent)), "--reference", str(artifact.model), *images]) == 1
    assert parity.main([str(artifact.folder), "--reference", str(artifact.model), "--input-size", "64", "64"]) == 1
    assert "--input-size and --spec are for files without a spec" in capsys.readouterr().err


class Doubling:
    """Takes three at a time."""

    spec = ModelSpec("m", (64, 64), ("cat",), batch=3)

    def infer(self, images: Any) -> Any:
        assert len(images) == 3
        return images * 2

    def close(self) -> None: ...


def test_a_fixed_batch_as_a_reference() -> None:
    images = np.arange(7, dtype=np.float32)[:, None]
    assert np.array_equal(AnyBatch(Doubling()).infer(images), images * 2)
    assert AnyBatch(Doubling()).spec.batch is None


def test_a_reference_that_hides_anchors_is_refused(planted: Callable[[Change], Path]) -> None:
    class Fewer(Doubling):
        spec = replace(Doubling.spec, topk=3)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.reference.open_artifact", lambda *_: type("Opened", (), {"runtime": Fewer()})())
        with pytest.raises(InvalidInput, match="drops anchors in its graph"):
            open_reference(Path("model.onnx"), ModelOptions())


def test_nothing_to_compare(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main(["--reference", str(checkpoint), "--junit", str(tmp_path)]) == 1
    assert "name the artifacts" in capsys.readouterr().err
    assert parity.main(["a", "--reference", str(checkpoint), "--junit", str(tmp_path)]) == 1
    assert "is a folder, not a file" in capsys.readouterr().err


def test_a_third_party_file_of_any_size(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """NCNN's files do not say what they take: of every command that runs them, --input-size says it."""
    file, weights = shared / "cases" / "files" / "ncnn_focus_legacy.param", shared / "weights" / "yolox_nano.pth"
    write_images(tmp_path / "images", 1)
    options = ["--preprocessing", "legacy", "--class-names", "coco", "--input-size", "416", "416"]
    parity.main([str(file), "--reference", str(weights), "--images", str(tmp_path / "images"), *options, "--json", "-"])
    checks = results(json.loads(capsys.readouterr().out))
    assert checks["load"] == checks["spec"] == checks["run"] == "passed"
    image = str(next((tmp_path / "images").iterdir()))
    assert diverge.main([str(weights), str(file), "--image", image, *options]) == 1
    assert "compare it by `parity`" in capsys.readouterr().err
    assert kit.main([str(file), *options, "--output", str(tmp_path / "kit")]) == 0
    assert compare.main([str(file), "--reference", str(weights), *options, "--dry-run"]) == 0
    assert parity.main([str(file)]) == 1
    assert "--reference" in capsys.readouterr().err

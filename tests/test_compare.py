"""The comparison as a command: table, JSON and page of artifacts that are sound, and of one that is not."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from benchmarks.compare import __main__ as compare
from benchmarks.compare.charts import pareto
from benchmarks.compare.comparison import HEADER, Row
from benchmarks.compare.contenders import contenders_of
from benchmarks.compare.gather import computes
from benchmarks.compare.intervals import Interval, Summary
from benchmarks.compare.process import Worker
from benchmarks.compare.roofline import convolution_gflops
from benchmarks.compare.speed import Contender, Throughput
from benchmarks.compare.task import read_specs
from benchmarks.compare.worst import disagreement
from exporters.artifact import Artifact, write_artifact
from runtimes import Detections, InvalidInput, ModelSpec
from runtimes.preprocess import Image
from yolox_deploy import export
from yolox_deploy.data.scenes import main as write_scenes
from yolox_deploy.data.shapes import shapes_images, write_images
from yolox_deploy.model.seeded import seeded_model
from yolox_deploy.model.variants import VARIANTS
from yolox_deploy.options import ForeignOptions

WEIGHTS = Path(__file__).parents[1] / "yolox_deploy" / "weights" / "yolox-nano-scenes.safetensors"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "scenes"
    assert write_scenes([str(folder), "--train", "1", "--val", "8"]) == 0
    return folder


class Page(HTMLParser):
    """What a page refers to, and whether its elements are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "link", "img", "line", "rect", "circle", "polygon", "polyline", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()


@pytest.mark.slow
def test_the_whole_command(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a checkpoint: exports, compares, and writes everything. Two of three targets, for time."""
    arguments = ["--export", str(WEIGHTS), "--target", "onnx", "openvino", "--precision", "fp32"]
    arguments += ["--output", str(tmp_path / "artifacts"), "--data", str(scenes), "--launches", "1", "--rounds", "2"]
    arguments += ["--json", str(tmp_path / "all.json"), "--html", str(tmp_path / "page.html")]
    assert compare.main(arguments) == 0
    printed = capsys.readouterr().out.strip().splitlines()
    assert HEADER.splitlines()[0] in printed
    last = json.loads(printed[-1])
    assert [row["name"] for row in last["rows"]] == ["onnx fp32", "openvino fp32"]
    assert last["rows"][0]["speed"] == {"value": 1, "low": 1, "high": 1}
    assert all(row["parity"] and abs(row["AP_drop"]) < 0.0005 for row in last["rows"])
    everything = json.loads((tmp_path / "all.json").read_text())
    first = last["rows"][0]
    assert 0 < first["AP"] == everything["rows"][0]["figures"]["AP"] <= 1, "a fraction in JSON, points in the table"
    assert any(f"| onnx fp32 | {100 * first['AP']:.2f} |" in line for line in printed)
    assert set(everything["rows"][0]["figures"]) >= {"AP", "AR100", "APs"}
    assert everything["rows"][1]["roof"] > 0 and everything["peaks"]["fp32"] > 1
    html = (tmp_path / "page.html").read_text()
    page = Page()
    page.feed(html)
    assert page.open == []
    assert all(link.startswith("data:") for link in page.links) and "<script" not in html
    assert "onnx fp32" in html and everything["rows"][0]["sha256"]["model.onnx"] in html
    assert everything["reference_figures"]["AP"] > 0.01
    assert compare.main([*arguments, "--launches", "1", "--rounds", "1", "--json", "-"]) == 0
    again = capsys.readouterr()
    assert "is there already" in again.err and HEADER.splitlines()[0] in again.err
    assert json.loads(again.out).keys() == everything.keys()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name artifacts to compare"),
        (["{artifact}"], "--reference says"),
        (["{artifact}", "{artifact}", "--reference", "{artifact}"], "two artifacts are called"),
        (["{artifact}", "--reference", "{artifact}", "--baseline", "nothing"], "does not take part"),
        (["{artifact}", "--reference", "{artifact}", "--rounds", "0"], "--rounds must be at least 1"),
        (["nowhere", "--reference", "{artifact}"], "nowhere does not exist"),
        (["--export", "yolox-q"], "yolox-q does not exist. Did you mean yolox-"),
        (["--export", "nowhere.pth"], "nowhere.pth does not exist"),
        (["--export", "{weights}", "--data", "nowhere"], "nowhere"),
        (["--export", "{weights}", "--baseline", "onnx bf8"], "does not take part"),
        (["--export", "{weights}", "--images", "nowhere"], "nowhere"),
        (["--export", "{weights}", "--calibration", "nowhere"], "nowhere"),
        (["--export", "{weights}", "--max-ap-drop", "1"], "needs labelled images"),
        (["--export", "{weights}", "--reference", "nowhere.pth"], "nowhere.pth does not exist"),
        (["{artifact}", "--reference", "{artifact}", "--calibration", "nowhere"], "are for --export MODEL"),
        (["{artifact}", "--reference", "{artifact}", "--split", "val"], "--data PATH"),
    ],
)
def test_what_is_refused_before_any_work(
    arguments: list[str],
    says: str,
    artifact: Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [one.replace("{artifact}", str(artifact.folder)).replace("{weights}", str(WEIGHTS)) for one in arguments]
    assert compare.main(filled) == 1
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_names(artifact: Artifact) -> None:
    one, other = contenders_of([str(artifact.folder), f"mine={artifact.folder}"], 1, False)
    assert (one.name, other.name) == ("onnx fp32", "mine")
    assert one.artifact == other.artifact == artifact.folder


@pytest.mark.slow
def test_another_model_is_no_parity(
    artifact: Artifact, small_spec: ModelSpec, images: list[Image], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_artifact(
        seeded_model("yolox-nano", seed=1), replace(small_spec, name="other"), "onnx", tmp_path, images
    )
    arguments = [f"sound={artifact.folder}", str(other.folder), "--reference", str(artifact.folder)]
    assert compare.main([*arguments, "--launches", "1", "--rounds", "1"]) == 0
    rows = json.loads(capsys.readouterr().out.strip().splitlines()[-1])["rows"]
    assert [row["parity"] for row in rows] == [True, False]


@pytest.mark.slow
def test_artifacts_of_another_size_than_the_checkpoints_own(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint runs at theirs; and those of two sizes are not compared."""
    for side in ("96", "128"):
        command = ["--weights", str(WEIGHTS), "--input-size", side, side, "--name", f"at{side}"]
        assert export.main([*command, "--output", str(tmp_path)]) == 0
    small, large = (tmp_path / f"at{side}-onnx-fp32" for side in ("96", "128"))
    arguments = [
        "--reference",
        str(WEIGHTS),
        "--data",
        str(scenes),
        "--split",
        "val",
        "--json",
        str(tmp_path / "f.json"),
    ]
    assert compare.main([str(small), *arguments, "--launches", "1", "--rounds", "1"]) == 0
    capsys.readouterr()
    row = json.loads((tmp_path / "f.json").read_text(), parse_constant=pytest.fail)["rows"][0]
    assert row["parity"]["passed"] and abs(row["AP_drop"]) < 0.0005 and row["roof"] < 1.5
    assert compare.main([f"a={small}", f"b={large}", *arguments]) == 1
    assert "compare those of one size" in capsys.readouterr().err


OPTIONS = ForeignOptions(preprocessing="official", class_names="coco")


def test_a_third_party_file_is_loaded_with_its_options(shared: Path, artifact: Artifact) -> None:
    """In each process that loads it; artifacts beside it have their own spec."""
    exported = shared / "weights" / "yolox_nano_official_export.onnx"
    third, own = contenders_of([str(exported), str(artifact.folder)], 1, False, OPTIONS)
    assert third.options["spec"].input_size == (416, 416) and "spec" not in own.options
    assert read_specs([third], None)[third.name] == third.options["spec"]
    with Worker(third.artifact, shapes_images(1), third.options) as worker:
        assert len(worker.detect()) == 1
    with pytest.raises(InvalidInput, match="carries no spec"):
        read_specs(contenders_of([str(exported)], 1, False), None)


@pytest.mark.slow
def test_a_third_party_file_against_its_checkpoint(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = shared / "weights"
    write_images(tmp_path / "images", 2)
    arguments = [str(weights / "yolox_nano_official_export.onnx"), "--reference", str(weights / "yolox_nano.pth")]
    arguments += ["--class-names", "coco", "--preprocessing", "official", "--images", str(tmp_path / "images")]
    arguments += ["--launches", "1", "--rounds", "1", "--json", str(tmp_path / "all.json")]
    assert compare.main(arguments) == 0
    [row] = json.loads((tmp_path / "all.json").read_text())["rows"]
    assert row["parity"]["passed"] and row["parity"]["source"] == str(tmp_path / "images")
    assert row["options"] == {"threads": 1} and row["throughput"]


def test_options_that_no_file_needs_are_refused(artifact: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(artifact.folder), "--reference", str(artifact.folder), "--class-names", "coco"]
    assert compare.main([*arguments, "--preprocessing", "official"]) == 1
    assert "all of these carry one: leave them out" in capsys.readouterr().err


def test_what_is_computed_in(artifact: Artifact, small_spec: ModelSpec) -> None:
    """The few layers of int8 files that are in float are in bf16 where that is asked for; the rest is int8 still."""
    plain, rough = (Contender("one", artifact.folder, options) for options in ({}, {"bf16": True}))
    specs = [replace(small_spec, precision=precision) for precision in ("fp32", "fp16", "int8")]
    assert [computes(spec, plain) for spec in specs] == ["fp32", "fp32", "int8"]
    assert [computes(spec, rough) for spec in specs] == ["bf16", "bf16", "int8"]


def test_an_artifact_of_another_checkpoint_is_not_taken(
    tmp_path: Path, artifact: Artifact, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(artifact.folder, tmp_path / "yolox-nano-onnx-fp32")
    arguments = ["--export", str(WEIGHTS), "--target", "onnx", "--precision", "fp32", "--output", str(tmp_path)]
    assert compare.main(arguments) == 1
    assert "made from another checkpoint" in capsys.readouterr().err


def row(name: str, milliseconds: float, ap: float | None) -> Row:
    time = Interval(milliseconds, milliseconds, milliseconds)
    summary = Summary(time, time, time, 0.0)
    one = Interval(1, 1, 1)
    return Row(
        name=name, path="", sha256={"model.onnx": ""}, target=".onnx", precision="fp32", computes="fp32",
        options={}, batch=1, megabytes=1, figures=None if ap is None else {"AP": ap, "AP50": ap}, AP_drop=0.0,
        parity={"passed": True},
        stages=dict.fromkeys(("preprocess", "copy_in", "compute", "copy_out", "postprocess"), 1.0),
        times=[[[milliseconds]]], engine=summary, total=summary, ratio=one, total_ratio=one,
        throughput=[Throughput(1, 1, 1, 5.0)], load_milliseconds=1, peak_mib=1, warmup_runs=20, steady=True, roof=None,
    )  # fmt: skip


def test_the_pareto_front() -> None:
    rows = [row("slow", 30, 0.3), row("best", 20, 0.3), row("fast", 10, 0.2), row("worse", 15, 0.1)]
    assert [one.name for one in pareto(rows)] == ["fast", "best"]


def test_the_table_says_what_chance_does() -> None:
    faster = replace(row("a", 10, 0.3), total_ratio=Interval(1.5, 1.4, 1.6))
    alike = replace(row("b", 10, 0.3), total_ratio=Interval(1.01, 0.97, 1.05))
    assert faster.verdict() == "faster" and "1.50x |" in str(faster)
    assert alike.verdict() == "" and "1.01x = |" in str(alike)
    columns = HEADER.splitlines()[0].count("|")
    assert str(alike).count("|") == columns


def test_disagreement() -> None:
    def found(*rows: tuple[float, ...]) -> Detections:
        array = np.array(rows, np.float32).reshape(-1, 6)
        return Detections(array[:, :4], array[:, 4], array[:, 5].astype(np.int64))

    one = found((0, 0, 10, 10, 0.9, 1), (20, 20, 40, 40, 0.5, 2))
    assert disagreement(one, one) == 0
    assert disagreement(one, found((0, 0, 10, 10, 0.8, 1))) == pytest.approx(0.6)
    assert disagreement(one, found((0, 0, 10, 10, 0.9, 3), (20, 20, 40, 40, 0.5, 2))) == pytest.approx(1.8)


@pytest.mark.parametrize(("variant", "published"), [("yolox-nano", 1.08), ("yolox-s", 26.8)])
def test_the_work_of_a_model(variant: str, published: float) -> None:
    """The published figure counts batch norms too, which are folded: a little less."""
    side = VARIANTS[variant].input_size  # type: ignore[index]
    assert 0.9 * published < convolution_gflops(seeded_model(variant), side, side) <= published  # type: ignore[arg-type]


def test_numbers_stand_in_the_page_as_in_the_table() -> None:
    from benchmarks.compare.page import _latency_cells

    cells = _latency_cells(row("a", 12.345, 0.28604))
    assert cells[:2] == ["a", "28.60"] and re.match(r"12\.3[45]", cells[4])

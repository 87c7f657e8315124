"""benchmarks.tune: what wins, what is not measured, what is refused. Times and AP are given, but for one real run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest

from benchmarks.compare.intervals import Interval
from benchmarks.tune.__main__ import main
from benchmarks.tune.lab import Aim, MachineLab, workbench
from benchmarks.tune.search import Build, Goal, Size, Way, search
from benchmarks.tune.ways import read_sizes, ways_of
from exporters.artifact import Artifact
from runtimes import load
from runtimes.errors import InvalidInput, UserError
from yolox_deploy import export
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.data.open import open_dataset
from yolox_deploy.data.scenes import main as draw_scenes
from yolox_deploy.data.shapes import shapes_images

WEIGHTS = Path(__file__).parents[1] / "yolox_deploy" / "weights" / "yolox-nano-scenes.safetensors"

AP: dict[tuple[str, Size], float] = {
    ("fp32", (416, 416)): 0.286, ("bf16", (416, 416)): 0.2855, ("int8", (416, 416)): 0.283,
    ("fp32", (320, 320)): 0.250, ("bf16", (320, 320)): 0.251, ("int8", (320, 320)): 0.246,
    ("fp32", (224, 224)): 0.190, ("bf16", (224, 224)): 0.189, ("int8", (224, 224)): 0.185,
}  # fmt: skip
SPEED = {"fp32": 1.0, "bf16": 1.4, "int8": 2.0}


class Plain:
    """Measurements as a formula, and a note of what was asked for. error: of a short look at fp32."""

    def __init__(self, broken: str = "", error: float = 1.0) -> None:
        self.broken, self.error = broken, error
        self.asked: list[Build] = []
        self.timed: list[Way] = []

    def fp32_ap(self, size: Size) -> float:
        return AP["fp32", size]

    def ap(self, build: Build) -> float:
        self.asked.append(build)
        return AP[build.computes, build.size]

    def times(self, ways: Sequence[Way], careful: bool) -> dict[Way, Interval]:
        self.timed += ways
        times = {way: self.time(way) for way in ways if way.build.target != self.broken}
        if not careful:
            times = {way: times[way] * (self.error if way.build.computes == "fp32" else 1) for way in times}
        return {way: Interval(time, 0.99 * time, 1.01 * time) for way, time in times.items()}

    def time(self, way: Way) -> float:
        build = way.build
        area = build.size[0] * build.size[1] / 416**2
        slow = 1.2 if build.target == "ncnn" else 1.0
        return 20 * area * slow / SPEED[build.computes] / (1 + 0.5 * (way.threads - 1))


SIZES: list[Size] = [(416, 416), (320, 320), (224, 224)]
WAYS = ways_of([Build(*one) for one in product(("openvino", "ncnn"), SPEED, SIZES)], 2, "latency")


@pytest.mark.parametrize("budget", [1.5, 3.0, 5.0, 7.0, 9.5, 14.0, 100.0])
def test_a_budget_gives_the_highest_ap_within_it(budget: float) -> None:
    lab = Plain()
    winner, _ = search(WAYS, Goal(budget=budget), lab)
    possible = [AP[way.build.computes, way.build.size] for way in WAYS if lab.time(way) <= budget]
    assert (winner is None) == (not possible)
    if winner is not None:
        assert winner.AP is not None
        assert max(possible) - 0.001 <= winner.AP
        assert winner.milliseconds is not None
        assert winner.milliseconds <= budget


@pytest.mark.parametrize("least", [0.1, 0.187, 0.19, 0.248, 0.284, 0.286])
def test_enough_ap_gives_the_shortest_time_with_it(least: float) -> None:
    lab = Plain()
    winner, trials = search(WAYS, Goal(least_AP=least), lab)
    possible = [lab.time(way) for way in WAYS if AP[way.build.computes, way.build.size] >= least]
    assert winner is not None
    assert winner.milliseconds == pytest.approx(min(possible))
    assert len(trials) == len(WAYS)


def test_what_nothing_reaches() -> None:
    lab = Plain()
    winner, trials = search(WAYS, Goal(least_AP=0.5), lab)
    assert winner is None
    assert not lab.asked
    assert {trial.note for trial in trials} == {
        f"fp32 reaches AP {ap} at this size" for ap in ("28.60", "25.00", "19.00")
    }, "in points"
    assert str(Goal(least_AP=0.285)) == "AP 28.5"
    assert search(WAYS, Goal(budget=0.1), lab)[0] is None


def test_ap_is_measured_only_where_it_may_decide() -> None:
    lab = Plain()
    _, trials = search(WAYS, Goal(budget=15.0), lab)
    assert {build.size for build in lab.asked} == {(416, 416)}
    left_out = [trial for trial in trials if trial.way.build.size != (416, 416)]
    assert left_out
    assert all("out of reach" in trial.note for trial in left_out)
    assert {way.build.size for way in lab.timed} == {(416, 416)}
    lab = Plain()
    search(WAYS, Goal(least_AP=0.248), lab)
    assert {build.size for build in lab.asked} == {(320, 320)}
    assert len(lab.asked) < 6


def test_of_equal_ap_the_faster_wins() -> None:
    """bf16 loses 0.05 points, which chance does too, and is 1.4 times as fast."""
    winner, _ = search(WAYS, Goal(budget=100), Plain())
    assert winner is not None
    assert winner.way.build.computes == "bf16"


def test_a_short_look_does_not_decide_at_the_budget() -> None:
    """fp32 looks 3 % too slow at first, and is 1 % within the budget."""
    lab = Plain(error=1.03)
    budget = 1.01 * 20 / 1.5
    slow = Way(Build("openvino", "fp32", (416, 416)), 1, 2)
    _, found = search(WAYS, Goal(budget=budget), lab)
    assert [one.AP for one in found if one.way == slow] == [0.286]
    lab = Plain(error=0.9)
    winner, trials = search(WAYS, Goal(budget=0.95 * 20 / 1.5), lab)
    assert winner is not None
    assert winner.way.build.computes == "bf16"
    assert [one.note for one in trials if one.way == slow] == ["over the budget"]


def test_every_way_that_did_not_win_says_why() -> None:
    for goal in (Goal(budget=9.0), Goal(least_AP=0.248)):
        winner, trials = search(WAYS, goal, Plain())
        silent = [trial for trial in trials if not trial.note and trial.AP is None]
        assert winner in trials
        assert not silent


def test_a_backend_that_does_not_run_is_no_way() -> None:
    winner, trials = search(WAYS, Goal(budget=100), Plain(broken="openvino"))
    assert winner is not None
    assert winner.way.build.target == "ncnn"
    assert {trial.way.build.target for trial in trials if trial.note == "could not be made or run"} == {"openvino"}


@pytest.mark.parametrize("aim", ["latency", "throughput"])
def test_the_lab_leaves_out_what_does_not_run(aim: Aim, artifact: Artifact, tmp_path: Path) -> None:
    """One artifact is damaged, one is not there."""
    good, bad, none = (Build(target, "fp32", (128, 128)) for target in ("onnx", "openvino", "ncnn"))
    lab = MachineLab(WEIGHTS, scenes_of(tmp_path), shapes_images(2), None, tmp_path, tmp_path / "log", aim, 1)
    lab._asked = {(build.size, build.target, "fp32") for build in (good, bad, none)}
    shutil.copytree(artifact.folder, lab.artifact(good))
    shutil.copytree(artifact.folder, lab.artifact(bad))
    (lab.artifact(bad) / "model.onnx").write_bytes(b"damaged")
    ways = [Way(build, 1, 1) for build in (good, bad, none)]
    assert lab.times(ways, careful=False).keys() == {ways[0]}
    assert len(lab.doubts) == 1
    assert "openvino fp32 128x128" in lab.doubts[0]


def test_one_precision_that_cannot_be_exported_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(config: export.ExportConfig) -> None:
        if config.precision == ("int8",):
            raise UserError("no NNCF here.")
        (tmp_path / f"{config.name}-{config.target[0]}-fp32").mkdir()

    monkeypatch.setattr(export, "command", refuse)
    lab = MachineLab(WEIGHTS, scenes_of(tmp_path), [], None, tmp_path, tmp_path / "log", "latency", 1)
    builds = {Build("openvino", computes, (128, 128)) for computes in ("fp32", "bf16", "int8")}
    lab._export(builds)
    assert {build.computes for build in builds if lab.artifact(build).exists()} == {"fp32", "bf16"}
    assert "openvino int8 128x128: no NNCF here." in lab.doubts[0]


def scenes_of(folder: Path) -> Dataset:
    assert draw_scenes([str(folder / "scenes"), "--train", "1", "--val", "2"]) == 0
    return open_dataset(folder / "scenes", ("val",))


def test_threads_and_streams() -> None:
    build = Build("onnx", "fp32", (416, 416))
    latency = [(way.streams, way.threads) for way in ways_of([build], 6, "latency")]
    assert latency == [(1, 1), (1, 2), (1, 4), (1, 6)]
    throughput = [(way.streams, way.threads) for way in ways_of([build], 6, "throughput")]
    assert throughput == [(1, 6), (2, 3), (3, 2), (6, 1)]


def test_sizes() -> None:
    assert read_sizes((), (416, 416)) == [(416, 416), (320, 320), (192, 192)]
    assert read_sizes(("416", "384x640", "416"), (640, 640)) == [(416, 416), (384, 640)]
    for text in ("400", "0", "4x4x4", "x", "-32", "64x", "big"):
        with pytest.raises(InvalidInput, match="--sizes"):
            read_sizes((text,), (640, 640))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--budget-ms MILLISECONDS or --min-ap POINTS"),
        (["--budget-ms", "5", "--min-ap", "20"], "one of them"),
        (["--budget-ms", "0"], "has to be more than 0"),
        (["--budget-ms", "nan"], "has to be more than 0"),
        (["--min-ap", "0.285"], "28.5, not 0.285"),
        (["--min-ap", "101"], "0 to 100"),
        (["--budget-ms", "5", "--cores", "0"], "--cores"),
        (["--budget-ms", "5", "--output", "full"], "--overwrite"),
        (["--budget-ms", "5", "--target", "onnx", "--precision", "bf16"], "bf16"),
        (["--budget-ms", "5", "--calibration", "nowhere"], "nowhere"),
    ],
)
def test_what_is_refused(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine", encoding="utf-8")
    assert main([str(WEIGHTS), "--data", "scenes", *arguments]) == 1
    assert says in capsys.readouterr().err
    assert [file.name for file in tmp_path.rglob("*")] == ["full", "mine.txt"]


@pytest.mark.slow
def test_the_bundled_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """For real, on generated scenes: the winner is handed over, loads with its options, and is all there is."""
    monkeypatch.chdir(tmp_path)
    draw_scenes(["scenes", "--train", "2", "--val", "6"])
    command = [str(WEIGHTS), "--data", "scenes", "--split", "val", "--sizes", "128", "96", "--precision", "fp32"]
    command += ["--target", "onnx", "ncnn", "--cores", "1"]
    assert main([*command, "--min-ap", "1"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0.01 <= found["winner"]["AP"] <= 1
    with load(tmp_path / found["artifact"], **found["options"]) as detector:
        assert detector.spec.input_size in ((128, 128), (96, 96))
    kept = sorted(path.name for path in (tmp_path / "tuned").iterdir())
    assert kept == sorted(["export.log", "tune.json", Path(found["artifact"]).name])
    table = json.loads((tmp_path / "tuned" / "tune.json").read_text(encoding="utf-8"))
    assert len(table["trials"]) == 4

    assert main([*command, "--budget-ms", "0.001", "--overwrite"]) == 1
    assert "the fastest is" in capsys.readouterr().err
    with load(tmp_path / found["artifact"], **found["options"]):
        pass


def test_what_a_killed_search_left_goes_and_two_do_not_mix(tmp_path: Path) -> None:
    (tmp_path / ".tune-killed" / "model").mkdir(parents=True)
    (tmp_path / ".lock").touch()
    with workbench(tmp_path) as folder:
        assert folder.is_dir()
        assert sorted(file.name for file in tmp_path.iterdir()) == [".lock", folder.name]
    assert list(tmp_path.iterdir()) == []

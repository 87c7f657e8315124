"""Short runs of the fuzzers, from fixed seeds: what was sound stays sound."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzz import __main__ as command
from benchmarks.fuzz import parsers, supervisor
from benchmarks.fuzz.mutate import mutate
from benchmarks.fuzz.supervisor import Outcomes, run_cases
from benchmarks.fuzz.targets import NAMES, TARGETS
from benchmarks.fuzz.worker import structure
from exporters.artifact import Artifact
from runtimes.errors import UserError

ROUNDS = {"checkpoint": 40, "safetensors": 100, "coco": 150, "voc": 150, "yolo": 150, "yaml": 150}  # else 400


@pytest.mark.parametrize("name", NAMES)
def test_readers_end_in_a_sentence(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = TARGETS[name]()
    target.prepare(tmp_path)
    refused = 0
    for number in range(ROUNDS.get(name, 400)):
        random = np.random.default_rng([5, number])
        content = mutate(target.seeds[number % len(target.seeds)], random)
        try:
            target.read(content, tmp_path)
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 0 or name == "output"  # which has no faults to be refused for


def test_damage_comes_from_the_seed_and_stays_where_it_should() -> None:
    content = bytes(range(256)) * 40
    damaged = [mutate(content, np.random.default_rng([seed, 1]), [range(100, 200)]) for seed in range(200)]
    assert damaged[3] == mutate(content, np.random.default_rng([3, 1]), [range(100, 200)])
    assert len(set(damaged)) > 150
    first = [next((i for i, (a, b) in enumerate(zip(one, content, strict=False)) if a != b), -1) for one in damaged]
    assert np.mean([100 <= place < 200 for place in first]) > 0.6


def test_structure_is_where_no_weights_are(artifact: Artifact) -> None:
    content = artifact.model.read_bytes()
    spans = structure(content)
    assert sum(map(len, spans)) < len(content) / 5
    assert any(content[span.start : span.stop].find(b"MaxPool") >= 0 for span in spans)


STAND_IN = """
import json, os, sys, time
first, last = map(int, sys.argv[-2:])
for number in range(first, last):
    print(json.dumps([number, "begun", ""]), flush=True)
    if number == 2:
        os.kill(os.getpid(), 11)
    if number == 4:
        time.sleep(60)
    kind = {5: "foreign", 6: "refused"}.get(number, "ran")
    print(json.dumps([number, kind, "text"]), flush=True)
"""


def test_crashes_and_hangs_are_seen_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "WORKER", (sys.executable, "-c", STAND_IN))
    monkeypatch.setattr(supervisor, "HANG", 2.0)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "model.onnx").touch()
    done: list[int] = []
    outcomes = run_cases(tmp_path / "artifact", tmp_path, 0, range(1, 8), lambda: done.append(1))
    assert outcomes.counts == {"ran": 3, "refused": 1, "foreign": 1, "crash": 1, "hang": 1}
    assert outcomes.faults == {2: "crash: SIGSEGV", 4: "hang: more than 2 s", 5: "foreign: text"}
    assert len(done) == 7
    assert sorted(path.name for path in tmp_path.glob("*-*")) == ["crash-2", "foreign-5", "hang-4"]


@pytest.mark.parametrize("target", ["onnx", "openvino", "ncnn"])
def test_damaged_artifacts_run_or_are_refused(target: str, little: Callable[[str], Artifact]) -> None:
    artifact = little(target)
    outcomes = command.fuzz(artifact.folder, command.FuzzConfig((artifact.folder,), files=40, processes=1, seed=3))
    assert not outcomes.faults
    assert outcomes.counts["ran"] > 0 and outcomes.counts["refused"] > 5


def test_outcomes_add_up() -> None:
    one, other = Outcomes(), Outcomes()
    one.add(1, "ran", "")
    other.add(2, "crash", "SIGSEGV")
    one.merge(other)
    assert (one.counts["ran"], one.counts["crash"], one.faults) == (1, 1, {2: "crash: SIGSEGV"})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [([], "name artifacts"), (["here"], "not the folder"), (["here", "--files", "0"], "files")],
)
def test_wrong_arguments(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(arguments) == 1
    assert says in capsys.readouterr().err


@pytest.mark.slow
def test_guided_by_coverage(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("atheris", reason="needs atheris, which has no wheel here")
    assert parsers.main(["spec", "param", "output", "--seconds", "15"]) == 0
    assert "| spec |" in capsys.readouterr().out

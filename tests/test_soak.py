"""A short soak. Limits are wide here; a leak of what belongs to an image or a model is beyond them by far."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.soak import __main__ as soak
from benchmarks.soak import interrupt, promises
from benchmarks.soak.gauge import PARTS, Gauge, Sample, slope, trend
from benchmarks.soak.interrupt import faults_in
from benchmarks.soak.promises import Row, of_cycles, of_load, of_stream
from benchmarks.soak.work import SCORE, Artifact, Streamed, detect_many, open_and_close
from runtimes import Detector, InvalidInput
from runtimes.preprocess import Image
from runtimes.runtime import Runtime

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for its memory")

TARGETS = ("onnx", "openvino", "ncnn")


@pytest.fixture(scope="module")
def artifacts(little: Callable[[str], Artifact]) -> dict[str, Path]:
    return {target: little(target).folder for target in TARGETS}


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises, "MOST_GROWTH", 200.0)  # MiB for 10,000 images: 20 KiB an image
    monkeypatch.setattr(promises, "MOST_LEFT", 50.0)  # MiB for 100 cycles: half a megabyte each, of 3.6 of weights
    monkeypatch.setattr(promises, "MOST_SECONDS", float("inf"))


def test_everything_that_is_promised_of_one_artifact(
    artifacts: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(interrupt, "MOMENTS", (3,))
    assert soak.main([str(artifacts["onnx"]), "--images", "640", "--cycles", "16"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    rows = json.loads(last)["rows"]
    assert len(rows) == 14
    assert not [row for row in rows if row["kept"] == "NO"]
    assert sum(row["figures"].get("images", 0) for row in rows) == 640


@pytest.mark.parametrize("target", TARGETS)
def test_closing_gives_back_what_opening_took(target: str, artifacts: dict[str, Path]) -> None:
    rows = of_cycles(target, open_and_close(Artifact(artifacts[target], {"threads": 1}), 16))
    assert not [str(row) for row in rows if row.kept == "NO"]
    assert rows[0].figures["taken"] > 1  # MiB: there is something to give back


class Faulty:
    """A runtime that keeps memory, opens files, or finds something else each time."""

    def __init__(self, inner: Runtime, fault: str) -> None:
        self._inner, self._fault = inner, fault
        self.spec = inner.spec
        self.kept: list[Any] = []

    def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        output = self._inner.infer(images)
        if self._fault == "memory":
            self.kept.append(np.ones(1 << 16))  # half a megabyte
        if self._fault == "descriptors":
            self.kept.append(os.open(os.devnull, os.O_RDONLY))
        if self._fault == "results":
            output[..., :4] += len(self.kept) % 2
            self.kept.append(None)
        return output

    def close(self) -> None:
        self._inner.close()
        if self._fault == "descriptors":
            for descriptor in self.kept:
                os.close(descriptor)


class FaultyArtifact(Artifact):
    fault = ""

    def open(self, streams: int = 1) -> Detector:
        return Detector(Faulty(super().open().runtime, self.fault), SCORE, streams=streams)


@pytest.mark.parametrize(
    ("fault", "broken"),
    [("", []), ("results", ["the same results"]), ("memory", ["memory is flat"]), ("descriptors", ["descriptors and"])],
)
def test_each_fault_under_load_is_seen(fault: str, broken: list[str], artifacts: dict[str, Path]) -> None:
    artifact = FaultyArtifact(artifacts["onnx"], {"threads": 1})
    object.__setattr__(artifact, "fault", fault)
    run = detect_many(artifact, 320, 4, show=False)
    found = [row.promise for row in of_load("onnx", "load", [run], run.expected) if row.kept == "NO"]
    assert len(found) == len(broken)
    assert all(part in promise for part, promise in zip(broken, found, strict=True))


def test_other_results_in_another_process_are_seen(artifacts: dict[str, Path]) -> None:
    run = detect_many(Artifact(artifacts["onnx"], {"threads": 1}), 80, 2, show=False)
    assert of_load("onnx", "load", [run, replace(run, expected="other")], run.expected)[0].kept == "NO"


def test_a_slope_lies_in_its_interval() -> None:
    random = np.random.default_rng(0)
    x = np.arange(400)
    inside = 0
    for _ in range(100):
        found = slope(x, 3 + 0.5 * x + random.normal(0, 20, 400))
        inside += found.low <= 0.5 <= found.high
    assert 88 <= inside <= 100


def test_the_warm_up_is_not_counted() -> None:
    samples = [Sample(done, float(min(done, 40)), min(done, 40), 3) for done in range(100)]
    assert trend(samples).resident.value == pytest.approx(0)
    assert (trend(samples).descriptors, trend(samples).threads) == (0, 0)
    with pytest.raises(InvalidInput, match="too few"):
        trend(samples[: 2 * PARTS - 3])


def test_what_is_free_is_not_counted_as_held() -> None:
    gauge = Gauge()
    before = gauge.settled()
    held = [np.ones(1 << 13) for _ in range(1000)]  # 64 KiB each, below what the allocator maps by itself
    assert gauge.settled() > before + 50
    del held
    assert gauge.settled() < before + 20


@pytest.mark.parametrize(
    "broken",
    [{"on_the_way": 9}, {"grown": 500.0}, {"failed": False}, {"left": 1}, {"differ": 1}],
    ids=str,
)
def test_each_promise_of_a_stream_can_be_broken(broken: dict[str, Any]) -> None:
    kept = Streamed(on_the_way=8, grown=50.0, failed=True, left=0, differ=0)

    def verdicts(found: Streamed) -> list[Row]:
        return [row for row in of_stream("m", found) if row.kept == "NO"]

    assert verdicts(kept) == []
    assert len(verdicts(replace(kept, **broken))) == 1


def damage_picture(output: Path) -> None:
    (output / "1.jpg").write_bytes((output / "1.jpg").read_bytes()[:200])


def leave_part(output: Path) -> None:
    (output / ".1.part.jpg").touch()


def cut_list(output: Path) -> None:
    (output / "detections.json").write_text('[{"image_id": 1')


def lose_picture(output: Path) -> None:
    (output / "1.jpg").unlink()


@pytest.mark.parametrize("damage", [damage_picture, leave_part, cut_list, lose_picture])
def test_what_is_left_half_is_seen(damage: Callable[[Path], None], images: list[Image], tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), images[number])
    (tmp_path / "detections.json").write_text(json.dumps([{"image_id": number} for number in range(3)]))
    assert faults_in(tmp_path) == []
    damage(tmp_path)
    assert len(faults_in(tmp_path)) == 1


def test_bad_arguments_are_one_sentence(artifacts: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main([]) == 1
    assert "name artifacts" in capsys.readouterr().err
    assert soak.main([str(artifacts["onnx"]), "--cycles", "0"]) == 1
    assert "--cycles must be at least 1" in capsys.readouterr().err

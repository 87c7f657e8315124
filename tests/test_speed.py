"""Timing that can be trusted: stages, fresh processes, intervals, and what else the machine did."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.compare.intervals import differs, speed_ratio, summarize
from benchmarks.compare.process import Worker, WorkerDied
from benchmarks.compare.speed import (
    Contender,
    SpeedPlan,
    batches_of,
    measure,
    runs_in_round,
    stream_options,
    sweep_throughput,
)
from benchmarks.compare.worker import Desk, Warmup, is_steady
from benchmarks.machine import Load, describe_machine, load_between, usage, warnings
from benchmarks.stages import StageTimes, detect_timed
from exporters.artifact import Artifact
from exporters.torch_runtime import TorchRuntime
from runtimes import Detector, ModelSpec, UserError
from runtimes.preprocess import Image
from yolox_deploy import export
from yolox_deploy.data.shapes import shapes_images
from yolox_deploy.model.yolox import YOLOX

SLEEP = 0.05
BUNDLED = Path(__file__).parents[1] / "yolox_deploy" / "weights" / "yolox-nano-scenes.safetensors"


class Slow:
    """A runtime that sleeps, 50 ms a call; with `timed`, in the transfer to its device."""

    def __init__(self, inner: TorchRuntime) -> None:
        self.inner, self.spec = inner, inner.spec

    def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        time.sleep(SLEEP)
        return self.inner.infer(images)

    def close(self) -> None: ...


class SlowTransfer(Slow):
    def infer_timed(self, images: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], dict[str, float]]:
        return self.infer(images), {"copy_in": 1e3 * SLEEP, "compute": 1.0, "copy_out": 0.5}


@pytest.fixture
def inner(seeded_nano: YOLOX, small_spec: ModelSpec) -> TorchRuntime:
    return TorchRuntime(seeded_nano, small_spec)


def test_what_is_slow_shows_in_its_stage(inner: TorchRuntime, images: list[Image]) -> None:
    plain = detect_timed(Detector(inner), images[:1])[1]
    found, slow = detect_timed(Detector(Slow(inner)), images[:1])
    assert slow.compute >= 1e3 * SLEEP and slow.preprocess < 1e3 * SLEEP and slow.postprocess < 1e3 * SLEEP
    assert slow.engine == slow.compute
    assert slow.total == pytest.approx(slow.preprocess + slow.engine + slow.postprocess, abs=1)
    assert plain.copy_in == plain.copy_out == 0
    expected = Detector(inner)(images[0])
    assert np.array_equal(found[0].xyxy, expected.xyxy)


def test_transfers_are_those_of_the_device(inner: TorchRuntime, images: list[Image]) -> None:
    _, times = detect_timed(Detector(SlowTransfer(inner)), images[:1])
    assert (times.copy_in, times.compute, times.copy_out) == (50, 1, 0.5)
    assert times.engine >= 50


def test_a_worker_answers_from_a_process_of_its_own(artifact: Artifact, images: list[Image]) -> None:
    with Worker(artifact.folder, images, {"threads": 1}) as worker:
        assert worker.pid != os.getpid()
        assert worker.load_milliseconds > 0
        assert worker.warm_up().runs >= 20
        times = worker.run_round(3)
        assert len(times) == 3 and all(one.total > one.engine > 0 for one in times)
        assert worker.throughput(1, 0.3) > 0
        assert 20 < worker.peak_memory() < 2000
    worker.close()


def test_what_goes_wrong_in_a_worker_is_said(artifact: Artifact, images: list[Image], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        Worker(tmp_path / "nothing", images, {})
    with pytest.raises(UserError, match="no option 'contexts'"):
        Worker(artifact.folder, images, {"contexts": 2})
    with Worker(artifact.folder, images, {"threads": 1}) as worker:
        os.kill(worker.pid, 9)
        with pytest.raises(WorkerDied, match="ended with code -9 while it was to run_round"):
            worker.run_round(1)


def test_all_take_turns_in_every_launch(artifact: Artifact, images: list[Image]) -> None:
    contenders = [Contender(name, artifact.folder, {"threads": 1}) for name in ("one", "other")]
    speed = measure(contenders, images, SpeedPlan(launches=2, rounds=2))
    assert speed.timings.keys() == {"one", "other"}
    for timing in speed.timings.values():
        assert [len(launch) for launch in timing.launches] == [2, 2] and len(timing.load_milliseconds) == 2
        assert timing.stages()["compute"] > 0
        assert timing.summary("total").p50.value > timing.summary("engine").p50.value
    assert len(speed.loads) == 2
    assert speed.drift("one") >= 0


def test_every_way_to_share_the_cores(artifact: Artifact, images: list[Image]) -> None:
    contender = Contender("one", artifact.folder, {"threads": 1})
    found, loads = sweep_throughput(contender, images, cores=2, batches=(1, 2), seconds=0.3)
    assert len(loads) == 2
    assert [(way.streams, way.threads, way.batch) for way in found] == [(1, 2, 1), (1, 2, 2), (2, 1, 1), (2, 1, 2)]
    assert all(way.images_per_second > 0 for way in found)
    assert stream_options(artifact.folder, 2, 4) == {"streams": 2, "threads": 2}


def test_a_stream_that_fails_ends_the_measurement(artifact: Artifact, images: list[Image]) -> None:
    """A worker whose detector cannot take a larger batch, say, is no worker that nobody hears of again."""
    desk = Desk()
    desk.open(str(artifact.folder), images, {"threads": 1, "streams": 2})

    def refuse(detector: Detector, images: list[Image]) -> None:
        raise UserError("no memory")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match="no memory"):
        patch.setattr(Detector, "_detect", refuse)
        desk.throughput(1, 0.2)
    desk.close()


def test_times_are_those_of_an_image() -> None:
    times = StageTimes(1, 0, 8, 0, 1, 8, 10)
    assert times.share(4) == StageTimes(0.25, 0, 2, 0, 0.25, 2, 2.5)


def test_batches_are_tried_where_the_artifact_takes_any(small_spec: ModelSpec) -> None:
    assert batches_of(replace(small_spec, batch=3)) == (3,)
    assert batches_of(replace(small_spec, batch=None)) == (1, 2, 4, 8)


@pytest.mark.parametrize(
    ("times", "steady"),
    [
        ([1.0] * 19, False),
        ([1.0] * 20, True),
        ([1.1] * 10 + [1.0] * 10, False),
        ([1.1] * 10 + [1.0] * 20, True),
        ([1.0] * 10 + [1.02] * 10, True),
    ],
)
def test_when_times_are_steady(times: list[float], steady: bool) -> None:
    assert is_steady(times) is steady


def test_a_round_fills_a_fifth_of_a_second() -> None:
    assert runs_in_round(Warmup(20, 0.4, True)) == 10
    assert runs_in_round(Warmup(20, 40, True)) == 3
    assert runs_in_round(Warmup(2000, 1, True)) == 20


Rounds = list[list[float]]


def launches(
    random: np.random.Generator, milliseconds: float, spread: float, drift: npt.NDArray[np.float64]
) -> list[Rounds]:
    """Times on a machine whose speed changes by `drift` (launches, rounds), each launch with luck of its own."""
    found = []
    for own in drift:
        launch = milliseconds * random.normal(1, spread)
        found.append([(launch * speed * random.normal(1, 0.02, 8)).tolist() for speed in own])
    return found


def test_ratios_hold_on_a_machine_that_drifts() -> None:
    random = np.random.default_rng(0)
    drift = 1 + 0.5 * random.random((5, 4))
    ratio = speed_ratio(launches(random, 20, 0.005, drift), launches(random, 10, 0.005, drift))
    assert ratio.low < 2 < ratio.high and ratio.high - ratio.low < 0.15
    assert summarize(launches(random, 20, 0, drift)).cv > 0.1


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.02])
def test_the_interval_holds_the_truth_as_often_as_it_says(spread: float) -> None:
    """Also where each launch has luck of its own, that all of its rounds share."""
    random, inside = np.random.default_rng(1), 0
    for _ in range(200):
        drift = 1 + 0.3 * random.random((5, 4))
        ratio = speed_ratio(launches(random, 20, spread, drift), launches(random, 20, spread, drift))
        inside += ratio.low <= 1 <= ratio.high
    assert inside >= 0.93 * 200


def test_the_same_is_hardly_ever_called_different_and_another_always() -> None:
    random, claims, found = np.random.default_rng(1), 0, 0
    for _ in range(200):
        drift = 1 + 0.3 * random.random((5, 4))
        claims += differs(speed_ratio(launches(random, 20, 0.01, drift), launches(random, 20, 0.01, drift)))
        found += differs(speed_ratio(launches(random, 22, 0.01, drift), launches(random, 20, 0.01, drift)))
    assert claims <= 10
    assert found >= 190


def test_summaries() -> None:
    summary = summarize([[[1.0, 2, 3], [2.0, 3, 4]]])
    assert summary.p50.value == 2.5 and summary.p50.low <= 2.5 <= summary.p50.high
    assert summary.p90.value == pytest.approx(3.5) and summary.p99.value == pytest.approx(3.95)
    assert summary.p99.low <= summary.p99.value <= summary.p99.high <= 4


def test_other_processes_are_noticed() -> None:
    start = usage([])
    end = type(start)(start.clock + 10, start.busy + 12, start.stolen + 1, start.own + 8)
    load = load_between(start, end)
    assert (load.others, load.stolen, load.seconds) == (pytest.approx(0.4), pytest.approx(0.1), pytest.approx(10))
    assert warnings([Load(0.05, 0, 10)], 0.05) == []
    busy, stolen, drifted = warnings([Load(0.4, 0.1, 10), Load(0.2, 0.1, 10)], 0.3)
    assert "took 0.30 cores" in busy and "0.10 cores" in stolen and "30%" in drifted


def test_own_work_is_not_that_of_others() -> None:
    start = usage([])
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass
    used = usage([])
    assert used.own - start.own == pytest.approx(0.5, abs=0.2)
    assert used.busy - start.busy >= used.own - start.own - 0.2


def test_the_manifest() -> None:
    machine = describe_machine()
    assert machine.cores >= 1 and machine.memory_gib > 0 and machine.python
    assert machine.packages["numpy"] == np.__version__


@pytest.fixture(scope="module")
def real_contenders(tmp_path_factory: pytest.TempPathFactory) -> list[Contender]:
    """The bundled model at its own size, for two backends: real work in real processes."""
    folder = tmp_path_factory.mktemp("real")
    assert export.main(["--weights", str(BUNDLED), "--target", "onnx", "openvino", "--output", str(folder)]) == 0
    found = sorted(path for path in folder.iterdir() if path.is_dir())
    return [Contender(path.name, path, {"threads": 1}) for path in found]


@pytest.mark.slow
def test_one_artifact_under_two_names_is_not_called_different(real_contenders: list[Contender]) -> None:
    """20 times, of which one may be wrong at the 95 % level."""
    twins = [replace(real_contenders[0], name=name) for name in ("one", "other")]
    claims = []
    for seed in range(20):
        timings = measure(twins, shapes_images(8), SpeedPlan(seed=seed)).timings
        ratio = speed_ratio(timings["one"].of("total"), timings["other"].of("total"))
        print(f"{seed}: {ratio}{' DIFFERENT' if differs(ratio) else ''}")
        claims.append(differs(ratio))
    assert sum(claims) <= 1


@pytest.mark.slow
def test_a_busy_core_is_noticed_and_ratios_hold(real_contenders: list[Contender]) -> None:
    """On two cores or more: one is kept busy in the second run."""
    ratios, said = [], []
    for busy in (False, True):
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"])] if busy else []
        try:
            speed = measure(real_contenders, shapes_images(8), SpeedPlan())
        finally:
            for process in others:
                process.kill()
                process.wait()
        one, other = (speed.timings[contender.name].of("total") for contender in real_contenders)
        ratios.append(speed_ratio(one, other))
        said.append(warnings(speed.loads, 0))
    print(ratios, said)
    assert max(ratio.low for ratio in ratios) <= min(ratio.high for ratio in ratios)
    assert not said[0]
    assert any("busy" in text for text in said[1])

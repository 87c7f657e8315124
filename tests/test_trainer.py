"""Trainings that are stopped by force, find their checkpoint damaged, run out of disk or diverge."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch

from benchmarks.faults.moments import Moment, run_until
from benchmarks.faults.trainings import content, identical
from exporters.lock import only_here
from yolox_deploy import train
from yolox_deploy.data.loader import Batch
from yolox_deploy.data.scenes import ScenesConfig, write_scenes
from yolox_deploy.model.safe_load import safe_load
from yolox_deploy.model.variants import STRIDES
from yolox_deploy.model.yolox import YOLOX
from yolox_deploy.training.engine import Engine, to_device
from yolox_deploy.training.loss import Losses, YOLOXLoss

OPTIONS = ["--model", "yolox-nano", "--input-size", "64", "64", "--multi-scale", "64", "64", "--batch", "4"]
OPTIONS += ["--no-augmentation-epochs", "1", "--device", "cpu", "--workers", "0", "--logger"]
SECOND_CHECKPOINT = 18  # the change to the folder that begins it
SHORT = ["--epochs", "2", "--warmup-epochs", "1"]  # of two steps each


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As the processes have that are killed: the same additions in the same order."""
    former = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(former)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "scenes"
    write_scenes(ScenesConfig(folder, train=8, val=2))
    return folder


def run(data: Path, output: Path, *options: str) -> int:
    return train.main(["--data", str(data), "--output", str(output), *OPTIONS, *options])


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run(data, output, *SHORT) == 0
    return output


@pytest.fixture
def before_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], None]:
    """Have something happen, once, just before that step of a training."""
    original = Engine.step

    def plan(number: int, happening: Callable[[], object]) -> None:
        def step(engine: Engine, parts: Sequence[Batch]) -> list[Losses]:
            if engine.state.progress.step == number:
                monkeypatch.setattr(Engine, "step", original)
                happening()
            return original(engine, parts)

        monkeypatch.setattr(Engine, "step", step)

    return plan


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kills, and reads /proc")
def test_killed_in_the_middle_of_a_checkpoint(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    """The second one; by the kernel, at a byte of it."""
    output = tmp_path / "run"
    arguments = ["train", "--data", str(data), "--output", str(output), *OPTIONS, *SHORT]
    ended = run_until(Moment(change=SECOND_CHECKPOINT, size=6_000_000), arguments, output)
    assert (ended.code, ended.changes[-1]) == (-signal.SIGXFSZ, "open /.last.part.pth")
    assert (output / ".last.part.pth").stat().st_size == 6_000_000
    assert safe_load(output / "last.pth")["progress"]["step"] == 2
    assert run(data, output, *SHORT, "--resume") == 0
    assert identical(content(output), content(undisturbed))
    assert {file.name for file in output.iterdir()} == {file.name for file in undisturbed.iterdir()}


def stop() -> None:
    raise KeyboardInterrupt  # at once, as a second Ctrl-C does


def test_a_damaged_checkpoint_costs_what_came_after_the_one_before(
    data: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    before_step: Callable[[int, Callable[[], object]], None],
) -> None:  # fmt: skip
    before_step(3, stop)
    assert run(data, tmp_path / "run", *SHORT) == 130
    last = tmp_path / "run" / "last.pth"
    last.write_bytes(last.read_bytes()[:-1000])
    assert run(data, tmp_path / "run", *SHORT, "--resume") == 0
    assert f"note: {last} is damaged or cut short. Going on from" in capsys.readouterr().out
    assert identical(content(tmp_path / "run"), content(undisturbed))


def test_an_error_that_nobody_foresaw_leaves_no_processes(
    data: Path, tmp_path: Path, before_step: Callable[[int, Callable[[], object]], None]
) -> None:
    """Python would wait for them, at its end, for ever."""

    def fail() -> None:
        assert multiprocessing.active_children()
        raise ZeroDivisionError

    before_step(1, fail)
    with pytest.raises(ZeroDivisionError) as kept:
        run(data, tmp_path / "run", *SHORT, "--workers", "1")
    assert kept.tb is not None and not multiprocessing.active_children()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_sentence_and_costs_what_was_not_saved(
    data: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    before_step: Callable[[int, Callable[[], object]], None],
) -> None:  # fmt: skip
    output = tmp_path / "run"
    before_step(3, lambda: (output / ".last.part.pth").symlink_to("/dev/full"))
    assert run(data, output, *SHORT) == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "last.pth cannot be written into" in error and "(No space left on device)" in error
    assert safe_load(output / "last.pth")["progress"]["step"] == 2
    assert run(data, output, *SHORT, "--resume") == 0
    assert identical(content(output), content(undisturbed))
    assert {file.name for file in output.iterdir()} == {file.name for file in undisturbed.iterdir()}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks")
def test_a_second_training_in_the_same_folder_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        with only_here(tmp_path / "run" / ".lock", ""):
            (tmp_path / "run" / ".best.part.pth").write_text("half of it")
            os.write(writer, b"x")
            signal.pause()
    os.read(reader, 1)
    assert run(data, tmp_path / "run", *SHORT) == 1
    assert "another training is writing into" in capsys.readouterr().err
    assert (tmp_path / "run" / ".best.part.pth").exists()
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def is_finite(weights: dict[str, torch.Tensor]) -> bool:
    return all(bool(value.isfinite().all()) for value in weights.values() if value.is_floating_point())


# The warm-up takes the learning rate there by and by, so that the first epoch ends well.
@pytest.mark.parametrize(("rate", "what"), [("1e9", "the loss is"), ("1e7", "the weights are")])
def test_what_diverges_leaves_the_batch_and_the_last_good_checkpoint(
    rate: str, what: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    diverging = ["--epochs", "6", "--warmup-epochs", "5", "--learning-rate", rate]
    assert run(data, tmp_path, *diverging) == 1
    assert f"{what} not finite at step" in capsys.readouterr().err
    last = safe_load(tmp_path / "last.pth")
    assert last["progress"]["step"] == last["progress"]["epoch"] * 2 == 2
    assert is_finite(last["raw_model"]) and is_finite(last["model"])
    assert loss_of(tmp_path / "not_finite_0.pt", last["raw_model"]) < torch.inf
    assert not loss_of(tmp_path / "not_finite_0.pt", None) < torch.inf


def loss_of(file: Path, weights: dict[str, torch.Tensor] | None) -> float:
    """Of the batch that was saved, with some weights or those that were saved with it."""
    saved = torch.load(file, weights_only=True)
    model = YOLOX("yolox-nano", 10).train()
    model.load_state_dict(weights or saved["raw_model"])
    images, labels = to_device(Batch(saved["images"], saved["labels"]), torch.device("cpu"), True)
    with torch.no_grad():
        return float(YOLOXLoss(STRIDES)(model(images), labels, (64, 64), False).total)

"""Two checkpoints, of which one is whole whatever happens."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.faults.fatal import Watch
from runtimes import InvalidInput
from yolox_deploy.model.safe_save import is_whole
from yolox_deploy.training.ema import ModelEMA
from yolox_deploy.training.history import EpochRecord
from yolox_deploy.training.state import BEST, LAST, PREVIOUS, Progress, TrainingState, newest
from yolox_deploy.training.trainer import Pace, Trainer


@pytest.fixture
def state() -> TrainingState:
    model = nn.Linear(20, 20)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return TrainingState(model, ModelEMA(model, 0.9), optimizer, Progress(), {"seed": 0})


def save(state: TrainingState, folder: Path, step: int) -> None:
    """At that step, which the weights tell as well."""
    state.progress.step = step
    nn.init.constant_(state.model.get_parameter("weight"), step)
    state.save(folder)


def step_of(folder: Path) -> int:
    """That the training would go on from."""
    _, content, _ = newest(folder)
    step: int = content["progress"]["step"]
    assert (content["raw_model"]["weight"] == step).all()
    return step


def killed(watch: Watch, state: TrainingState, folder: Path, step: int) -> bool:
    process = os.fork()
    if process == 0:
        watch.process = os.getpid()
        sys.addaudithook(watch)
        try:
            save(state, folder, step)
            os._exit(0)
        except BaseException:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code in (0, -signal.SIGKILL, -signal.SIGXFSZ)
    return code != 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and reads /proc")
@pytest.mark.parametrize("saved", [1, 2])
def test_killed_at_every_change_and_in_every_write(saved: int, state: TrainingState, tmp_path: Path) -> None:
    """With a checkpoint, and with the one before it too."""
    folder, start = tmp_path / "run", tmp_path / "start"
    start.mkdir()
    for step in range(1, saved + 1):
        save(state, start, step)
    found = []
    for change in range(1, 20):
        shutil.copytree(start, folder)
        was_killed = killed(Watch(str(folder), change=change), state, folder, saved + 1)
        found.append(step_of(folder))
        shutil.rmtree(folder)
        if not was_killed:
            break
    assert found == [saved] * 3 + [saved + 1]  # before: open, last to previous, part to last; and all done
    for size in range(0, (start / LAST).stat().st_size, 500):
        shutil.copytree(start, folder)
        assert killed(Watch(str(folder), change=1, size=size), state, folder, saved + 1)
        assert step_of(folder) == saved
        save(state, folder, saved + 1)
        assert step_of(folder) == saved + 1
        assert sorted(file.name for file in folder.iterdir()) == [LAST, PREVIOUS]
        shutil.rmtree(folder)


def test_a_damaged_checkpoint_is_passed_over_and_never_becomes_the_previous_one(
    state: TrainingState, tmp_path: Path
) -> None:
    for step in (1, 2, 3):
        save(state, tmp_path, step)
    (tmp_path / LAST).write_bytes((tmp_path / LAST).read_bytes()[:-100])
    assert state.resume(tmp_path) == (
        f"{tmp_path / LAST} is damaged or cut short. Going on from {tmp_path / PREVIOUS}, the checkpoint before it."
    )
    assert state.progress.step == 2
    assert (state.model.get_parameter("weight") == 2).all()
    save(state, tmp_path, 4)
    assert is_whole(tmp_path / PREVIOUS) and is_whole(tmp_path / LAST)
    assert step_of(tmp_path) == 4
    (tmp_path / LAST).unlink()
    assert "does not exist. Going on from" in state.resume(tmp_path)
    assert state.progress.step == 2


def test_damaged_best_weights_are_said_at_once_and_found_anew(state: TrainingState, tmp_path: Path) -> None:
    state.progress.best_ap, state.progress.best_epoch = 0.5, 3
    save(state, tmp_path, 1)
    shutil.copy(tmp_path / LAST, tmp_path / BEST)
    assert state.resume(tmp_path) == "" and state.progress.best_epoch == 3
    (tmp_path / BEST).write_bytes(b"")
    assert "best.pth is damaged or gone, and with it epoch 3" in state.resume(tmp_path)
    assert (state.progress.best_ap, state.progress.best_epoch) == (0.0, 0)  # so that the next to be measured is better
    trainer = object.__new__(Trainer)  # a training that has been patient for long, before
    state.progress.history = [EpochRecord(epoch, epoch, 0.1, {}, {"AP": 0.5}, 1.0, 1.0) for epoch in range(1, 9)]
    trainer.state, trainer.pace = state, Pace(patience=3)
    assert not trainer._is_stale()
    state.progress.best_epoch = 3
    assert trainer._is_stale()


def test_two_damaged_ones_are_one_sentence(state: TrainingState, tmp_path: Path) -> None:
    for step in (1, 2):
        save(state, tmp_path, step)
    assert state.resume(tmp_path) == ""
    for name in (LAST, PREVIOUS):
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(InvalidInput, match=r"previous\.pth is damaged"):
        state.resume(tmp_path)


def test_what_is_not_a_number_is_found_wherever_it_is(state: TrainingState) -> None:
    assert state.is_finite()
    holders: list[Any] = [state.model, state.ema.model]
    for holder in holders:
        weight = holder.weight
        former = float(weight.data[3, 4])
        for value in (float("nan"), float("inf")):
            weight.data[3, 4] = value
            assert not state.is_finite()
        weight.data[3, 4] = former
    assert state.is_finite()

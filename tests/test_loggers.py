"""Figures reach the loggers' own services. A stand-in shows the calls; the services are not part of the tests."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from runtimes.errors import InvalidInput, MissingBackend
from yolox_deploy.training.loggers import make_loggers


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_without_its_package_it_says_what_to_type(name: str, tmp_path: Path) -> None:
    if name in sys.modules or _installed(name):
        pytest.skip(f"{name} is installed")
    with pytest.raises(MissingBackend, match=f"pip install {name}"):
        make_loggers([name], tmp_path)


def _installed(name: str) -> bool:
    from yolox_deploy.console import is_installed

    return is_installed(name)


def stand_in(name: str, calls: list[Any]) -> ModuleType:
    """A fake of the few functions that are called."""
    module = ModuleType(name)
    module.__spec__ = SimpleNamespace(name=name)  # type: ignore[assignment]
    if name == "wandb":
        run = SimpleNamespace(log=lambda values, step: calls.append((values, step)), finish=lambda: calls.append("end"))
        module.init = lambda **options: run  # type: ignore[attr-defined]
        return module
    module.set_experiment = lambda experiment: None  # type: ignore[attr-defined]
    module.start_run = lambda run_name: None  # type: ignore[attr-defined]
    module.log_metrics = lambda values, step: calls.append((values, step))  # type: ignore[attr-defined]
    module.end_run = lambda: calls.append("end")  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_figures_arrive(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setitem(sys.modules, name, stand_in(name, calls))
    (logger,) = make_loggers([name], tmp_path)
    logger.log_metrics({"loss/total": 2.5}, 7)
    logger.finalize("success")
    assert calls == [({"loss/total": 2.5}, 7), "end"]


def test_a_service_that_does_not_start_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: object) -> None:
        raise ConnectionError("no account\nand more lines")

    module = stand_in("wandb", [])
    module.init = refuse  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    with pytest.raises(InvalidInput, match=r"^--logger wandb does not start: no account$"):
        make_loggers(["wandb"], tmp_path)

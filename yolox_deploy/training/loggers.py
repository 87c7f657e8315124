"""Where the figures of a training go, besides its own files. Each logger needs its own package, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import Logger
from lightning_fabric.utilities.rank_zero import rank_zero_only

from runtimes.errors import InvalidInput, UserError, first_line
from yolox_deploy.console import require


def _tensorboard(folder: Path) -> Any:
    require("tensorboard")
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    return TensorBoardLogger(folder, name="tensorboard", version="")


class MetricsLogger(Logger):
    """Hands each step's figures, by name, to a function, in the first process alone. `finish` ends the run.

    Not Lightning's own loggers for W&B and MLflow: they come with pytorch_lightning, which brings a Fabric of its own.
    """

    def __init__(self, name: str, log: Callable[[Mapping[str, float], int], object], finish: Callable[[], object]):
        self._name, self._log, self._finish = name, log, finish

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._log(metrics, step or 0)

    @rank_zero_only
    def log_hyperparams(self, *arguments: Any, **options: Any) -> None: ...

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self._finish()


def _wandb(folder: Path) -> Any:
    require("wandb")
    import wandb

    run = wandb.init(project="yolox-deploy", name=folder.name, dir=folder)
    return MetricsLogger("wandb", lambda metrics, step: run.log(dict(metrics), step=step), run.finish)


def _mlflow(folder: Path) -> Any:
    require("mlflow")
    import mlflow

    mlflow.set_experiment("yolox-deploy")
    mlflow.start_run(run_name=folder.name)

    def log(metrics: Mapping[str, float], step: int) -> None:
        mlflow.log_metrics(dict(metrics), step=step)

    return MetricsLogger("mlflow", log, mlflow.end_run)


def check_loggers(names: Sequence[str]) -> None:
    """Raises `MissingBackend`, with what to type, where a logger's package is not installed."""
    require(*names)  # which are the packages' names as well


LOGGERS: dict[str, Callable[[Path], Any]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}


def make_loggers(names: Sequence[str], folder: Path) -> list[Any]:
    """Raises `MissingBackend`, with what to type, where a logger's package is not installed, and `InvalidInput` where
    it does not start: without an account, or a place to write to."""
    return [_started(name, folder) for name in names]


def _started(name: str, folder: Path) -> Any:
    try:
        return LOGGERS[name](folder)
    except UserError:
        raise
    except Exception as error:  # each has errors of its own
        raise InvalidInput(f"--logger {name} does not start: {first_line(error)}") from None

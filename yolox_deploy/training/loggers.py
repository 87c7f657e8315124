"""Where the figures of a training go, besides its own files: Lightning's loggers, each with its own package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from yolox_deploy.console import require


def _tensorboard(folder: Path) -> Any:
    require("tensorboard")
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    return TensorBoardLogger(folder, name="tensorboard", version="")


def _wandb(folder: Path) -> Any:
    require("wandb", "pytorch_lightning")
    from pytorch_lightning.loggers import WandbLogger

    return WandbLogger(project="yolox-deploy", name=folder.name, save_dir=folder)


def _mlflow(folder: Path) -> Any:
    require("mlflow", "pytorch_lightning")
    from pytorch_lightning.loggers import MLFlowLogger

    return MLFlowLogger(experiment_name="yolox-deploy", run_name=folder.name)


LOGGERS: dict[str, Callable[[Path], Any]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}


def make_loggers(names: Sequence[str], folder: Path) -> list[Any]:
    """Raises `MissingBackend`, with what to type, where a logger's package is not installed."""
    return [LOGGERS[name](folder) for name in names]

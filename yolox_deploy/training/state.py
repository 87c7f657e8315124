"""Training checkpoints: in the official format, with all that it takes to go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runtimes.errors import InvalidInput
from yolox_deploy.files import replacing
from yolox_deploy.model.safe_load import Damaged, safe_load
from yolox_deploy.model.safe_save import is_whole, safe_save, save
from yolox_deploy.model.trained_with import NetworkOptions, TrainedWith
from yolox_deploy.model.variants import VARIANTS

from .ema import ModelEMA
from .history import EpochRecord

# The newest checkpoint that a training can go on from, the one before it, and that with the highest AP.
LAST, PREVIOUS, BEST = "last.pth", "previous.pth", "best.pth"

# What of a recipe may differ when a training goes on to another number of epochs.
SCHEDULE = ("epochs", "warmup_epochs", "no_augmentation_epochs")


@dataclass
class Tally:
    """Of the epoch under way: sums of the loss parts over `batches`, in `steps` steps that took `seconds`."""

    sums: dict[str, float] = field(default_factory=dict)
    batches: int = 0
    steps: int = 0
    seconds: float = 0.0
    learning_rate: float = 0.0

    def means(self) -> dict[str, float]:
        return {name: value / self.batches for name, value in self.sums.items()}


@dataclass
class Progress:
    """How far a training is. step: steps done; epoch: epochs done. best_ap: a fraction, of the epoch `best_epoch`.

    changes: of the number of epochs, when the training went on: {"step": steps done by then, "from": epochs before,
    "to": epochs from then on}.
    """

    step: int = 0
    epoch: int = 0
    tally: Tally = field(default_factory=Tally)
    best_ap: float = 0.0
    best_epoch: int = 0
    history: list[EpochRecord] = field(default_factory=list)
    changes: list[dict[str, int]] = field(default_factory=list)


@dataclass(frozen=True)
class TrainingState:
    """What changes while training. `meta`: what stays, and has to be the same when the training goes on."""

    model: nn.Module
    ema: ModelEMA
    optimizer: torch.optim.Optimizer
    progress: Progress
    meta: Mapping[str, Any]
    scaler: torch.amp.GradScaler | None = None

    def save_weights(self, path: Path) -> None:
        """The averaged weights, as the official code reads them; all that `export` and `evaluate` need."""
        safe_save(self._weights(), path)

    def save(self, folder: Path) -> None:
        """All of it, as `last.pth`; the one that was there becomes `previous.pth`, unless it is damaged.

        So whenever this is killed, one of them is whole. The official code finds its own entries; ours beside them are
        the raw weights and the rest.
        """
        content = self._weights() | {
            "optimizer": self.optimizer.state_dict(),
            "raw_model": self.model.state_dict(),
            "ema_updates": self.ema.updates,
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "progress": asdict(self.progress),
        }
        last = folder / LAST
        with replacing(last) as part:
            save(content, part)
            if is_whole(last):
                last.replace(folder / PREVIOUS)

    def is_finite(self) -> bool:
        """Whether weights and batch-norm statistics, raw and averaged, are numbers."""
        values = [*self.model.state_dict().values(), *self.ema.model.state_dict().values()]
        finite = [value.isfinite().all() for value in values if value.is_floating_point()]
        return bool(torch.stack(finite).all())

    def _weights(self) -> dict[str, Any]:
        last = self.progress.history[-1].figures if self.progress.history else None
        return {
            "model": self.ema.model.state_dict(),
            "optimizer": None,
            "start_epoch": self.progress.epoch,
            "best_ap": self.progress.best_ap,
            "curr_ap": last["AP"] if last else None,
            **self.meta,
        }

    def resume(self, folder: Path) -> str:
        """Go on where the newest checkpoint left off. Returns what there is to say, "" where all is as it was left.

        Raises `InvalidInput` where there is none, or where it is of another training.
        """
        content, note = resumable(folder, self.meta)
        self.model.load_state_dict(content["raw_model"])
        self.ema.model.load_state_dict(content["model"])
        self.ema.updates = content["ema_updates"]
        self.optimizer.load_state_dict(content["optimizer"])
        if self.scaler is not None and content["scaler"] is not None:
            self.scaler.load_state_dict(content["scaler"])
        progress = content["progress"]
        history = [EpochRecord(**record) for record in progress["history"]]
        self.progress.__dict__.update(progress, history=history, tally=Tally(**progress["tally"]))
        former, now = _epochs(content), _epochs(self.meta)
        if former != now:
            self.progress.changes.append({"step": self.progress.step, "from": former, "to": now})
        return f"{note} {self._without_best(folder / BEST)}".strip()

    def _without_best(self, best: Path) -> str:
        """Where the best weights are damaged or gone, the next that are measured take their place."""
        if self.progress.best_epoch == 0 or is_whole(best):
            return ""
        lost, self.progress.best_ap, self.progress.best_epoch = self.progress.best_epoch, 0.0, 0
        return f"{best} is damaged or gone, and with it epoch {lost}; it will hold the best epoch still to come."


def resumable(folder: Path, meta: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """The newest checkpoint, and what there is to say: that it is not `last.pth`, that it goes on to another number of
    epochs. meta: of the training that goes on.

    With another number of epochs, what is still to come is as in a training of that many from the start. Raises
    `InvalidInput` where there is none, or where it is of another training.
    """
    path, content, note = newest(folder)
    former, now, done = _epochs(content), _epochs(meta), content["progress"]["epoch"]
    may_differ = SCHEDULE if former != now else ()
    differences = [one for one in _differences({**_unsaid(content), **content}, meta) if one[0] not in may_differ]
    if differences:
        what = "; ".join(f"its {_option(name)} was {old}, and would be {new}" for name, old, new in differences)
        raise InvalidInput(
            f"{path} cannot go on so: {what}. As it was, --resume goes on; --weights {path} with another --output"
            " starts a new training from its weights."
        )
    if former == now:
        return content, note
    if now <= done:
        raise InvalidInput(
            f"{path} has {done} of {former} epochs done, and --epochs {now} leaves nothing to train: more than {done}."
        )
    recipe = meta["recipe"]
    changed = (
        f"{path} was to have {former} epochs. From here on, in epoch {done + 1}, the learning rate and the last"
        f" {recipe['no_augmentation_epochs']} epochs without augmentation are those of a training of {now}."
    )
    return content, f"{note} {changed}".strip()


def _epochs(meta: Mapping[str, Any]) -> int:
    """That a training is to have, by its recipe; 0 where there is none."""
    epochs: int = meta.get("recipe", {}).get("epochs", 0)
    return epochs


def _option(name: str) -> str:
    return name.replace("_", "-")


def resumed_network(folder: Path, options: NetworkOptions) -> NetworkOptions:
    """Activation and batch-norm eps of the training that goes on. Raises `InvalidInput` where options contradict it."""
    path, content, _ = newest(folder)
    own = {**_unsaid(content), **content}
    known = TrainedWith(own["activation"], own["batch_norm_eps"]).joined(options.with_input(None), path)
    return NetworkOptions(known.activation, known.batch_norm_eps)


def _unsaid(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a training had that does not note it: older ones had nothing else."""
    variant = content.get("variant")
    return asdict(TrainedWith().filled(VARIANTS[variant].activation if variant in VARIANTS else "silu"))


def newest(folder: Path) -> tuple[Path, Mapping[str, Any], str]:
    """The newest checkpoint that can be read, its content, and what there is to say of a newer one."""
    last, previous = folder / LAST, folder / PREVIOUS
    try:
        return last, _training(last, _read(last)), ""
    except Damaged as error:
        if not previous.exists():
            raise
        note = f"{error} Going on from {previous}, the checkpoint before it."
        return previous, _training(previous, _read(previous)), note


def _read(path: Path) -> Any:
    if not path.exists():
        raise Damaged(f"{path} does not exist.")
    return safe_load(path)


def _training(path: Path, content: Any) -> Mapping[str, Any]:
    if not isinstance(content, Mapping) or "raw_model" not in content:
        raise InvalidInput(f"{path} is no training that could go on; --weights {path} starts from its weights.")
    return content


def _differences(former: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Name, former and new value of what is not the same, in mappings of mappings."""
    for name, value in now.items():
        if isinstance(value, Mapping) and isinstance(former.get(name), Mapping):
            yield from _differences(former[name], value)
        elif former.get(name) != value:
            yield name, former.get(name), value

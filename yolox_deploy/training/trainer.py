"""A whole training: epochs, evaluation, checkpoints, and what is left in the folder at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from lightning_fabric import Fabric

from exporters.torch_runtime import TorchRuntime
from runtimes.detector import Detector
from runtimes.errors import UserError
from runtimes.spec import ModelSpec
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.data.loader import Batch
from yolox_deploy.evaluate import evaluate
from yolox_deploy.files import write_text

from .engine import Engine
from .history import EpochRecord, history_json
from .interrupt import Interrupt
from .meter import Meter
from .state import BEST, LAST, PREVIOUS, Tally

# What a training leaves that another one in its place must not find, as patterns.
WRITTEN = (PREVIOUS, LAST, BEST, "epoch_*.pth", "not_finite_*.pt", "tensorboard/events.out.tfevents.*")
SCORE_THRESHOLD = 0.001  # COCO's AP counts all detections


class Interrupted(KeyboardInterrupt):
    """Stopped by a signal, with the state saved."""


@dataclass(frozen=True)
class Pace:
    """How often things happen, in epochs. patience: evaluations without a better AP after which the training ends."""

    evaluate_every: int = 1
    save_every: int | None = None
    patience: int | None = None


class Trainer:
    """Drives an engine from where its state is to the end of the schedule."""

    def __init__(self, engine: Engine, spec: ModelSpec, validation: Dataset, pace: Pace) -> None:
        self.engine, self.spec, self.validation, self.pace = engine, spec, validation, pace
        self.fabric: Fabric = engine.fabric
        self.state, self.schedule, self.folder = engine.state, engine.schedule, engine.folder

    def fit(self, batches: Iterator[Batch]) -> None:
        """Train to the end. Raises `Interrupted`, with `last.pth` written, after a signal."""
        progress = self.state.progress
        with Interrupt() as interrupt:
            while progress.epoch < self.schedule.recipe.epochs and not self._is_stale():
                self._train_epoch(batches, interrupt)
                self._end_epoch()
        done = f"{progress.epoch} of {self.schedule.recipe.epochs} epochs"
        if progress.epoch < self.schedule.recipe.epochs:
            says = f"ended early: {done}, by --patience {self.pace.patience}; --resume with a larger one goes on."
        else:
            says = f"finished: {done}; --resume with more --epochs goes on."
        self.fabric.print(says, flush=True)

    def _train_epoch(self, batches: Iterator[Batch], interrupt: Interrupt) -> None:
        """Also the rest of one, and nothing where only its evaluation is missing."""
        progress, recipe, steps = self.state.progress, self.schedule.recipe, self.schedule.steps_per_epoch
        end, title = (progress.epoch + 1) * steps, f"epoch {progress.epoch + 1}/{recipe.epochs}"
        meter = Meter(
            title=title,
            steps=steps,
            images_per_step=recipe.batch,
            tally=progress.tally,
            device=self.fabric.device,
            quiet=not self.fabric.is_global_zero,
            steps_after=(recipe.epochs - progress.epoch - 1) * steps,
            ap=next((record.figures["AP"] for record in reversed(progress.history) if record.figures), None),
        )
        with contextlib.closing(meter):
            self.engine.run(batches, end, interrupt, meter)
        self._save(LAST)  # before the evaluation, which may be interrupted or fail
        if progress.step < end:
            self.fabric.print(f"{self.folder / LAST} holds all of it; the same command with --resume goes on.")
            self.fabric.barrier()  # a process that leaves takes the others with it, and one of them is writing
            raise Interrupted

    def _end_epoch(self) -> None:
        progress, tally = self.state.progress, self.state.progress.tally
        progress.epoch += 1
        figures = self._evaluate() if self._is_due(self.pace.evaluate_every) else None
        record = EpochRecord(
            epoch=progress.epoch,
            step=progress.step,
            learning_rate=tally.learning_rate,
            losses=tally.means(),
            figures=figures,
            images_per_second=tally.steps * self.schedule.recipe.batch / tally.seconds,
            seconds=tally.seconds,
            epochs=self.schedule.recipe.epochs,
        )
        progress.history.append(record)
        progress.tally = Tally()
        self._note(record)

    def _is_due(self, every: int | None) -> bool:
        epoch = self.state.progress.epoch
        return every is not None and (epoch % every == 0 or epoch == self.schedule.recipe.epochs)

    def _is_stale(self) -> bool:
        progress = self.state.progress
        if self.pace.patience is None or progress.best_epoch == 0:  # 0: nothing was measured, or the best was lost
            return False
        evaluated = [record for record in progress.history if record.figures and record.epoch > progress.best_epoch]
        return len(evaluated) >= self.pace.patience

    def _evaluate(self) -> dict[str, float]:
        """COCO's figures of the averaged weights, measured by the first process for all."""
        figures: dict[str, float] = {}
        if self.fabric.is_global_zero:
            detector = Detector(TorchRuntime(self.state.ema.model, self.spec, str(self.fabric.device)), SCORE_THRESHOLD)
            figures = asdict(evaluate(detector, self.validation, self.engine.images_per_batch))
        found: dict[str, float] = self.fabric.broadcast(figures)
        return found

    def _note(self, record: EpochRecord) -> None:
        """Print, log and save what an epoch has brought."""
        progress = self.state.progress
        ap = None if record.figures is None else record.figures["AP"]
        better = ap is not None and (progress.best_epoch == 0 or ap > progress.best_ap)
        if ap is not None and better:
            progress.best_ap, progress.best_epoch = ap, record.epoch
        self.fabric.print(record.line(self.schedule.recipe.epochs) + (" (best)" if better else ""), flush=True)
        self.fabric.log_dict(record.scalars(), step=record.step)
        if better:
            self._save(BEST)
        if self.pace.save_every and record.epoch % self.pace.save_every == 0:
            self._save(f"epoch_{record.epoch:03}.pth")
        self._save(LAST)

    def _save(self, name: str) -> None:
        if not self.fabric.is_global_zero:
            return
        try:
            # Before the checkpoint: whoever goes on from that has nothing of it to do again.
            write_text(self.folder / "history.json", history_json(self.state.progress.history))
            if name == LAST:
                self.state.save(self.folder)
            else:
                self.state.save_weights(self.folder / name)
        except OSError as error:
            raise UserError(
                f"{name} cannot be written into {self.folder} ({error.strerror or error}). What was saved before is"
                " whole: once this is mended, the same command with --resume goes on from it."
            ) from None

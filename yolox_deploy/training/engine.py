"""The training loop: batches to weights. Everything about devices and processes is Lightning Fabric's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn.functional import interpolate

from runtimes.errors import InvalidInput, UserError
from yolox_deploy.data.loader import Batch
from yolox_deploy.model.safe_save import safe_save

from .interrupt import Interrupt
from .loss import Losses, YOLOXLoss
from .meter import Meter
from .optimizer import set_training_mode
from .schedule import Schedule
from .state import TrainingState


class NotFinite(UserError):
    """The loss, the gradients or the weights became infinite or not a number."""


@dataclass(frozen=True)
class LoopOptions:
    """How the loop runs. channels_last changes nothing beyond rounding; accumulated batches have statistics and
    positives of their own."""

    accumulate: int = 1
    channels_last: bool = True
    freeze: Sequence[str] = ()
    freeze_norms: bool = False


class Engine:
    """Trains `state.model` through `network`, the same model as Fabric wrapped it."""

    def __init__(
        self,
        fabric: Fabric,
        network: Any,
        state: TrainingState,
        criterion: YOLOXLoss,
        schedule: Schedule,
        options: LoopOptions,
        folder: Path,
    ) -> None:
        self.fabric, self.network, self.state, self.criterion = fabric, network, state, criterion
        self.schedule, self.options, self.folder = schedule, options, folder

    @property
    def images_per_batch(self) -> int:
        """In one batch of one process."""
        return self.schedule.recipe.batch // (self.options.accumulate * self.fabric.world_size)

    def run(self, batches: Iterator[Batch], until: int, interrupt: Interrupt, meter: Meter) -> None:
        """Train from the step that the state is at up to step `until`, or to an interrupt.

        Raises `NotFinite` when the loss is not, and at the end when the weights are not: nobody shall save them.
        """
        batch = None
        set_training_mode(self.state.model, self.options.freeze, self.options.freeze_norms)
        while self.state.progress.step < until:
            parts = [next(batches) for _ in range(self.options.accumulate)]
            problems = [problem for batch in parts for problem in batch.unreadable]
            stopped, failed = self._anywhere(interrupt.wanted, bool(problems))
            if problems:
                raise InvalidInput(f"{problems[0]} --skip-unreadable leaves such images out.")
            if failed:
                raise SystemExit(1)  # the process that has the image says so
            if stopped:
                break
            meter.update(self.step(parts), self.schedule.learning_rate(self.state.progress.step - 1))
            batch = parts[-1]
        if batch is not None and not self.state.is_finite():
            self._refuse(batch, "the weights are", {})

    def _anywhere(self, *flags: bool) -> list[bool]:
        """Which of these hold in any process: a step takes all of them, and who waited alone would wait for ever."""
        if self.fabric.world_size == 1:
            return [*flags]
        here = torch.tensor(flags, dtype=torch.float32, device=self.fabric.device)
        found: Any = self.fabric.all_reduce(here, reduce_op="sum")
        return [bool(value) for value in found > 0]

    def step(self, parts: Sequence[Batch]) -> list[Losses]:
        """One step of the optimizer over the batches of all parts."""
        progress, optimizer = self.state.progress, self.state.optimizer
        for group in optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate(progress.step)
        found = []
        for index, batch in enumerate(parts):
            waits = index + 1 < len(parts)
            with self.fabric.no_backward_sync(self.network, enabled=waits):
                losses = self.losses(batch)
                self._check_finite(losses, batch)
                self.fabric.backward(losses.total / len(parts))
            found.append(losses)
        self._clip_gradients(parts[-1])
        optimizer.step()
        optimizer.zero_grad()
        self.state.ema.update(self.state.model)
        progress.step += 1
        return found

    def _clip_gradients(self, batch: Batch) -> None:
        clip = self.schedule.recipe.clip_gradients
        if clip is None:
            return
        norm: Any = self.fabric.clip_gradients(
            self.network, self.state.optimizer, max_norm=clip, error_if_nonfinite=False
        )
        # A scaler, that of fp16, finds overflows itself: it leaves the step out and scales less.
        if self.state.scaler is None and not torch.isfinite(norm):
            self._refuse(batch, "the gradients are", {"norm": float(norm)})

    def losses(self, batch: Batch) -> Losses:
        step = self.state.progress.step
        images, labels = to_device(batch, self.fabric.device, self.options.channels_last)
        images, labels = resize(images, labels, self.schedule.input_size(step))
        height, width = images.shape[2:]
        return self.criterion(self.network(images), labels, (height, width), self.schedule.in_tail(step))  # type: ignore

    def _check_finite(self, losses: Losses, batch: Batch) -> None:
        if not torch.isfinite(losses.total):
            self._refuse(batch, "the loss is", losses.items())

    def _refuse(self, batch: Batch, what: str, parts: Mapping[str, float]) -> NoReturn:
        """Keep the batch and the weights, and raise `NotFinite`."""
        step, file = self.state.progress.step, self.folder / f"not_finite_{self.fabric.global_rank}.pt"
        content = {"images": batch.images, "labels": batch.labels, "raw_model": self.state.model.state_dict()}
        safe_save(content | {"losses": dict(parts), "step": step}, file)
        figures = f" ({', '.join(f'{name} {value:g}' for name, value in parts.items())})" if parts else ""
        raise NotFinite(
            f"{what} not finite at step {step}{figures}; the batch and the weights are in {file}. A lower"
            " --learning-rate, --clip-gradients 10 or --precision fp32 may help."
        )


def to_device(batch: Batch, device: torch.device, channels_last: bool) -> tuple[Tensor, list[Tensor]]:
    """Images (N, H, W, 3) uint8 to (N, 3, H, W) float32; labels to the same device."""
    images = batch.images.to(device, non_blocking=True).permute(0, 3, 1, 2)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    images = images.to(torch.float32, memory_format=layout)
    return images, [labels.to(device, non_blocking=True) for labels in batch.labels]


def resize(images: Tensor, labels: list[Tensor], size: tuple[int, int]) -> tuple[Tensor, list[Tensor]]:
    """Images and labels as if of `size` (height, width)."""
    height, width = images.shape[2:]
    if (height, width) == size:
        return images, labels
    scale = images.new_tensor([1, size[1] / width, size[0] / height, size[1] / width, size[0] / height])
    images = interpolate(images, size=size, mode="bilinear", align_corners=False)
    return images, [rows * scale for rows in labels]

"""What people see while a training runs, and what is written down of it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import psutil
import torch
from tqdm import tqdm

from yolox_deploy.evaluator import points
from yolox_deploy.progress import progress_bar

from .loss import Losses
from .state import Tally


class Meter:
    """The progress bar of one epoch: the means of the loss parts so far, images/s and memory. Adds to its `tally`.

    steps_after: of the epochs that follow, for the time that the whole training still takes. ap: the last one measured,
    a fraction.
    """

    def __init__(
        self,
        title: str,
        steps: int,
        images_per_step: int,
        tally: Tally,
        device: torch.device,
        quiet: bool,
        steps_after: int = 0,
        ap: float | None = None,
    ) -> None:
        self.tally, self.images_per_step, self.device = tally, images_per_step, device
        self.last_step, self.ap = steps + steps_after, ap
        self.bar = progress_bar(
            total=steps,
            initial=tally.steps,
            desc=title,
            unit="step",
            disable=quiet or None,
            leave=False,
            dynamic_ncols=True,
        )
        self.before = time.perf_counter()

    def update(self, losses: Sequence[Losses], learning_rate: float) -> None:
        """After a step."""
        tally, now = self.tally, time.perf_counter()
        for part in losses:
            for name, value in part.items().items():
                tally.sums[name] = tally.sums.get(name, 0.0) + value
        tally.batches += len(losses)
        tally.steps += 1
        tally.learning_rate = learning_rate
        tally.seconds += now - self.before
        self.before = now
        values = {name: f"{value:.3f}" for name, value in tally.means().items()}
        rate = tally.steps * self.images_per_step / max(tally.seconds, 1e-9)
        speed = {"lr": f"{learning_rate:.2g}", "images/s": f"{rate:.1f}", "memory": self.memory()}
        accuracy = {} if self.ap is None else {"AP": points(self.ap)}
        left = (self.last_step - tally.steps) * tally.seconds / tally.steps
        rest = {"all done in": tqdm.format_interval(left)}
        self.bar.set_postfix(accuracy | values | speed | rest, refresh=False)
        self.bar.update()

    def memory(self) -> str:
        """The most that was taken: of the GPU where there is one, else of this process."""
        if self.device.type == "cuda":
            taken = torch.cuda.max_memory_allocated(self.device)
        else:
            taken = psutil.Process().memory_info().rss
        return f"{taken / 2**30:.1f}G"

    def close(self) -> None:
        self.bar.close()

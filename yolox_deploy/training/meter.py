"""What people see while a training runs, and what is written down of it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

import psutil
import torch
from tqdm import tqdm

from .loss import Losses


class Meter:
    """The progress bar of one epoch: the means of the loss parts so far, images/s and memory."""

    def __init__(self, title: str, steps: int, images_per_step: int, device: torch.device, quiet: bool) -> None:
        self.images_per_step, self.device = images_per_step, device
        self.bar = tqdm(total=steps, desc=title, unit="step", disable=quiet, leave=False, dynamic_ncols=True)
        self.sums: defaultdict[str, float] = defaultdict(float)
        self.count = self.steps = 0
        self.learning_rate = 0.0
        self.begin = time.perf_counter()

    def update(self, losses: Sequence[Losses], learning_rate: float) -> None:
        """After a step."""
        for part in losses:
            for name, value in part.items().items():
                self.sums[name] += value
        self.count += len(losses)
        self.steps += 1
        self.learning_rate = learning_rate
        values = {name: f"{value:.3f}" for name, value in self.means().items()}
        speed = {"lr": f"{learning_rate:.2g}", "images/s": f"{self.images_per_second:.1f}", "memory": self.memory()}
        self.bar.set_postfix(values | speed, refresh=False)
        self.bar.update()

    def means(self) -> dict[str, float]:
        return {name: value / self.count for name, value in self.sums.items()}

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.begin

    @property
    def images_per_second(self) -> float:
        return self.steps * self.images_per_step / self.seconds

    def memory(self) -> str:
        """The most that was taken: of the GPU where there is one, else of this process."""
        if self.device.type == "cuda":
            taken = torch.cuda.max_memory_allocated(self.device)
        else:
            taken = psutil.Process().memory_info().rss
        return f"{taken / 2**30:.1f}G"

    def close(self) -> None:
        self.bar.close()

"""python -m benchmarks.train_step: a training step of ours against one written as the official code writes it.

Both train the same network on the same batch, in turn, so that the machine's moods strike them alike: compare the
ratios. The plain step is fp32, contiguous, with the parts in `plain_loss`; ours is channels-last, in fp32 and in bf16,
and beside that fp32 contiguous, and bf16 through torch.compile where --compile asks for it.
Prints a Markdown table and ends with one JSON line.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from runtimes.json_file import json_text
from yolox_deploy.console import run
from yolox_deploy.model.variants import VARIANTS, VariantName
from yolox_deploy.model.yolox import YOLOX
from yolox_deploy.progress import progress_bar
from yolox_deploy.training.ema import ModelEMA
from yolox_deploy.training.loss import YOLOXLoss
from yolox_deploy.training.optimizer import make_optimizer
from yolox_deploy.training.recipe import recipe_for

from .plain_loss import PlainEMA, PlainLoss


@dataclass(frozen=True)
class TrainStepConfig:
    """Time training steps."""

    model: VariantName = "yolox-nano"
    """Which YOLOX, at its own input size."""
    batch: int = 8
    """Images a step."""
    objects: tuple[int, ...] = (7, 40)
    """Objects in each image."""
    rounds: int = 8
    """Timed rounds."""
    compile: bool = False
    """Measure torch.compile too; compiling takes minutes."""
    device: str = "cpu"
    """Where to train."""


@dataclass(frozen=True)
class Row:
    """Median seconds of a step, and of the loss alone with its backward pass, and how much faster ours are."""

    model: str
    objects: int
    plain: float
    contiguous: float
    fp32: float
    bf16: float
    compiled: float | None
    plain_loss: float
    loss: float

    def __str__(self) -> str:
        return (
            f"| {self.model} | {self.objects} | {self.plain:.3f} | {self._step(self.contiguous)} |"
            f" {self._step(self.fp32)} | {self._step(self.bf16)} | {self._step(self.compiled)} |"
            f" {self.plain_loss * 1e3:.0f} | {self.loss * 1e3:.0f} ({self.plain_loss / self.loss:.1f}x) |"
        )

    def _step(self, seconds: float | None) -> str:
        return "" if seconds is None else f"{seconds:.3f} ({self.plain / seconds:.2f}x)"


HEADER = (
    "| model | objects | plain step, s | ours, contiguous | ours, fp32 | ours, bf16 | bf16, compiled | plain loss, ms"
    " | our loss, ms |\n|---|---|---|---|---|---|---|---|---|"
)


def make_batch(config: TrainStepConfig, objects: int) -> tuple[Tensor, list[Tensor], tuple[int, int]]:
    """Random images (N, 3, H, W) 0..255 and labels (n, 5) with boxes of 16 px to half the image."""
    side = VARIANTS[config.model].input_size
    random = torch.Generator().manual_seed(0)
    images = torch.rand(config.batch, 3, side, side, generator=random) * 255
    labels = []
    for _ in range(config.batch):
        sides = 16 * (side / 32) ** torch.rand(objects, 2, generator=random)
        centres = torch.rand(objects, 2, generator=random) * side
        classes = torch.randint(80, (objects, 1), generator=random)
        labels.append(torch.cat([classes, centres, sides], dim=1).to(config.device))
    return images.to(config.device), labels, (side, side)


def make_step(config: TrainStepConfig, kind: str, objects: int) -> Callable[[], None]:
    """One whole step: forward, loss, backward, optimizer, average.

    kind: "plain", or of ours "contiguous", "fp32", "bf16" or "compiled".
    """
    torch.manual_seed(0)
    model = YOLOX(config.model).to(config.device).train()
    images, labels, size = make_batch(config, objects)
    if kind not in ("plain", "contiguous"):
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, recipe_for(config.model))
    network: Callable[[Tensor], Tensor] = torch.compile(model) if kind == "compiled" else model
    average = PlainEMA(model, 0.9998) if kind == "plain" else ModelEMA(model, 0.9998)
    plain, ours = PlainLoss(), YOLOXLoss()

    def step() -> None:
        with torch.autocast(config.device, torch.bfloat16, enabled=kind in ("bf16", "compiled")):
            predictions = network(images)
        total = plain(predictions, labels, size) if kind == "plain" else ours(predictions, labels, size).total
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(model)

    return step


def make_loss(config: TrainStepConfig, kind: str, objects: int) -> Callable[[], None]:
    """The loss and its gradient alone, on the predictions of a fresh model."""
    torch.manual_seed(0)
    images, labels, size = make_batch(config, objects)
    with torch.no_grad():
        predictions = YOLOX(config.model).to(config.device).train()(images)
    predictions.requires_grad_(True)
    plain, ours = PlainLoss(), YOLOXLoss()

    def step() -> None:
        (plain(predictions, labels, size) if kind == "plain" else ours(predictions, labels, size).total).backward()
        predictions.grad = None

    return step


def measure(steps: dict[str, Callable[[], None]], rounds: int, device: str) -> dict[str, float]:
    """The median seconds of each, in turn; the first two rounds warm up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in progress_bar(range(rounds + 2), unit="round"):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return {name: median(seen[2:]) for name, seen in times.items()}


def command(config: TrainStepConfig) -> None:
    rows = []
    for objects in config.objects:
        kinds = ["plain", "contiguous", "fp32", "bf16", *(["compiled"] if config.compile else [])]
        steps = {kind: make_step(config, kind, objects) for kind in kinds}
        steps |= {f"{kind}_loss": make_loss(config, kind, objects) for kind in ("plain", "our")}
        found = measure(steps, config.rounds, config.device)
        times: dict[str, Any] = {"compiled": None, "loss": found.pop("our_loss"), **found}
        rows.append(Row(config.model, objects, **times))
    print(HEADER)
    for row in rows:
        print(row)
    print(json_text({"threads": torch.get_num_threads(), "rows": [asdict(row) for row in rows]}))


def main(arguments: list[str] | None = None) -> int:
    return run("python -m benchmarks.train_step", TrainStepConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""What depends on nothing but the number of the step: learning rate and input size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .recipe import Recipe

STEPS_PER_SIZE = 10
IMAGES_PER_LEARNING_RATE = 64


@dataclass(frozen=True)
class Schedule:
    """The course of a training of `recipe.epochs` times `steps_per_epoch` steps.

    faithful: the augmentation ends one epoch early, as in the official loop, which counts from 0.
    """

    recipe: Recipe
    steps_per_epoch: int
    seed: int = 0
    faithful: bool = False

    @property
    def steps(self) -> int:
        return self.recipe.epochs * self.steps_per_epoch

    def epoch(self, step: int) -> int:
        """The epoch, from 0 on, that step number `step`, from 0 on, is in."""
        return step // self.steps_per_epoch

    @property
    def tail_epoch(self) -> int:
        """The first epoch, counted from 1, without mosaic and mixup and with the L1 loss."""
        return self.recipe.epochs - self.recipe.no_augmentation_epochs + (0 if self.faithful else 1)

    def in_tail(self, step: int) -> bool:
        """Whether the step is one of the last, without mosaic and mixup, with the L1 loss."""
        return self.epoch(step) + 1 >= self.tail_epoch

    def learning_rate(self, step: int) -> float:
        """For the step number `step`, from 0 on: the very first of a warm-up learns nothing, as officially.

        Source: yolox/utils/lr_scheduler.py ("yoloxwarmcos"), which sets it after each step.
        """
        full = self.recipe.learning_rate * self.recipe.batch / IMAGES_PER_LEARNING_RATE
        return full * self.factor(step)

    def factor(self, done: int) -> float:
        """The learning rate after `done` steps, as a fraction of the full one."""
        warmup = self.recipe.warmup_epochs * self.steps_per_epoch
        if done <= warmup and warmup > 0:
            return (done / warmup) ** 2
        start, last = warmup, self.steps - self.recipe.no_augmentation_epochs * self.steps_per_epoch
        if self.recipe.schedule == "flat-cosine":
            start, last = max(self.steps / 2, warmup), self.steps
        final = self.recipe.final_learning_rate
        if done < start:
            return 1.0
        if done >= last:
            return final
        return final + 0.5 * (1 - final) * (1 + math.cos(math.pi * (done - start) / (last - start)))

    def input_size(self, step: int) -> tuple[int, int]:
        """Height and width of the input: the recipe's in the first steps, then a new one every ten."""
        height, width = self.recipe.input_size
        if self.recipe.multi_scale is None or step < STEPS_PER_SIZE:
            return height, width
        low, high = (side // 32 for side in self.recipe.multi_scale)
        cells = int(np.random.default_rng([self.seed, step // STEPS_PER_SIZE]).integers(low, high + 1))
        short = min(height, width)
        return 32 * round(cells * height / short), 32 * round(cells * width / short)

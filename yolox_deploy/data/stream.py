"""Which image a training sees when: a pure function of the seed and the number of the step.

So nothing about randomness has to be stored to resume a training, and processes and workers need not agree on anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler


@dataclass(frozen=True)
class Draw:
    """One image of the stream. index: in the data set. position: in the stream, which seeds its augmentation.

    plain: without mosaic and mixup.
    """

    index: int
    position: int
    plain: bool


@dataclass(frozen=True)
class Share:
    """What one process draws: `batch` images a step in all, in `parts` batches one after another on each of `world`
    processes, of which this is number `rank`."""

    batch: int
    parts: int = 1
    rank: int = 0
    world: int = 1

    @property
    def images(self) -> int:
        """In one batch of one process."""
        return self.batch // (self.parts * self.world)


@lru_cache(maxsize=2)
def _order(count: int, seed: int, cycle: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, 0, cycle]).permutation(count)


class Stream(Sampler[list[Draw]]):
    """All images in random order, then all in another order, and so on, cut into full batches from step to step.

    count: images in the data set. plain: whether a step is without mosaic and mixup.
    """

    def __init__(self, count: int, share: Share, steps: range, plain: Callable[[int], bool], seed: int) -> None:
        self.count, self.share, self.steps, self.plain, self.seed = count, share, steps, plain, seed

    def __len__(self) -> int:
        return len(self.steps) * self.share.parts

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in self.steps:
            for part in range(self.share.parts):
                yield self.draw(step, part)

    def draw(self, step: int, part: int) -> list[Draw]:
        """The batch number `part` of a step, for this process."""
        share, plain = self.share, self.plain(step)
        first = step * share.batch + (part * share.world + share.rank) * share.images
        positions = range(first, first + share.images)
        return [Draw(self._index(position), position, plain) for position in positions]

    def _index(self, position: int) -> int:
        return int(_order(self.count, self.seed, position // self.count)[position % self.count])

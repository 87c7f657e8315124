"""What each epoch of a training has brought, kept in `history.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from yolox_deploy.evaluator import points


@dataclass(frozen=True)
class EpochRecord:
    """epoch: from 1 on. step: steps done at its end. losses: the parts by name, mean over the epoch.

    figures: COCO's twelve by name, fractions; None where the epoch was not evaluated. seconds: of the training alone.
    """

    epoch: int
    step: int
    learning_rate: float
    losses: dict[str, float]
    figures: dict[str, float] | None
    images_per_second: float
    seconds: float

    def line(self, epochs: int) -> str:
        """One line to print."""
        losses = "  ".join(f"{name} {value:.3f}" for name, value in self.losses.items() if value or name != "l1")
        measured = self.figures
        ap = "" if measured is None else f"  AP {points(measured['AP'])}  AP50 {points(measured['AP50'])}"
        speed = f"lr {self.learning_rate:.2g}  {self.images_per_second:.1f} images/s"
        return f"epoch {self.epoch}/{epochs}  {losses}  {speed}{ap}"

    def scalars(self) -> dict[str, float]:
        """For loggers: every number under a name."""
        values = {
            "epoch": float(self.epoch),
            "learning_rate": self.learning_rate,
            "images_per_second": self.images_per_second,
        }
        values |= {f"loss/{name}": value for name, value in self.losses.items()}
        return values | {f"val/{name}": value for name, value in (self.figures or {}).items()}


def history_json(history: Sequence[EpochRecord]) -> str:
    return json.dumps([asdict(record) for record in history], indent=1) + "\n"


def read_history(text: str) -> list[EpochRecord]:
    return [EpochRecord(**record) for record in json.loads(text)]

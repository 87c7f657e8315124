"""What each epoch of a training has brought, kept in `history.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from runtimes.json_file import json_text
from yolox_deploy.evaluator import points


@dataclass(frozen=True)
class EpochRecord:
    """epoch: from 1 on. step: steps done at its end. losses: the parts by name, mean over the epoch.

    figures: COCO's twelve by name, fractions; None where the epoch was not evaluated. seconds: of the training alone.
    epochs: that the training was to have, by whose schedule this epoch was; None where that was not noted.
    """

    epoch: int
    step: int
    learning_rate: float
    losses: dict[str, float]
    figures: dict[str, float] | None
    images_per_second: float
    seconds: float
    epochs: int | None = None

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
    return json_text([asdict(record) for record in history], indent=1) + "\n"


def read_history(text: str) -> list[EpochRecord]:
    """What `history_json` wrote, where a number that was not finite stands as null."""
    return [EpochRecord(**{name: _number(value, name) for name, value in one.items()}) for one in json.loads(text)]


def _number(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _number(one) for key, one in value.items()}
    return math.nan if value is None and name not in ("figures", "epochs") else value

"""What weights were trained with and no tensor shows. Knows no torch, so that a command line can be made of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from runtimes.errors import InvalidInput
from runtimes.foreign import Preprocessing
from runtimes.spec import Activation, is_eps

BATCH_NORM_EPS = 1e-3  # of every official weight

WORDS = {"silu": "SiLU", "relu": "ReLU", "lrelu": "leaky ReLU (0.1)"}
PREPROCESSING_WORDS = {"official": "BGR 0..255", "legacy": "RGB, ImageNet mean and std"}


@dataclass(frozen=True)
class NetworkOptions:
    """What a checkpoint was trained with, where its file does not say: other values fit the same tensors, and detect
    something else."""

    activation: Activation | None = None
    """Activation of the checkpoint's network, official `Exp.act`; unset, what the file says, else silu (Darknet-53:
    lrelu)."""
    batch_norm_eps: Annotated[float | None, tyro.conf.arg(metavar="EPS")] = None
    """eps of its batch norms; unset, what the file says, else 0.001. LibreYOLO before 1.5 fine-tuned with 1e-5."""

    def __post_init__(self) -> None:
        if self.batch_norm_eps is not None and not is_eps(self.batch_norm_eps):
            raise InvalidInput(f"--batch-norm-eps must be over 0 and at most 1, not {self.batch_norm_eps:g}.")

    @property
    def given(self) -> dict[str, Any]:
        """What is known, by the name of its field."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def with_input(self, preprocessing: Preprocessing | None) -> TrainedWith:
        """Join the options with `--preprocessing`."""
        return TrainedWith(self.activation, self.batch_norm_eps, preprocessing)

    def refuse_for(self, artifact: Path) -> None:
        """Raise `InvalidInput` where options of a checkpoint were given for an artifact."""
        for name in self.given:
            option = f"--{name.replace('_', '-')}"
            raise InvalidInput(f"{option} is for checkpoints, and {artifact} is an artifact: leave {option} out.")


@dataclass(frozen=True)
class TrainedWith(NetworkOptions):
    """Activation and batch-norm eps of the network, and preprocessing of its input; None where it is not known."""

    preprocessing: Preprocessing | None = None

    def joined(self, options: TrainedWith, path: Path) -> TrainedWith:
        """What a file says, with what the user says. Raises `InvalidInput` where they contradict each other."""
        for name, value in options.given.items():
            own = getattr(self, name)
            if own not in (None, value):
                option = f"--{name.replace('_', '-')}"
                raise InvalidInput(f"{path} says {own}, not the {value} of {option}: leave {option} out.")
        return replace(self, **options.given)

    def filled(self, activation: Activation) -> TrainedWith:
        """With the official values in place of what is not known; `activation` is the variant's."""
        official = {"activation": activation, "batch_norm_eps": BATCH_NORM_EPS, "preprocessing": "official"}
        return TrainedWith(**{**official, **self.given})

    def assumed(self, activation: Activation) -> str:
        """What `filled` adds, in words."""
        words = {
            "activation": WORDS[activation],
            "batch_norm_eps": f"batch-norm eps {BATCH_NORM_EPS:g}",
            "preprocessing": PREPROCESSING_WORDS["official"],
        }
        return ", ".join(text for name, text in words.items() if name not in self.given)

"""The seven variants of YOLOX: what tells one from another. Knows no torch, so that a command line can name them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runtimes.spec import Activation

STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class Variant:
    """The hyperparameters that tell a variant from another. Source: exps/default/yolox_*.py."""

    depth: float
    width: float
    input_size: int  # of the official test, square
    depthwise: bool = False
    darknet53: bool = False

    @property
    def activation(self) -> Activation:
        """That of the official weights."""
        return "lrelu" if self.darknet53 else "silu"


VariantName = Literal["yolox-nano", "yolox-tiny", "yolox-s", "yolox-m", "yolox-l", "yolox-x", "yolox-darknet53"]

VARIANTS: dict[VariantName, Variant] = {
    "yolox-nano": Variant(0.33, 0.25, 416, depthwise=True),
    "yolox-tiny": Variant(0.33, 0.375, 416),
    "yolox-s": Variant(0.33, 0.50, 640),
    "yolox-m": Variant(0.67, 0.75, 640),
    "yolox-l": Variant(1.00, 1.00, 640),
    "yolox-x": Variant(1.33, 1.25, 640),
    "yolox-darknet53": Variant(1.00, 1.00, 640, darknet53=True),
}

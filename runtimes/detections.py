"""Detections: what was found in one image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import InvalidInput


@dataclass(frozen=True, eq=False)
class Detections:
    """n detections of one image, best first. Field names are those of the `supervision` library.

    xyxy: (n, 4) float32, left, top, right, bottom in pixels of the original image: within it, unless
    `Detector` was told not to clip.
    confidence: (n,) float32, objectness times class score.
    class_id: (n,) int64, index into `ModelSpec.class_names`.

    Raises `InvalidInput` where the shapes do not fit.
    """

    xyxy: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    class_id: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        for name, dtype, tail in (
            ("xyxy", np.float32, (4,)),
            ("confidence", np.float32, ()),
            ("class_id", np.int64, ()),
        ):
            value = np.asarray(getattr(self, name), dtype=dtype)
            if value.shape != (len(self.confidence), *tail):
                raise InvalidInput(f"{name} has shape {value.shape}, not {(len(self.confidence), *tail)}.")
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.confidence)

    def __iter__(self) -> Iterator[tuple[npt.NDArray[np.float32], float, int]]:
        """Yield (xyxy, confidence, class_id) of each detection, best first."""
        for box, confidence, class_id in zip(self.xyxy, self.confidence, self.class_id, strict=True):
            yield box, float(confidence), int(class_id)

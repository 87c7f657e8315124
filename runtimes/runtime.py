"""The seam between an artifact and whatever runs it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .errors import InvalidInput
from .spec import ModelSpec


class Runtime(Protocol):
    """Runs one artifact on one backend. `ModelSpec` says the shapes, dtypes and meaning of input and output."""

    @property
    def spec(self) -> ModelSpec: ...

    def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Run a batch that `preprocess.network_input` made. The result is the caller's own memory.

        Raises `InvalidInput` where the shape or dtype is not what the spec says.
        """
        ...

    def close(self) -> None:
        """Free everything. A second call does nothing."""
        ...


def check_input(images: npt.NDArray[Any], spec: ModelSpec) -> None:
    """Raise `InvalidInput` where a batch is not what the spec says."""
    tail = (*spec.input_size, 3) if spec.uint8_input else (3, *spec.input_size)
    dtype = np.dtype(np.uint8 if spec.uint8_input else np.float32)
    if (
        images.shape[1:] != tail
        or images.dtype != dtype
        or len(images) < 1
        or (spec.batch or len(images)) != len(images)
    ):
        wanted = ", ".join(str(side) for side in (spec.batch or "N", *tail))
        raise InvalidInput(
            f"{spec.name} takes {dtype} of shape ({wanted}), not {images.dtype} of shape {images.shape}."
        )

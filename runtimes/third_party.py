"""Third-party graphs: fed and read as `ModelSpec` says.

Shapes decide where they can. What a graph does not say is checked on its outputs: a wrong reading would show only as
wrong boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InvalidInput
from .preprocess import network_input
from .spec import ModelSpec
from .third_party_checks import check_boxes, check_scores, sigmoid_of
from .third_party_layout import EXPORT, Port, dense_layout, named
from .third_party_rows import check_rows, read_rows

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

# Input types that hold the values 0..255; the others hold normalised values too.
WHOLE = ("uint8", "uint16", "int16", "int32", "int64")
REAL = ("float16", "float32", "float64")


class ThirdPartyGraph:
    """Feeds the graph of a third-party file what a spec promises, and reads its outputs as the spec says.

    inputs and outputs: of the graph. sigmoid: the scores come as logits, and get their sigmoid here.

    Raises `InvalidInput` for a graph that does not take what the spec promises. What the outputs show is checked as
    they come, until one had something to check; `check` makes one.
    """

    def __init__(
        self, path: str | Path, spec: ModelSpec, inputs: Sequence[Port], outputs: Sequence[Port], sigmoid: bool = False
    ) -> None:
        self.path, self.spec, self.sigmoid = path, spec, sigmoid
        self._ports = tuple(outputs)
        self._checked = False
        if sigmoid and (spec.nms or spec.topk):
            raise InvalidInput(f"{path} gives rows of detections, which have their scores: leave out --sigmoid.")
        if spec.uint8_input:
            raise InvalidInput(f"the spec of {path} promises uint8_input, which is for our artifacts: leave it out.")
        self.channels_last = check_image_input(path, inputs, spec.normalization is None)
        [port] = inputs
        self._dtype = np.dtype(port.dtype)
        size = port.shape[1:3] if self.channels_last else port.shape[2:]
        fits = all(found in (None, want) for found, want in zip(size, spec.input_size, strict=True))
        if not fits or port.shape[0] != spec.batch:
            raise InvalidInput(f"the spec of {path} promises input {spec.input_shape}, the graph takes {port}.")

    def feed(self, images: Floats) -> Array:
        """The network input (N, 3, H, W) float32 as the graph takes it."""
        turned = images.transpose(0, 2, 3, 1) if self.channels_last else images
        return np.ascontiguousarray(turned, dtype=self._dtype)

    def read(self, outputs: Sequence[Array], count: int) -> Floats:
        """What the graph gave for `count` images, as `ModelSpec` says. Raises `InvalidInput` where it is not that."""
        found = [
            Port(port.name, value.dtype.name, value.shape) for port, value in zip(self._ports, outputs, strict=True)
        ]
        if self.spec.nms:
            return _sorted(read_rows(self.path, found, outputs, count, self.spec.num_classes))
        values = [np.asarray(value, np.float32) for value in outputs]
        if self.spec.topk:
            [rows] = values
            self._check_topk(rows)
            return rows
        result = dense_layout(self.path, found, self.spec, count)(values)
        if not self._checked:
            check_scores(self.path, result, self.spec, self.sigmoid)
        if self.sigmoid:
            result = np.concatenate([result[..., :4], sigmoid_of(result[..., 4:])], axis=-1)
        if not self._checked:
            check_boxes(self.path, result, self.spec)
            self._checked = True
        return result

    def check(self, infer: Callable[[Floats], Floats]) -> None:
        """Run the graph once, on noise, so that what is wrong shows before there is work."""
        count = self.spec.batch or 1
        noise = np.random.default_rng(0).integers(0, 256, (count, *self.spec.input_size, 3), dtype=np.uint8)
        infer(network_input(noise, self.spec))

    def _check_topk(self, rows: Floats) -> None:
        if rows.shape[1:] != (self.spec.topk, 6):
            raise InvalidInput(f"the spec of {self.path} promises {self.spec.topk} rows of 6, not {rows.shape}.")
        check_rows(self.path, rows.reshape(-1, 6), self.spec.num_classes)


def check_image_input(path: str | Path, inputs: Sequence[Port], plain: bool) -> bool:
    """Whether a graph takes (N, H, W, 3) and not (N, 3, H, W). Raises `InvalidInput` where it takes something else.

    plain: the values are 0..255, which whole numbers hold.
    """
    if len(inputs) != 1:
        raise InvalidInput(
            f"{path} takes {len(inputs)} inputs ({named(inputs)}), where a YOLOX file takes images alone: {EXPORT}."
        )
    [port] = inputs
    if len(port.shape) != 4 or (port.shape[1] != 3) == (port.shape[3] != 3):
        raise InvalidInput(f"{path} takes {port}, not images of (N, 3, H, W).")
    if port.dtype not in REAL + (WHOLE if plain else ()):
        why = ", which cannot hold normalised values" if port.dtype in WHOLE else ", not float32"
        raise InvalidInput(f"{path} takes {port.dtype}{why}: {EXPORT}.")
    return port.shape[1] != 3


def _sorted(rows: Floats) -> Floats:
    """Best first."""
    return rows[np.argsort(-rows[:, 5], kind="stable")]

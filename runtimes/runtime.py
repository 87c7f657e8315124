"""The seam between an artifact and whatever runs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
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
    tail = spec.input_shape[1:]
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


def check_threads(threads: int | None) -> None:
    if threads is not None and threads < 1:
        raise InvalidInput(f"threads must be at least 1, not {threads}.")


def one_spec(own: ModelSpec | None, given: ModelSpec | None, path: str | Path) -> ModelSpec:
    """The spec of a model file: its own, or for a file that carries none, the given one."""
    if own is not None and given is not None and own != given:
        raise InvalidInput(f"{path} carries a spec of its own, and another was given: leave that out.")
    spec = own or given
    if spec is None:
        raise InvalidInput(
            f"{path} carries no spec (another exporter wrote it): say how it was trained with --preprocessing and"
            " --class-names, or give --spec FILE; in Python, load(path, spec=foreign_spec(...))."
        )
    return spec


def spec_beside(path: Path, given: ModelSpec | None) -> ModelSpec:
    """The spec of a model file whose format has no place for it: the given one, or `spec.json` in its folder."""
    beside = path.with_name("spec.json")
    if given is None and not beside.exists():
        raise InvalidInput(f"{path} needs the spec.json that export wrote beside it, or a spec of yours (--spec FILE).")
    return given or ModelSpec.read(beside)


Shape = Sequence[int | str | None]


def check_graph(
    path: str | Path, spec: ModelSpec, dtypes: Sequence[str], inputs: Sequence[Shape], outputs: Sequence[Shape]
) -> None:
    """Raise `InvalidInput` where a file's graph is not what its spec promises: a wrong one would show as wrong boxes.

    dtypes and shapes of the graph's inputs, and the shapes of its outputs; names or None stand for free sizes.
    """
    if len(inputs) != 1 or len(outputs) != 1:
        raise InvalidInput(f"{path} has {len(inputs)} inputs and {len(outputs)} outputs; a YOLOX file has one of each.")
    dtype = "uint8" if spec.uint8_input else "float32"
    if dtypes[0] != dtype:
        raise InvalidInput(f"the spec of {path} promises input type {dtype}, the graph has {dtypes[0]}.")
    for what, promised, found in (
        ("input", spec.input_shape, inputs[0]),
        ("output", spec.output_shape, outputs[0]),
    ):
        if not _fits(promised, found):
            raise InvalidInput(f"the spec of {path} promises {what} {promised}, the graph has {list(found)}.")


def _fits(promised: tuple[int | None, ...], found: Shape) -> bool:
    """Whether a shape from a file, where names stand for free sizes, is the promised one (None: free)."""
    return len(promised) == len(found) and all(
        not isinstance(size, int) if want is None else size == want for want, size in zip(promised, found, strict=True)
    )

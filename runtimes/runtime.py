"""The seam between an artifact and whatever runs it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .errors import InvalidInput, MissingSpec
from .preprocess import empty_input
from .spec import ModelSpec

# Of idle requests: sizes of batches (the usual one, and what is left at the end of a sequence), and how many of each.
KEPT_SIZES, KEPT_REQUESTS = 2, 16

MOST_THREADS = 4096  # libraries asked for millions end in all kinds of errors


class Runtime(Protocol):
    """Runs one artifact on one backend. `ModelSpec` says the shapes, dtypes and meaning of input and output.

    A runtime may offer `new_request(batch)` as well, which gives a `Request`; see `new_request` here.
    """

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


class Request(Protocol):
    """Memory for one batch, used again and again: fill `images`, `run`, read the output, and so on.

    For one thread at a time; several requests of a runtime may run side by side.
    """

    @property
    def images(self) -> npt.NDArray[Any]:
        """The network input, to be filled before each run."""
        ...

    def run(self) -> npt.NDArray[np.float32]:
        """Infer what is in `images`. The output is the request's memory: the next run overwrites it."""
        ...


class CopyingRequest:
    """A request of a runtime that offers none: its `infer`, which makes new memory for each output."""

    def __init__(self, runtime: Runtime, batch: int) -> None:
        self.images = empty_input(batch, runtime.spec)
        self._runtime = runtime

    def run(self) -> npt.NDArray[np.float32]:
        """See `Request.run`."""
        return self._runtime.infer(self.images)


def new_request(runtime: Runtime, batch: int) -> Request:
    """A request for batches of this size, by the runtime itself where it can."""
    make: Callable[[int], Request] | None = getattr(runtime, "new_request", None)
    return CopyingRequest(runtime, batch) if make is None else make(batch)


class RequestPool:
    """Idle requests of a runtime; who finds none gets a new one. Safe to share between threads."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self._idle: OrderedDict[int, list[Request]] | None = OrderedDict()  # by batch size, the last used last

    @contextmanager
    def lend(self, batch: int) -> Iterator[Request]:
        """A request for batches of this size. Raises `InvalidInput` once closed."""
        with self._lock:
            if self._idle is None:
                raise InvalidInput(f"{self._runtime.spec.name} is closed.")
            idle = self._idle.get(batch)
            request = idle.pop() if idle else None
        request = request or new_request(self._runtime, batch)
        try:
            yield request
        except InvalidInput:  # of what was to be painted into it
            self._take_back(request, batch)
            raise
        self._take_back(request, batch)  # one that failed does not come back

    def _take_back(self, request: Request, batch: int) -> None:
        with self._lock:
            if self._idle is None:
                return
            idle = self._idle.setdefault(batch, [])
            self._idle.move_to_end(batch)
            if len(idle) < KEPT_REQUESTS:
                idle.append(request)
            if len(self._idle) > KEPT_SIZES:
                self._idle.popitem(last=False)

    def close(self) -> None:
        """Forget all. Those at work finish first."""
        with self._lock:
            self._idle = None


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


def check_threads(threads: int | None, streams: int) -> None:
    """Raise `InvalidInput` for what is no number from 1 on; threads may be left open."""
    for name, value in (("threads", 1 if threads is None else threads), ("streams", streams)):
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_THREADS:
            raise InvalidInput(f"{name} must be a number from 1 to {MOST_THREADS}, not {value!r}.")


def one_spec(own: ModelSpec | None, given: ModelSpec | None, path: str | Path) -> ModelSpec:
    """The spec of a model file: its own, or for a file that carries none, the given one."""
    if own is not None and given is not None and own != given:
        raise InvalidInput(f"{path} carries a spec of its own, and another was given: leave that out.")
    spec = own or given
    if spec is None:
        raise MissingSpec(
            f"{path} carries no spec (another exporter wrote it): say how it was trained with --preprocessing"
            " official (or legacy) and, unless it names its classes, --class-names coco, FILE or NAMES; or give --spec"
            " FILE; in Python, load(path, spec=foreign_spec(...))."
        )
    return spec


def refuse_sigmoid(path: str | Path, sigmoid: bool) -> None:
    """Raise `InvalidInput` where `sigmoid` is asked of a file that is not a third party's."""
    if sigmoid:
        raise InvalidInput(f"{path} carries a spec of its own, and gives probabilities: leave out --sigmoid.")


def spec_beside(path: Path, given: ModelSpec | None) -> ModelSpec:
    """The spec of a model file whose format has no place for it: the given one, or `spec.json` in its folder."""
    beside = path.with_name("spec.json")
    if given is None and not beside.exists():
        of_others = (
            "of an engine of another tool, export the checkpoint (yolox-deploy export --weights FILE --target trt)"
        )
        if path.suffix.lower() == ".param":
            of_others = "of a file of another tool, say --preprocessing, --class-names and --input-size, or --spec FILE"
        raise MissingSpec(f"{path} needs the spec.json that export wrote beside it; {of_others}.")
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

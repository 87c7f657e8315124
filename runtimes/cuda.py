"""CUDA through cuda-bindings: the GPU, streams, graphs, events and pinned buffers that TensorRT needs, and no more."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InvalidInput, MissingBackend, UserError


@dataclass(frozen=True)
class Gpu:
    """A GPU and its driver: "NVIDIA H200", "9.0", and the newest CUDA that the driver serves, such as "13.0"."""

    name: str
    compute_capability: str
    driver: str


def cuda_runtime() -> Any:
    """The module of CUDA's runtime functions. Raises `MissingBackend` without cuda-bindings."""
    try:
        from cuda.bindings import runtime
    except ImportError:
        raise MissingBackend("TensorRT engines need CUDA's Python bindings: pip install cuda-bindings") from None
    return runtime


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a CUDA function and return its value, if it has one. Raises `UserError` with CUDA's own words."""
    status, *values = function(*arguments)
    if int(status) != 0:
        raise UserError(f"CUDA: {_words(status)} ({function.__name__}).")
    return values[0] if values else None


def release(function: Callable[..., Any], *arguments: Any) -> None:
    """Call a CUDA function that frees or winds up. Its fault is ignored: the rest has to be freed all the same, and
    CUDA tells in it of any earlier fault, which was told already."""
    function(*arguments)


def _words(status: Any) -> str:
    text = cuda_runtime().cudaGetErrorString(status)[1]
    return text.decode() if isinstance(text, bytes) else str(text)


def find_gpu(device: int = 0) -> Gpu:
    """The GPU with this index. Raises `MissingBackend` where there is none, or no driver.

    To be asked before anything of TensorRT that needs a GPU: without a driver, some versions end the process.
    """
    cuda = cuda_runtime()
    status, count = cuda.cudaGetDeviceCount()
    if int(status) != 0 or not count:
        raise MissingBackend(
            f"there is no CUDA GPU here ({_words(status) if int(status) else 'the driver lists none'})."
        )
    if not 0 <= device < count:
        raise InvalidInput(f"device {device} does not exist; CUDA lists {count}, from 0 on.")
    properties = call(cuda.cudaGetDeviceProperties, device)
    name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
    driver = call(cuda.cudaDriverGetVersion)
    return Gpu(name.rstrip("\0"), f"{properties.major}.{properties.minor}", f"{driver // 1000}.{driver % 1000 // 10}")


class Buffer:
    """Memory of one tensor, allocated once: pinned on the host (`host`, an array) and on the GPU (`device`)."""

    def __init__(self, cuda: Any, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self._cuda = cuda
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.row_bytes = size // shape[0]  # of one image of the batch
        self._pointer: Any = None
        self.device: int | None = call(cuda.cudaMalloc, size)
        try:
            self._pointer = call(cuda.cudaMallocHost, size)
        except UserError:
            self.free()
            raise
        memory: Any = (ctypes.c_uint8 * size).from_address(self._pointer)
        self.host: npt.NDArray[Any] = np.frombuffer(memory, dtype).reshape(shape)

    def copy_in(self, count: int, stream: Any) -> None:
        """Queue the copy of the first `count` images to the GPU."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        call(self._cuda.cudaMemcpyAsync, self.device, self._pointer, count * self.row_bytes, kind, stream)

    def copy_out(self, count: int, stream: Any) -> None:
        """Queue the copy of the first `count` images from the GPU."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        call(self._cuda.cudaMemcpyAsync, self._pointer, self.device, count * self.row_bytes, kind, stream)

    def free(self) -> None:
        """Free both. The array `host` must not be touched afterwards."""
        device, self.device = self.device, None
        pointer, self._pointer = self._pointer, None
        if device is not None:
            release(self._cuda.cudaFree, device)
        if pointer is not None:
            release(self._cuda.cudaFreeHost, pointer)


class Stream:
    """A queue of work on the GPU, beside all others."""

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self.handle = call(cuda.cudaStreamCreateWithFlags, cuda.cudaStreamNonBlocking)

    def synchronize(self) -> None:
        call(self._cuda.cudaStreamSynchronize, self.handle)

    def capture(self, enqueue: Callable[[], None]) -> Any:
        """What `enqueue` queues, as a CUDA graph that `launch` runs with one call. Nothing runs yet."""
        cuda = self._cuda
        # Thread-local: other threads may allocate while this one captures.
        call(cuda.cudaStreamBeginCapture, self.handle, cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            enqueue()
        except BaseException:
            status, graph = cuda.cudaStreamEndCapture(self.handle)  # the first fault is the one to tell
            if int(status) == 0:
                release(cuda.cudaGraphDestroy, graph)
            raise
        graph = call(cuda.cudaStreamEndCapture, self.handle)
        try:
            return call(cuda.cudaGraphInstantiate, graph, 0)
        finally:
            release(cuda.cudaGraphDestroy, graph)

    def settle(self) -> None:
        """Wait for whatever a step that failed has left here."""
        release(self._cuda.cudaStreamSynchronize, self.handle)

    def launch(self, graph: Any) -> None:
        call(self._cuda.cudaGraphLaunch, graph, self.handle)

    def milliseconds(self, steps: list[Callable[[], None]]) -> list[float]:
        """Queue the steps, wait, and return how long the GPU took for each."""
        cuda = self._cuda
        events: list[Any] = []
        try:
            for step in (None, *steps):
                if step is not None:
                    step()
                events.append(call(cuda.cudaEventCreate))
                call(cuda.cudaEventRecord, events[-1], self.handle)
            self.synchronize()
            return [call(cuda.cudaEventElapsedTime, *pair) for pair in pairwise(events)]
        finally:
            for event in events:
                release(cuda.cudaEventDestroy, event)

    def destroy(self) -> None:
        release(self._cuda.cudaStreamDestroy, self.handle)

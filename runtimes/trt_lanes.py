"""Lanes: each runs one batch of an engine at a time, on a stream and in buffers of its own. A pool lends them out."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .cuda import Buffer, Stream, call, release
from .errors import InvalidInput, UserError
from .trt_build import first_error

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine. Its shape is the largest that the engine takes."""

    name: str
    shape: tuple[int, ...]
    dtype: npt.DTypeLike


@dataclass(frozen=True)
class Plan:
    """What a lane needs of an engine.

    new_context: makes an execution context. native_graphs: such a context captures CUDA graphs itself (TensorRT-RTX).
    """

    trt: Any
    cuda: Any
    device: int
    images: Tensor
    outputs: tuple[Tensor, ...]
    new_context: Callable[[], Any]
    native_graphs: bool


class Lane:
    """One stream, one buffer for each tensor, and for each batch size a context and the CUDA graph captured from it.

    A graph holds the state of its context, which must not change: hence a context for each size.
    """

    def __init__(self, plan: Plan, cuda_graph: bool, lock: threading.Lock) -> None:
        self._plan, self._cuda_graph, self._lock = plan, cuda_graph and not plan.native_graphs, lock
        self.buffers: dict[str, Buffer] = {}
        self._contexts: dict[int, Any] = {}
        self._graphs: dict[int, Any] = {}
        self.stream = Stream(plan.cuda)
        try:
            for tensor in (plan.images, *plan.outputs):
                self.buffers[tensor.name] = Buffer(plan.cuda, tensor.shape, tensor.dtype)
        except UserError:
            self.free()
            raise

    def run(self, images: npt.NDArray[Any]) -> Arrays:
        """The outputs for a batch that fits the engine; the caller's own memory."""
        count = self._load(images)
        if count in self._graphs:
            self.stream.launch(self._graphs[count])
        else:
            self._enqueue(count)
        self.stream.synchronize()
        return self._results(count)

    def timed(self, images: npt.NDArray[Any]) -> tuple[Arrays, list[float]]:
        """As `run`, but without a CUDA graph; and the milliseconds of each of the `steps`."""
        count = self._load(images)
        times = self.stream.milliseconds(self.steps(count))
        return self._results(count), times

    def steps(self, count: int) -> list[Callable[[], None]]:
        """Copy in, compute, copy out: each queues its work and returns."""
        return [lambda: self._copy_in(count), lambda: self._compute(count), lambda: self._copy_out(count)]

    def _enqueue(self, count: int) -> None:
        for step in self.steps(count):
            step()

    def _load(self, images: npt.NDArray[Any]) -> int:
        """Put a batch into the pinned buffer, and get ready for its size."""
        count = len(images)
        self.buffers[self._plan.images.name].host[:count] = images
        if count not in self._contexts:
            self._prepare(count)
        return count

    def _results(self, count: int) -> Arrays:
        return {tensor.name: self.buffers[tensor.name].host[:count].copy() for tensor in self._plan.outputs}

    def _copy_in(self, count: int) -> None:
        self.buffers[self._plan.images.name].copy_in(count, self.stream.handle)

    def _compute(self, count: int) -> None:
        if not self._contexts[count].execute_async_v3(int(self.stream.handle)):
            raise UserError(f"TensorRT could not run a batch of {count}: {first_error(self._plan.trt)}.")

    def _copy_out(self, count: int) -> None:
        for tensor in self._plan.outputs:
            self.buffers[tensor.name].copy_out(count, self.stream.handle)

    def _prepare(self, count: int) -> None:
        """A context for this batch size and its CUDA graph. One lane at a time, since they share the engine."""
        with self._lock:
            self._contexts[count] = self._new_context(count)
            try:
                if self._cuda_graph:
                    self._graphs[count] = self._capture(count)
            except BaseException:
                del self._contexts[count]  # so that the next call tries again, and does not do without the graph
                raise

    def _new_context(self, count: int) -> Any:
        context = self._plan.new_context()
        if context is None:
            raise UserError(f"TensorRT could not make an execution context: {first_error(self._plan.trt)}.")
        images = self._plan.images
        if context.active_optimization_profile != 0:  # TensorRT 8 gives it to the first context alone
            context.set_optimization_profile_async(0, int(self.stream.handle))
        if not context.set_input_shape(images.name, (count, *images.shape[1:])):
            raise InvalidInput(f"the engine does not take a batch of {count}: {first_error(self._plan.trt)}.")
        for name, buffer in self.buffers.items():
            context.set_tensor_address(name, buffer.device)
        return context

    def _capture(self, count: int) -> Any:
        # The first run after a new shape does work that must not be captured.
        self._compute(count)
        self.stream.synchronize()
        return self.stream.capture(lambda: self._enqueue(count))

    def free(self) -> None:
        """Free all of it, in the order in which it hangs together, whatever CUDA says to any part."""
        cuda = self._plan.cuda
        for graph in self._graphs.values():
            release(cuda.cudaGraphExecDestroy, graph)
        self._graphs.clear()
        self._contexts.clear()
        for buffer in self.buffers.values():
            buffer.free()
        self.buffers.clear()
        self.stream.destroy()


class Pool:
    """Lends lanes to threads. Whoever finds none free waits for one."""

    def __init__(self, plan: Plan, size: int, cuda_graph: bool) -> None:
        self._plan, self._size = plan, 0
        self._idle: queue.LifoQueue[Lane | None] = queue.LifoQueue()  # None: closed, for whoever still waits
        lock = threading.Lock()
        try:
            for _ in range(size):
                self._idle.put(Lane(plan, cuda_graph, lock))
                self._size += 1
        except UserError:
            self.close()
            raise

    @contextmanager
    def lane(self) -> Iterator[Lane]:
        """A lane for this thread alone, with its GPU made current. Raises `InvalidInput` where the pool is closed."""
        lane = self._idle.get()
        if lane is None:
            self._idle.put(None)
            raise InvalidInput("the engine is closed.")
        try:
            call(self._plan.cuda.cudaSetDevice, self._plan.device)
            yield lane
        except BaseException:
            lane.stream.settle()  # copies that are still queued must not meet the next batch
            raise
        finally:
            self._idle.put(lane)

    def close(self) -> None:
        """Free every lane as it comes back, and wake whoever waits for one. A second call does nothing."""
        release(self._plan.cuda.cudaSetDevice, self._plan.device)
        size, self._size = self._size, 0
        try:
            for _ in range(size):
                if lane := self._idle.get():
                    lane.free()
        finally:
            self._idle.put(None)


def largest_shape(engine: Any, name: str, largest_batch: int) -> tuple[int, ...]:
    """The shape of a tensor at the largest batch. Raises `InvalidInput` where more than the batch is free."""
    batch, *rest = engine.get_tensor_shape(name)
    if any(size < 0 for size in rest):
        raise InvalidInput(f"{name} has the shape {(batch, *rest)}: only the batch of an engine may be free.")
    return (largest_batch if batch < 0 else int(batch), *map(int, rest))


def describe(trt: Any, engine: Any) -> tuple[list[Tensor], list[Tensor], tuple[int, int] | None]:
    """Inputs, outputs, and the smallest and largest batch, or None where it is fixed."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    free = bool(inputs) and engine.get_tensor_shape(inputs[0])[0] < 0
    limits = None
    if free:
        smallest, _, largest = engine.get_tensor_profile_shape(inputs[0], 0)
        limits = int(smallest[0]), int(largest[0])
    tensors = {
        name: Tensor(name, largest_shape(engine, name, limits[1] if limits else 1), _dtype(engine, name))
        for name in names
    }
    return [tensors[name] for name in inputs], [tensors[name] for name in names if name not in inputs], limits


def _dtype(engine: Any, name: str) -> npt.DTypeLike:
    """NumPy's type. Not `trt.nptype`, which in version 8 stumbles over newer NumPy."""
    known = {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8, "INT8": np.int8, "INT32": np.int32}
    found = engine.get_tensor_dtype(name).name
    if found not in known:
        raise InvalidInput(f"{name} is of type {found}, which no YOLOX engine has.")
    return known[found]

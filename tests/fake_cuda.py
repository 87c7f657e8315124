# ruff: noqa: N802  (the names are CUDA's)
"""A FAKE of `cuda.bindings.runtime` for machines without a GPU: device memory is host memory, streams are lists.

It proves which calls are made, in which order, and that everything is freed. It proves nothing about a real GPU. Work
on a stream happens when the stream is waited for, and not before, so that a missing wait shows as wrong numbers.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import types
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count
from typing import Any

import pytest

MESSAGES = {2: b"out of memory", 35: b"CUDA driver version is insufficient for CUDA runtime version"}
CAPTURE_UNSUPPORTED = 900


class Status(int):
    """A `cudaError_t`; 0 is success."""


@dataclass
class Stream:
    pending: list[Callable[[], None]] = field(default_factory=list)
    captured: list[Callable[[], None]] | None = None
    handle: int = field(default_factory=count(1000).__next__)

    def __int__(self) -> int:
        return self.handle

    def submit(self, work: Callable[[], None]) -> None:
        (self.pending if self.captured is None else self.captured).append(work)


class FakeCuda(types.ModuleType):
    """gpus: name and compute capability of each; () is a machine without a driver. fail: function -> status, once."""

    cudaStreamNonBlocking = 1
    cudaMemcpyKind = IntEnum("cudaMemcpyKind", {"cudaMemcpyHostToDevice": 1, "cudaMemcpyDeviceToHost": 2})
    cudaStreamCaptureMode = IntEnum("cudaStreamCaptureMode", {"cudaStreamCaptureModeThreadLocal": 1})

    def __init__(self, gpus: tuple[tuple[str, str], ...] = (("NVIDIA Fake", "9.0"),)) -> None:
        super().__init__("cuda.bindings.runtime")
        self.gpus = gpus
        self.memory: dict[str, dict[int, Any]] = {"device": {}, "pinned": {}}
        self.streams: dict[int, Stream] = {}
        self.graphs: list[object] = []
        self.executables: list[object] = []
        self.events: list[object] = []
        self.calls: Counter[str] = Counter()
        self.fail: dict[str, int] = {}
        self.capturing: set[int] = set()  # threads
        for name, function in vars(FakeCuda).items():
            if name.startswith("cuda") and isinstance(function, types.FunctionType):
                setattr(self, name, self._counted(name, getattr(self, name)))

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> tuple[Any, ...]:
            self.calls[name] += 1
            if name in self.fail:
                return Status(self.fail.pop(name)), None
            result = function(*arguments)
            return result if isinstance(result, tuple) else (Status(0), result)

        counted.__name__ = name
        return counted

    def live(self) -> int:
        """Everything that is allocated or created and not yet freed."""
        kinds = (*self.memory.values(), self.streams, self.graphs, self.executables, self.events)
        return sum(len(kind) for kind in kinds)

    # The GPU
    def cudaGetDeviceCount(self) -> Any:
        return len(self.gpus) if self.gpus else (Status(35), None)

    def cudaGetErrorString(self, status: int) -> bytes:
        return MESSAGES.get(int(status), b"a fake error")

    def cudaGetDeviceProperties(self, device: int) -> Any:
        name, capability = self.gpus[device]
        major, minor = map(int, capability.split("."))
        return types.SimpleNamespace(name=name.encode(), major=major, minor=minor)

    def cudaDriverGetVersion(self) -> int:
        return 13000 if self.gpus else 0

    def cudaSetDevice(self, device: int) -> Any:
        return (Status(0),) if device < len(self.gpus) else (Status(101),)

    # Memory
    def _allocate(self, kind: str, size: int) -> Any:
        if threading.get_ident() in self.capturing:
            return Status(CAPTURE_UNSUPPORTED), None
        memory = (ctypes.c_uint8 * size)(*([0xAB] * min(size, 8)))  # not zeros: nothing else promises them
        pointer = ctypes.addressof(memory)
        self.memory[kind][pointer] = memory
        return pointer

    def cudaMalloc(self, size: int) -> Any:
        return self._allocate("device", size)

    def cudaMallocHost(self, size: int) -> Any:
        return self._allocate("pinned", size)

    def cudaFree(self, pointer: int) -> Any:
        del self.memory["device"][pointer]  # KeyError: freed twice, or never allocated
        return (Status(0),)

    def cudaFreeHost(self, pointer: int) -> Any:
        del self.memory["pinned"][pointer]
        return (Status(0),)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: Stream) -> Any:
        sides = ("device", "pinned") if kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice else ("pinned", "device")
        for side, pointer in zip(sides, (target, source), strict=True):
            assert size <= len(self.memory[side][pointer]), "a copy beyond the end of a buffer"
        stream.submit(lambda: ctypes.memmove(target, source, size) and None)
        return (Status(0),)

    # Streams, graphs, events
    def cudaStreamCreateWithFlags(self, flags: int) -> Stream:
        stream = Stream()
        self.streams[int(stream)] = stream
        return stream

    def cudaStreamDestroy(self, stream: Stream) -> Any:
        del self.streams[int(stream)]
        return (Status(0),)

    def cudaStreamSynchronize(self, stream: Stream) -> Any:
        if stream.captured is not None:
            return (Status(CAPTURE_UNSUPPORTED),)
        work, stream.pending = stream.pending, []
        for step in work:
            step()
        return (Status(0),)

    def cudaStreamBeginCapture(self, stream: Stream, mode: int) -> Any:
        stream.captured = []
        self.capturing.add(threading.get_ident())
        return (Status(0),)

    def cudaStreamEndCapture(self, stream: Stream) -> Any:
        graph, stream.captured = stream.captured, None
        self.capturing.discard(threading.get_ident())
        self.graphs.append(graph)
        return graph

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> Any:
        executable = list(graph)
        self.executables.append(executable)
        return executable

    def cudaGraphDestroy(self, graph: Any) -> Any:
        self.graphs = [other for other in self.graphs if other is not graph]
        return (Status(0),)

    def cudaGraphExecDestroy(self, executable: Any) -> Any:
        self.executables = [other for other in self.executables if other is not executable]
        return (Status(0),)

    def cudaGraphLaunch(self, executable: Any, stream: Stream) -> Any:
        stream.pending.extend(executable)
        return (Status(0),)

    def cudaEventCreate(self) -> Any:
        event = types.SimpleNamespace(time=None)
        self.events.append(event)
        return event

    def cudaEventRecord(self, event: Any, stream: Stream) -> Any:
        stream.submit(lambda: setattr(event, "time", self.clock()))
        return (Status(0),)

    def clock(self) -> float:
        """Milliseconds: one more each time it is asked."""
        self.time = getattr(self, "time", 0.0) + 1.0
        return self.time

    def cudaEventElapsedTime(self, first: Any, second: Any) -> Any:
        return second.time - first.time

    def cudaEventDestroy(self, event: Any) -> Any:
        self.events.remove(event)
        return (Status(0),)


def install(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda) -> FakeCuda:
    """Put the fake in the place of cuda-bindings, whether or not that is installed."""
    package = types.ModuleType("cuda.bindings")
    package.runtime = cuda  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda.bindings", package)
    return cuda

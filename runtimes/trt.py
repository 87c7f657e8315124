"""TensorRT: cuda-bindings and tensorrt, without torch."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .cuda import Gpu, call, cuda_runtime, find_gpu
from .errors import InvalidInput, MissingBackend
from .runtime import check_graph, check_input, check_threads, spec_beside
from .spec import ModelSpec
from .trt_build import TITLES, first_error, library, start
from .trt_engine import read_plan, rebuild, rebuild_command
from .trt_lanes import Arrays, Plan, Pool, Tensor, describe

# The outputs of TensorRT's plugin EfficientNMS: what `exporters/trt_nms.py` puts behind a graph with NMS.
NMS_OUTPUTS: dict[str, npt.DTypeLike] = {
    "num_detections": np.int32,
    "detection_boxes": np.float32,
    "detection_scores": np.float32,
    "detection_classes": np.int32,
}


class TensorRTRuntime:
    """Runs a `.engine` file, with `engine.json` and `spec.json` beside it.

    streams: batches that may run at the same time, for threads that share this runtime; each has a CUDA stream, a
    context and buffers of its own. device: index of the GPU. cuda_graph: run each batch size as one CUDA graph of copy
    in, compute and copy out. rebuild: build the engine anew, from the `model.onnx` beside it, where it does not load on
    this machine.

    Batches over the engine's largest are run in parts, and what is below its smallest is filled up to it. Safe to share
    between threads: who finds no stream free waits.

    Raises `MissingBackend` without tensorrt, cuda-bindings or a GPU, `InvalidInput` for an engine that is damaged, or
    was built by another version or for another GPU.
    """

    library = "tensorrt"

    def __init__(
        self,
        path: str | Path,
        spec: ModelSpec | None = None,
        streams: int = 1,
        device: int = 0,
        cuda_graph: bool = True,
        rebuild: bool = False,
    ) -> None:
        check_threads(None, streams)
        path = Path(path)
        trt = library(self.library)
        cuda = cuda_runtime()
        self.spec: ModelSpec = spec_beside(path, spec)
        gpu = find_gpu(device)
        call(cuda.cudaSetDevice, device)
        engine = open_engine(path, trt, gpu, device, rebuild)
        inputs, outputs, self._limits = describe(trt, engine)
        _check_against_engine(path, self.spec, inputs, outputs, self._limits is None)
        native = hasattr(trt, "CudaGraphStrategy")
        new_context = _native_contexts(trt, engine, cuda_graph) if native else engine.create_execution_context
        plan = Plan(trt, cuda, device, inputs[0], tuple(outputs), new_context, native)
        self._pool: Pool | None = Pool(plan, streams, cuda_graph)
        # Also when it is forgotten: Python's memory manager knows nothing of the GPU's.
        self._free = weakref.finalize(self, self._pool.close)

    def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See `Runtime.infer`."""
        parts = []
        for part in self._parts(images):
            with self._open_pool().lane() as lane:
                parts.append(lane.run(part))
        return self._output(parts, len(images))

    def infer_timed(self, images: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], dict[str, float]]:
        """As `infer`, for one part of a batch, and the milliseconds of "copy_in", "compute" and "copy_out" on the GPU.

        Without a CUDA graph, which would be one piece.
        """
        (part,) = self._parts(images)
        with self._open_pool().lane() as lane:
            outputs, times = lane.timed(part)
        return self._output([outputs], len(images)), dict(zip(("copy_in", "compute", "copy_out"), times, strict=True))

    def _open_pool(self) -> Pool:
        if self._pool is None:
            raise InvalidInput(f"{self.spec.name} is closed.")
        return self._pool

    def _parts(self, images: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """The batch in parts that the engine takes; the last one filled up with its last image where it is small."""
        self._open_pool()
        check_input(images, self.spec)
        if self._limits is None:
            return [images]
        smallest, largest = self._limits
        parts = [images[first : first + largest] for first in range(0, len(images), largest)]
        missing = smallest - len(parts[-1])
        if missing > 0:
            parts[-1] = np.concatenate([parts[-1], np.repeat(parts[-1][-1:], missing, axis=0)])
        return parts

    def _output(self, parts: list[Arrays], count: int) -> npt.NDArray[np.float32]:
        """Of the first `count` images: what follows was filled up."""
        joined = {
            name: (np.concatenate([part[name] for part in parts]) if len(parts) > 1 else parts[0][name])[:count]
            for name in parts[0]
        }
        return nms_rows(joined) if self.spec.nms is not None else next(iter(joined.values()))

    def close(self) -> None:
        """Wait for what is running, then free everything."""
        self._pool = None
        self._free()


def open_engine(path: Path, trt: Any, gpu: Gpu, device: int, may_rebuild: bool) -> Any:
    """The engine in a file, which is built anew where it does not load here and that is allowed.

    Raises `InvalidInput` or `MissingBackend` where it does not load.
    """
    try:
        return deserialize(path, read_plan(path, trt, gpu), trt)
    except (InvalidInput, MissingBackend):
        if not may_rebuild:
            raise
    rebuild(path, device)
    return deserialize(path, read_plan(path, trt, gpu), trt)


def deserialize(path: Path, plan: bytes, trt: Any) -> Any:
    """The engine of a plan that `read_plan` let pass. `path` is where it comes from."""
    runtime = start(trt, "Runtime")
    name = f"{TITLES[trt.__name__]} {trt.__version__}"
    # TensorRT-RTX can be asked whether it supports this GPU.
    if hasattr(runtime, "get_engine_validity") and runtime.get_engine_validity(plan)[0] == trt.EngineValidity.INVALID:
        raise MissingBackend(f"{name} does not run {path} on this GPU: {first_error(trt)}.")
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        advice = f"build it for this machine with `{rebuild_command(path)}`."
        raise InvalidInput(f"{name} cannot load {path} ({first_error(trt)}): {advice}")
    return engine


def _native_contexts(trt: Any, engine: Any, cuda_graph: bool) -> Any:
    """TensorRT-RTX compiles kernels when a context first runs, and captures CUDA graphs when it has them all."""
    config = engine.create_runtime_config()
    strategies = trt.CudaGraphStrategy
    config.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE if cuda_graph else strategies.DISABLED
    config.set_runtime_cache(config.create_runtime_cache())  # contexts share what they compile
    return lambda: engine.create_execution_context(config)


def _check_against_engine(
    path: Path, spec: ModelSpec, inputs: list[Tensor], outputs: list[Tensor], fixed: bool
) -> None:
    def shape(tensor: Tensor) -> list[int | None]:
        return [tensor.shape[0] if fixed else None, *tensor.shape[1:]]

    dtypes = [str(np.dtype(tensor.dtype)) for tensor in inputs]
    found = [shape(tensor) for tensor in outputs]
    if spec.nms is not None:
        if {tensor.name for tensor in outputs} != set(NMS_OUTPUTS):
            raise InvalidInput(f"the spec of {path} promises NMS in the engine, which has none.")
        found = [[None, 7]]  # what `nms_rows` makes of the four
    check_graph(path, spec, dtypes, [*map(shape, inputs)], found)
    for tensor in outputs:
        promised, has = np.dtype(NMS_OUTPUTS.get(tensor.name, np.float32)), np.dtype(tensor.dtype)
        if has != promised:
            raise InvalidInput(f"the spec of {path} promises {tensor.name} in {promised}, the engine has {has}.")


def nms_rows(outputs: Arrays) -> npt.NDArray[np.float32]:
    """The plugin's outputs for N images, each padded to K rows, as rows (M, 7), best first.

    num_detections (N, 1), detection_boxes (N, K, 4) as corners, detection_scores (N, K), detection_classes (N, K).
    """
    scores = outputs["detection_scores"]
    image, row = np.nonzero(np.arange(scores.shape[1]) < outputs["num_detections"])
    columns = [image, *outputs["detection_boxes"][image, row].T, scores[image, row]]
    rows = np.stack([*columns, outputs["detection_classes"][image, row]], axis=1).astype(np.float32)
    return rows[np.argsort(-rows[:, 5], kind="stable")]

"""TensorRT-RTX: the same runtime on the library for RTX cards."""

from __future__ import annotations

from .trt import TensorRTRuntime


class TensorRTRTXRuntime(TensorRTRuntime):
    """Runs a `.rtx` file. See `TensorRTRuntime`; kernels are compiled for the card when a batch size first runs."""

    library = "tensorrt_rtx"

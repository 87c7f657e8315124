"""What an exporter may be told beyond the spec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from runtimes.preprocess import Image


@dataclass(frozen=True)
class GraphOptions:
    """What the graph takes and gives."""

    decode: bool = True
    """Decode boxes in the graph (ncnn: never). --no-decode leaves them raw, as the official exporter does."""
    uint8_input: bool = True
    """Take images as (N, H, W, 3) uint8 (ncnn: never). --no-uint8-input takes (N, 3, H, W) float, as official files."""
    nms: bool = False
    """Non-maximum suppression in the graph: the output becomes (M, 7) rows of image, box, confidence, class."""
    nms_score_threshold: float = 0.25
    """With --nms: detections below it are dropped."""
    nms_threshold: float = 0.65
    """With --nms: IoU over which two boxes of a class are one."""
    topk: int | None = None
    """End the graph in the K anchors with the best scores: the output becomes (N, K, 6), and NMS has few rows to do."""
    opset: Literal[17, 18, 19, 20, 21, 22] = 17
    """ONNX operator set."""


@dataclass(frozen=True)
class TensorRTOptions:
    """For the targets trt and trt-rtx: how an engine is built."""

    build: bool = True
    """Build the engine. --no-build writes the TensorRT-ready ONNX file instead, for building elsewhere."""
    batch_profile: tuple[int, int, int] = (1, 1, 8)
    """Where the batch is free: smallest, most usual and largest batch of the engine."""
    optimization_level: int | None = None
    """How long the builder searches for fast kernels, 0 to 5; unset, TensorRT's own choice."""
    workspace_mib: int | None = None
    """MiB of GPU memory that kernels may use; unset, all."""
    timing_cache: Path | None = None
    """File that keeps kernel timings between builds."""


@dataclass(frozen=True)
class WebOptions:
    """For the target web. package: the archive of onnxruntime-web (see `web.ONNXRUNTIME_WEB`).

    images: four, BGR, any size, which anybody may see: visitors' browsers prove the model on them.
    """

    package: Path
    images: Sequence[Image]


@dataclass(frozen=True)
class ExportOptions:
    """opset: of the ONNX file, 17 to 22 (17 is what TensorRT 8 and most tools of the last years read).

    calibration: BGR images for int8, as the model will see them. float_layers: convolutions that stay in float in int8,
    by their path in the rewritten module, such as "backbone.backbone.stem.0" (see `sensitivity`). tensorrt_form: write
    an int8 ONNX file as TensorRT takes it, not as ONNX Runtime is fast with (see `qdq`).
    """

    opset: int = 17
    calibration: Sequence[Image] = ()
    float_layers: frozenset[str] = frozenset()
    tensorrt_form: bool = False
    tensorrt: TensorRTOptions = field(default_factory=TensorRTOptions)
    web: WebOptions | None = None

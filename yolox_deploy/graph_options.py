"""What the graph of an artifact takes and gives, as options, and in its spec."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from runtimes.spec import GraphNMS, ModelSpec, Precision

# Their graphs end before the box decoding; the runtime decodes the few boxes that pass the threshold.
RAW_TARGETS = {"ncnn"}


@dataclass(frozen=True)
class GraphOptions:
    """What the graph takes and gives."""

    decode: bool = True
    """Boxes are decoded in the graph (ncnn: never). --no-decode leaves them raw, the official exporter's default."""
    uint8_input: bool = True
    """Images are (N, H, W, 3) uint8 (ncnn: never). With --no-uint8-input, (N, 3, H, W) float, as in official files."""
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


def artifact_spec(
    reference: ModelSpec, graph: GraphOptions, batch: int | None, target: str, precision: Precision
) -> ModelSpec:
    """What an artifact of a model will promise. reference: the spec of the model; batch: None for any."""
    raw = target in RAW_TARGETS
    return replace(
        reference,
        batch=batch,
        precision=precision,
        decoded=graph.decode and not raw,
        uint8_input=graph.uint8_input and not raw,
        nms=GraphNMS(graph.nms_score_threshold, graph.nms_threshold) if graph.nms else None,
        topk=graph.topk,
    )

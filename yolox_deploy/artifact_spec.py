"""From the options of a graph to the spec of its artifact."""

from __future__ import annotations

from dataclasses import replace

from exporters.options import GraphOptions
from runtimes.spec import GraphNMS, ModelSpec, Precision

# Their graphs end before the box decoding; the runtime decodes the few boxes that pass the threshold.
RAW_TARGETS = {"ncnn"}


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

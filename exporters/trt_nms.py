"""Non-maximum suppression as TensorRT's plugin EfficientNMS_TRT behind a decoded graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from runtimes.errors import InvalidInput
from runtimes.spec import GraphNMS
from runtimes.trt_build import TITLES, logger

from .nms import CANDIDATES, CONSTANTS, append_graph

PLUGIN = "EfficientNMS_TRT"

# Of one image. The plugin gives this many rows whatever it finds, and never looks at more than 4096 candidates.
MAX_ROWS = 1000

# One class an anchor, as in `runtimes.postprocess`: the scores of its others are 0.
SCORES_GRAPH = f"""
nms (float[N, A, P] predictions) => (float[N, A, 4] boxes, float[N, A, C] scores)
<{CONSTANTS}>
{{{CANDIDATES}
    blank = Mul (classes, nothing)
    scores = ScatterElements <axis = 2> (blank, class_index, anchor_score)
}}
"""


def check_efficient_nms(trt: Any) -> None:
    """Raise `InvalidInput` where this TensorRT does not have the plugin."""
    trt.init_libnvinfer_plugins(logger(trt), "")
    registry = trt.get_plugin_registry()
    find = registry.get_creator if hasattr(registry, "get_creator") else registry.get_plugin_creator
    if find(PLUGIN, "1", "") is None:
        raise InvalidInput(
            f"{TITLES[trt.__name__]} {trt.__version__} has no {PLUGIN} plugin: use --topk, and NMS runs on the few rows"
            " it leaves."
        )


def append_efficient_nms(model: onnx.ModelProto, nms: GraphNMS) -> onnx.ModelProto:
    """The model with the plugin behind it, whose four outputs `runtimes.trt` turns into rows (M, 7)."""
    merged = append_graph(model, SCORES_GRAPH)
    batch = model.graph.output[0].type.tensor_type.shape.dim[0]
    merged.graph.node.append(_plugin(nms))
    del merged.graph.output[:]
    merged.graph.output.extend(_outputs(batch.dim_param or batch.dim_value))
    return merged


def _plugin(nms: GraphNMS) -> onnx.NodeProto:
    return helper.make_node(
        PLUGIN, ["nms/boxes", "nms/scores"],
        ["num_detections", "detection_boxes", "detection_scores", "detection_classes"], name="nms/EfficientNMS",
        # The contract takes scores that reach the threshold, whichever way the plugin compares.
        score_threshold=float(np.nextafter(np.float32(nms.score_threshold), np.float32(-1))),
        iou_threshold=nms.nms_threshold, max_output_boxes=MAX_ROWS, background_class=-1, score_activation=0,
        box_coding=0, class_agnostic=0, plugin_version="1",
    )  # fmt: skip


def _outputs(batch: str | int) -> list[onnx.ValueInfoProto]:
    integer, number = onnx.TensorProto.INT32, onnx.TensorProto.FLOAT
    return [
        helper.make_tensor_value_info("num_detections", integer, [batch, 1]),
        helper.make_tensor_value_info("detection_boxes", number, [batch, MAX_ROWS, 4]),
        helper.make_tensor_value_info("detection_scores", number, [batch, MAX_ROWS]),
        helper.make_tensor_value_info("detection_classes", integer, [batch, MAX_ROWS]),
    ]

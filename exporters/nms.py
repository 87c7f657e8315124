"""Non-maximum suppression as ONNX nodes behind a decoded graph."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import compose, helper, parser

from runtimes.spec import GraphNMS

PREDICTIONS = "predictions"

# From predictions (N, A, 5 + C) to corners, and the best class of each anchor with its score.
CANDIDATES = """
    centre = Slice (predictions, zero, two, axis)
    size = Slice (predictions, two, four, axis)
    reach = Mul (size, half)
    left_top = Sub (centre, reach)
    right_bottom = Add (centre, reach)
    boxes = Concat <axis = 2> (left_top, right_bottom)
    objectness = Slice (predictions, four, five, axis)
    classes = Slice (predictions, five, last, axis)
    class_index = ArgMax <axis = 2, keepdims = 1> (classes)
    best_score = GatherElements <axis = 2> (classes, class_index)
    anchor_score = Mul (objectness, best_score)
"""

# The constants of it, as the head of a graph declares them.
CONSTANTS = """int64[1] zero = {0}, int64[1] two = {2}, int64[1] four = {4}, int64[1] five = {5},
 int64[1] last = {9223372036854775807}, int64[1] axis = {2}, float half = {0.5}, float nothing = {0}"""

# Input: predictions (N, A, 5 + C). Output: rows (M, 7), best first: image, left, top, right, bottom, confidence, class.
# One class an anchor, as in `runtimes.postprocess`: the scores of its other classes are set to 0 and never selected.
NMS_GRAPH = """
nms (float[N, A, P] predictions) => (float[M, 7] rows)
<{constants}, int64[1] one = {{1}}, int64[2] image_and_anchor = {{0, 2}},
 float[1] score_threshold = {{{score_threshold}}}, float[1] iou_threshold = {{{iou_threshold}}}>
{{{candidates}
    shape = Shape (classes)
    blank = Expand (nothing, shape)
    masked = ScatterElements <axis = 2> (blank, class_index, anchor_score)
    scores = Transpose <perm = [0, 2, 1]> (masked)

    selected = NonMaxSuppression (boxes, scores, last, iou_threshold, score_threshold)

    where = Gather <axis = 1> (selected, image_and_anchor)
    row_boxes = GatherND (boxes, where)
    row_scores = GatherND (anchor_score, where)
    row_classes = GatherND (class_index, where)
    image = Slice (selected, zero, one, one)
    image_value = CastLike (image, half)
    class_value = CastLike (row_classes, half)
    unsorted = Concat <axis = 1> (image_value, row_boxes, row_scores, class_value)

    flat = Squeeze (row_scores, one)
    count = Shape (flat)
    ordered, order = TopK <axis = 0> (flat, count)
    rows = Gather <axis = 0> (unsorted, order)
}}
"""


def append_nms(model: onnx.ModelProto, nms: GraphNMS) -> onnx.ModelProto:
    """The model with NMS behind it; its output keeps its name and becomes (M, 7)."""
    # ONNX keeps scores above the threshold, the contract those that reach it.
    reached = np.nextafter(np.float32(nms.score_threshold), np.float32(-1))
    text = NMS_GRAPH.format(
        constants=CONSTANTS,
        candidates=CANDIDATES,
        score_threshold=f"{reached:.9g}",
        iou_threshold=f"{nms.nms_threshold:.9g}",
    )
    output = model.graph.output[0].name
    merged = append_graph(model, text)
    rename_output(merged.graph, output)
    return merged


def append_graph(model: onnx.ModelProto, text: str) -> onnx.ModelProto:
    """The model with a graph in ONNX's text form behind its output. Names of that graph begin with "nms/"."""
    graph = parser.parse_graph(text)
    for index, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{index}"
    rename_output(model.graph, PREDICTIONS)  # its own name is free then
    tail = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    merged = compose.merge_models(model, compose.add_prefix(tail, "nms/"), io_map=[(PREDICTIONS, "nms/predictions")])
    del merged.opset_import[1:]  # the same one, from each of the two
    return merged


def rename_output(graph: onnx.GraphProto, name: str) -> None:
    old = graph.output[0].name
    for node in graph.node:
        node.output[:] = [name if output == old else output for output in node.output]
    graph.output[0].name = name

"""mmdetection's names for the tensors of YOLOX, and back."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from runtimes.errors import InvalidInput

StateDict = dict[str, Tensor]

# Prefixes, official to mmdetection. Source: csp_darknet.py, yolox_pafpn.py and yolox_head.py in mmdet/models.
PREFIXES = {
    "backbone.backbone.stem.": "backbone.stem.",
    **{f"backbone.backbone.dark{stage + 1}.": f"backbone.stage{stage}." for stage in (1, 2, 3, 4)},
    "backbone.lateral_conv0.": "neck.reduce_layers.0.",
    "backbone.reduce_conv1.": "neck.reduce_layers.1.",
    "backbone.C3_p4.": "neck.top_down_blocks.0.",
    "backbone.C3_p3.": "neck.top_down_blocks.1.",
    "backbone.bu_conv2.": "neck.downsamples.0.",
    "backbone.bu_conv1.": "neck.downsamples.1.",
    "backbone.C3_n3.": "neck.bottom_up_blocks.0.",
    "backbone.C3_n4.": "neck.bottom_up_blocks.1.",
    "head.stems.": "neck.out_convs.",
    "head.cls_convs.": "bbox_head.multi_level_cls_convs.",
    "head.reg_convs.": "bbox_head.multi_level_reg_convs.",
    "head.cls_preds.": "bbox_head.multi_level_conv_cls.",
    "head.reg_preds.": "bbox_head.multi_level_conv_reg.",
    "head.obj_preds.": "bbox_head.multi_level_conv_obj.",
}
DEPTHWISE = {".dconv.": ".depthwise_conv.", ".pconv.": ".pointwise_conv."}
CSP_PARTS = {"conv1.": "main_conv.", "conv2.": "short_conv.", "conv3.": "final_conv.", "m.": "blocks."}


def mmdet_keys(state_dict: Mapping[str, Tensor]) -> StateDict:
    """Official keys to mmdetection's. Raises `InvalidInput` for Darknet-53, which mmdetection does not have."""
    if any(key.startswith("backbone.out1") for key in state_dict):
        raise InvalidInput("mmdetection has no YOLOX with Darknet-53: only nano, tiny, s, m, l and x convert.")
    # Only a CSP layer has a third convolution; blocks and SPP keep their names for conv1 and conv2.
    csp_layers = {key.split("conv3.")[0] for key in state_dict if ".conv3." in key}
    return {_mmdet_key(key, csp_layers): value for key, value in state_dict.items()}


def _mmdet_key(key: str, csp_layers: set[str]) -> str:
    for layer in csp_layers:
        if key.startswith(layer):
            key = layer + _replace_prefix(key.removeprefix(layer), CSP_PARTS)
            break
    for official, other in DEPTHWISE.items():
        key = key.replace(official, other)
    return _replace_prefix(key, PREFIXES)


def official_keys(state_dict: Mapping[str, Tensor]) -> StateDict:
    """mmdetection's keys to the official ones. Keys that YOLOX does not have stay as they are."""
    renamed = {}
    for key, value in state_dict.items():
        key = _replace_prefix(key, {other: official for official, other in PREFIXES.items()})
        for official, other in (*DEPTHWISE.items(), *((f".{part}", f".{name}") for part, name in CSP_PARTS.items())):
            key = key.replace(other, official)
        renamed[key] = value
    return renamed


def _replace_prefix(key: str, prefixes: Mapping[str, str]) -> str:
    for old, new in prefixes.items():
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key

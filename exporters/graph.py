"""The module that is traced: the model in its cheapest exact form, and around it what the artifact promises."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from runtimes.postprocess import anchor_grid
from runtimes.preprocess import imagenet_statistics
from runtimes.spec import ModelSpec


def rewrite(model: nn.Module, channels_last: bool = False) -> nn.Module:
    """A copy of the model in which every block stands in its `inference_form()`, if it offers one.

    The rewrites are exact (batch norm folded, Focus as one convolution, pools in a row): outputs differ by rounding.
    channels_last: take the `channels_last_form()` as well, where there is one.
    """
    model = copy.deepcopy(model).eval()
    _rewrite_children(model, ["inference_form", "channels_last_form"] if channels_last else ["inference_form"])
    return model


def _rewrite_children(module: nn.Module, forms: Sequence[str]) -> None:
    for name, child in module.named_children():
        for form in forms:
            make: Callable[[], nn.Module] | None = getattr(child, form, None)
            if make is not None:
                child = make()
                setattr(module, name, child)
        _rewrite_children(child, forms)


class InferenceGraph(nn.Module):
    """Images as the spec says, to predictions as the spec says: (N, A, 5 + C), without NMS."""

    cells: Tensor
    strides: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.model = rewrite(model, channels_last=True)
        self.spec = spec
        # Typed fp16: the network in half precision; input, scores and boxes in float, since fp16 has steps of half a
        # pixel above 512.
        self.typed_fp16 = spec.precision == "fp16"
        if self.typed_fp16:
            self.model.half()
        cells, strides = anchor_grid(spec.input_size, spec.strides)
        self.register_buffer("cells", torch.from_numpy(cells), persistent=False)  # (A, 2)
        self.register_buffer("strides", torch.from_numpy(strides), persistent=False)  # (A, 1)
        mean, std = imagenet_statistics(spec.channel_order)
        self.register_buffer("mean", torch.from_numpy(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.from_numpy(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if self.spec.uint8_input:
            # The cast first: it is all that TensorRT does with bytes.
            images = images.float().permute(0, 3, 1, 2)  # (N, H, W, 3) to (N, 3, H, W)
            if self.spec.normalization == "imagenet":
                images = (images / 255 - self.mean) / self.std
        predictions = self.model(images.half()).float() if self.typed_fp16 else self.model(images)
        boxes, scores = predictions[..., :4], predictions[..., 4:].sigmoid()
        if self.spec.decoded:
            centre = (boxes[..., :2] + self.cells) * self.strides
            boxes = torch.cat([centre, boxes[..., 2:].exp() * self.strides], dim=-1)
        if self.spec.topk is not None:
            return best_rows(boxes, scores, self.spec.topk)
        return torch.cat([boxes, scores], dim=-1)


def best_rows(boxes: Tensor, scores: Tensor, count: int) -> Tensor:
    """`runtimes.postprocess.best_rows` in the graph: (N, A, 4) and (N, A, 1 + C) to (N, count, 6), best first."""
    # Not `max`, which becomes a ReduceMax that onnx cannot convert to opset 17.
    class_ids = scores[..., 1:].argmax(dim=-1, keepdim=True)  # (N, A, 1)
    candidates = scores[..., :1] * scores[..., 1:].gather(2, class_ids)
    confidence, anchors = torch.topk(candidates, count, dim=1)  # (N, count, 1)
    chosen = boxes.gather(1, anchors.expand(-1, -1, 4))
    reach = chosen[..., 2:] / 2
    corners = [chosen[..., :2] - reach, chosen[..., :2] + reach]
    return torch.cat([*corners, confidence, class_ids.gather(1, anchors).float()], dim=-1)

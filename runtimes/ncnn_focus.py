"""YOLOX's `Focus` in NCNN's own layers."""

from __future__ import annotations

from collections.abc import Sequence

from .ncnn_format import Layer


def without_focus(layers: Sequence[Layer]) -> list[Layer]:
    """The layers with NCNN's own in place of `YoloV5Focus`, which the official recipe leaves to the application.

    It makes four images of half the size, of every second pixel, in the order of YOLOX's `Focus`: top left, bottom
    left, top right, bottom right.
    """
    made: list[Layer] = []
    for layer in layers:
        if layer.kind != "YoloV5Focus" or len(layer.inputs) != 1 or len(layer.outputs) != 1 or layer.parameters:
            made.append(layer)
            continue
        [output] = layer.outputs
        corners = tuple(f"{output}_focus{index}" for index in range(4))
        made += [
            Layer("Reorg", f"{layer.name}_reorg", layer.inputs, (f"{output}_reorg",), {0: "2", 1: "1"}),
            Layer("Slice", f"{layer.name}_slice", (f"{output}_reorg",), corners, {-23300: "4,-233,-233,-233,-233"}),
            Layer("Concat", f"{layer.name}_concat", tuple(corners[index] for index in (0, 2, 1, 3)), (output,)),
        ]
    return made

"""int8 for NCNN: thresholds measured on images, weights and scales as NCNN's own tools store them.

Every convolution whose time is worth it takes int8 and gives float. Two kinds stay in float: the predictions, whose
values are the result, and depthwise convolutions. NCNN has one scale for all channels that come into a layer, and in a
depthwise one each output hangs on its channel alone: YOLOX-Nano falls from 28.6 to 12.9 AP with them, and is no faster.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtimes.errors import InvalidInput
from runtimes.ncnn import open_net, run_image
from runtimes.ncnn_format import CONVOLUTIONS, Layer, Weights
from runtimes.ncnn_graph import OUTPUT
from runtimes.preprocess import Image, preprocess
from runtimes.spec import ModelSpec

from .options import ExportOptions

LARGEST = 127  # int8 runs from -127 to 127 here: NCNN keeps it symmetric

# Of the absolute values that come into a layer in one image, in per cent: rarer and larger ones are cut off.
PERCENTILE = 99.99

INT8_TERM = "2"  # how NCNN marks a convolution with a scale for each output channel


def quantize(
    path: Path, layers: Sequence[Layer], weights: Mapping[str, Weights], spec: ModelSpec, options: ExportOptions
) -> tuple[list[Layer], dict[str, Weights]]:
    """Graph and weights in int8, from the fp32 model in `path` and on `options.calibration`.

    Raises `InvalidInput` for `options.float_layers` that the model does not have, or that leave nothing for int8.
    """
    unknown = sorted(options.float_layers - set(weights))
    if unknown:
        raise InvalidInput(f"{spec.name} has no convolution {unknown[0]!r} that could stay in float.")
    chosen = int8_layers(layers, options.float_layers)
    if not chosen:
        raise InvalidInput(f"no convolution of {spec.name} is left for int8: export as fp32, or keep fewer in float.")
    thresholds = measure_thresholds(
        path, [layer for layer in layers if layer.name in chosen], spec, options.calibration
    )
    marked = [_mark(layer) if layer.name in chosen else layer for layer in layers]
    return marked, dict(weights) | {name: to_int8(weights[name], thresholds[name]) for name in chosen}


def int8_layers(layers: Sequence[Layer], float_layers: Collection[str] = ()) -> list[str]:
    """The convolutions that int8 is for, by name: neither depthwise, nor a prediction, nor asked to stay in float."""
    fixed = {*float_layers, *_predictions(layers)}
    return [layer.name for layer in layers if layer.kind == "Convolution" and layer.name not in fixed]


def _predictions(layers: Sequence[Layer]) -> list[str]:
    """Convolutions with no other between them and the output."""
    values, found = {OUTPUT}, []
    for layer in reversed(layers):
        if values & set(layer.outputs) and layer.kind in CONVOLUTIONS:
            found.append(layer.name)
        elif values & set(layer.outputs):
            values |= set(layer.inputs)
    return found


def measure_thresholds(
    path: Path, layers: Sequence[Layer], spec: ModelSpec, images: Sequence[Image]
) -> dict[str, float]:
    """The largest absolute input that each layer must tell apart: a percentile in each image, averaged over images."""
    net = open_net(path, threads=1)  # more wait for each other as soon as anything else runs
    names = [layer.inputs[0] for layer in layers]
    found = []
    for image in images:
        inputs, _ = preprocess([image], spec)
        found.append([_percentile(np.abs(values)) for values in run_image(net, inputs[0], names)])
    return dict(zip((layer.name for layer in layers), np.mean(found, axis=0).tolist(), strict=True))


def _percentile(values: npt.NDArray[np.float32]) -> float:
    """np.percentile, without its interpolation, by which it is several times slower."""
    index = int(np.ceil(values.size * PERCENTILE / 100)) - 1
    return float(np.partition(values.ravel(), index)[index])


def to_int8(weights: Weights, threshold: float) -> Weights:
    """A convolution in int8, with a scale for each output channel and one for what comes in; the bias stays float."""
    largest = np.abs(weights.weight).max(axis=(1, 2, 3))
    scales = np.divide(LARGEST, largest, out=np.ones_like(largest), where=largest > 0)  # 1 for a channel of zeros
    weight = np.rint(weights.weight * scales[:, None, None, None]).clip(-LARGEST, LARGEST).astype(np.int8)
    input_scale = np.array([LARGEST / threshold if threshold > 0 else 1], np.float32)
    return Weights(weight, weights.bias, scales, input_scale)


def _mark(layer: Layer) -> Layer:
    return replace(layer, parameters=layer.parameters | {8: INT8_TERM})

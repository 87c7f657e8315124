"""int8 in an OpenVINO model, by NNCF."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterable
from typing import Any

import numpy.typing as npt

from runtimes.errors import InvalidInput, MissingBackend

from .telemetry import decline_telemetry

try:
    decline_telemetry()
    import nncf
except ImportError:
    raise MissingBackend("int8 for OpenVINO needs NNCF: pip install nncf") from None


def quantize(model: Any, batches: Iterable[npt.NDArray[Any]], float_convolutions: set[str]) -> Any:
    """The OpenVINO model with int8 convolutions, but for those named (by their ONNX node).

    The mixed preset: activations have a zero point, since SiLU gives little below 0 and much above. NNCF gives the
    inputs of depthwise convolutions one scale a channel, which ONNX Runtime cannot compute.
    """
    inputs = [*batches]
    logging.getLogger("nncf").setLevel(logging.ERROR)
    named = {operation.get_friendly_name() for operation in model.get_ops()}
    # OpenVINO splits a convolution with bias in two and adds to the name.
    ignored = [name for node in float_convolutions for name in (node, f"{node}/WithoutBiases") if name in named]
    if len(ignored) < len(float_convolutions):
        raise InvalidInput("OpenVINO has other names for the convolutions than their ONNX nodes; int8 needs them.")
    with contextlib.redirect_stdout(sys.stderr):  # its progress bars
        return nncf.quantize(
            model,
            nncf.Dataset(inputs),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(inputs),
            ignored_scope=nncf.IgnoredScope(names=sorted(ignored)),
        )

"""OpenVINO: the ONNX graph as IR, the spec inside; int8 by NNCF."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from runtimes.errors import MissingBackend
from runtimes.openvino import RT_INFO
from runtimes.postprocess import Floats
from runtimes.spec import ModelSpec

from .onnx import export_onnx  # first, since it says which packages are missing
from .options import ExportOptions
from .parity import StageCheck

try:
    import openvino
except ImportError:
    raise MissingBackend("the OpenVINO exporter needs OpenVINO: pip install openvino") from None

import onnx

from .calibration import calibration_batches
from .qdq import float_convolutions
from .telemetry import decline_telemetry


def check_openvino(spec: ModelSpec, options: ExportOptions) -> None:
    """Raise `MissingBackend`, before any work, where int8 is asked for and NNCF is missing."""
    if spec.precision == "int8":
        from . import nncf  # noqa: F401


def export_openvino(
    model: nn.Module, spec: ModelSpec, directory: Path, options: ExportOptions, check: StageCheck
) -> Path:
    """Write `directory/model.xml` and `model.bin`. fp16 is that of the weights; the runtime says what to compute in."""
    with tempfile.TemporaryDirectory() as folder:
        onnx_file = export_onnx(model, replace(spec, precision="fp32"), Path(folder), options, check)
        decline_telemetry()
        converted = openvino.convert_model(onnx_file)
        graph = onnx.load(onnx_file).graph
    if spec.nms is None:
        check.record("OpenVINO's conversion", run(converted, check))
    if spec.precision == "int8":
        from .nncf import quantize

        floats = float_convolutions(graph, options.float_layers)
        converted = quantize(converted, calibration_batches(options.calibration, spec), floats)
        if spec.nms is None:
            check.record("NNCF", run(converted, check), "int8")
    converted.set_rt_info(spec.to_json(), RT_INFO)
    path = directory / "model.xml"
    openvino.save_model(converted, path, compress_to_fp16=spec.precision == "fp16")
    return path


def run(model: Any, check: StageCheck) -> Floats:
    """The output of a model that is not yet a file."""
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    output: Floats = compiled(check.inputs)[0]
    return output

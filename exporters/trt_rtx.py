"""TensorRT-RTX: an engine that is compiled ahead on any machine, without a GPU, for NVIDIA's RTX cards."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from runtimes.errors import InvalidInput
from runtimes.spec import ModelSpec
from runtimes.trt_build import library

from .options import ExportOptions
from .parity import StageCheck
from .trt import build, build_options, check_opset, export_ready_onnx


def export_trt_rtx(
    model: nn.Module, spec: ModelSpec, directory: Path, options: ExportOptions, check: StageCheck
) -> Path:
    """Write `directory/model.onnx`, and unless `build` is off, `model.rtx` and `engine.json`.

    The engine is for Ampere (8.0) and every later RTX card; built on a machine with a Turing card (7.5), for that one.
    `check_can_build` is to be asked first.
    """
    path = export_ready_onnx(model, spec, directory, options, check)
    return build(path.with_suffix(".rtx"), spec, options.tensorrt) if options.tensorrt.build else path


def check_can_build(spec: ModelSpec, options: ExportOptions) -> None:
    """Look, before any work, whether what is asked for can be done on this machine.

    Raises `MissingBackend` without tensorrt_rtx, `InvalidInput` for what TensorRT-RTX has not and for options
    out of range.
    """
    check_opset("TensorRT-RTX", options.opset)
    build_options(spec, options.tensorrt)
    if spec.nms is not None:
        raise InvalidInput("TensorRT-RTX has no NMS plugin: use --topk, and NMS runs on the few rows it leaves.")
    if options.tensorrt.timing_cache is not None:
        raise InvalidInput("TensorRT-RTX times nothing while it builds: leave out --timing-cache.")
    if options.tensorrt.build:
        library("tensorrt_rtx")

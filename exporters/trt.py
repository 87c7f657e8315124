"""TensorRT: a TensorRT-ready ONNX file, and the engine that this machine's GPU builds from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
from torch import nn

from runtimes.errors import InvalidInput, MissingBackend
from runtimes.onnx import spec_to_metadata
from runtimes.spec import ModelSpec
from runtimes.trt_build import BuildOptions, is_strongly_typed, library
from runtimes.trt_engine import building_gpu, write_engine

from .onnx import export_onnx
from .options import ExportOptions, TensorRTOptions
from .parity import StageCheck
from .trt_graph import check_tensorrt_ready
from .trt_nms import append_efficient_nms, check_efficient_nms

# What TensorRT reads from version 10 on, and what version 8 does.
NEWEST_OPSET, OLD_OPSET = 20, 17


def export_trt(model: nn.Module, spec: ModelSpec, directory: Path, options: ExportOptions, check: StageCheck) -> Path:
    """Write `directory/model.onnx`, and unless `build` is off, `model.engine` and `engine.json`.

    With NMS in the spec the graph ends in TensorRT's plugin EfficientNMS. `check_can_build` is to be asked first.

    From TensorRT 10 on, the types are the ONNX file's: in fp16 the network is in half, the decoding of boxes in float.
    TensorRT 8 is only allowed half, for every layer: it may decode in half too, where boxes lie half a pixel off from
    512 pixels on. Its fp16 is unproven; such an engine has "FP16" among the flags in `engine.json`.
    """
    path = export_ready_onnx(model, spec, directory, options, check)
    return build(path.with_suffix(".engine"), spec, options.tensorrt) if options.tensorrt.build else path


def check_can_build(spec: ModelSpec, options: ExportOptions) -> None:
    """Look, before any work, whether what is asked for can be done on this machine.

    Raises `MissingBackend` without tensorrt or a CUDA GPU, `InvalidInput` for NMS where nothing can hold or prove it,
    and for options out of range.
    """
    check_opset("TensorRT", options.opset)
    build_options(spec, options.tensorrt)
    if not options.tensorrt.build:
        if spec.nms is not None:
            raise InvalidInput(
                "NMS for TensorRT is a plugin, which nothing but an engine can prove: leave out --no-build,"
                " or use --topk."
            )
        return
    try:
        trt = library("tensorrt")
        building_gpu(".engine")
    except MissingBackend as error:
        what = str(error).rstrip(".")
        raise MissingBackend(
            f"{what}; or add --no-build for the TensorRT-ready ONNX, or use --target trt-rtx."
        ) from None
    if not is_strongly_typed(trt):
        check_opset(f"TensorRT {trt.__version__}", options.opset, OLD_OPSET)
    if spec.nms is not None:
        check_efficient_nms(trt)


def check_opset(reader: str, opset: int, newest: int = NEWEST_OPSET) -> None:
    """Raise `InvalidInput` for an ONNX file that is too new."""
    if opset > newest:
        raise InvalidInput(f"{reader} reads ONNX up to opset {newest}, not {opset}: leave out --opset.")


def export_ready_onnx(
    model: nn.Module, spec: ModelSpec, directory: Path, options: ExportOptions, check: StageCheck
) -> Path:
    """Write `directory/model.onnx` as TensorRT takes it; with NMS in the spec, as EfficientNMS."""
    # ONNX's own NMS has outputs whose size depends on the data.
    graph_spec = replace(spec, nms=None)
    path = export_onnx(model, graph_spec, directory, replace(options, tensorrt_form=True), check)
    ready = onnx.load(path)
    if spec.nms is not None:
        ready = append_efficient_nms(ready, spec.nms)
        onnx.helper.set_model_props(ready, spec_to_metadata(spec))
        onnx.save(ready, path)
    check_tensorrt_ready(ready, path.name)
    return path


def build(engine: Path, spec: ModelSpec, options: TensorRTOptions) -> Path:
    """Build `engine` from the `model.onnx` beside it. Returns it."""
    write_engine(engine, build_options(spec, options), options.timing_cache)
    return engine


def build_options(spec: ModelSpec, options: TensorRTOptions) -> BuildOptions:
    """Raises `InvalidInput` where a value is out of range."""
    return BuildOptions(spec.precision, options.batch_profile, options.optimization_level, options.workspace_mib)

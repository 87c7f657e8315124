"""ONNX: PyTorch's exporter, readable names, onnxsim, the spec as metadata."""

from __future__ import annotations

import ast
import contextlib
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch

from runtimes.errors import MissingBackend
from runtimes.onnx import spec_to_metadata
from runtimes.postprocess import Floats
from runtimes.spec import ModelSpec, Precision

from .graph import InferenceGraph
from .options import ExportOptions
from .parity import StageCheck

try:
    import onnx
    import onnx.version_converter
    import onnxruntime
    import onnxscript  # noqa: F401  (torch.onnx.export needs it)
    import onnxsim
except ImportError as error:
    raise MissingBackend(f"the ONNX exporter needs {error.name}: pip install {error.name}") from None

# Names of the official YOLOX exporter: with float input and raw boxes, apps written for its files keep working.
INPUT, OUTPUT = "images", "output"

# The oldest opset that PyTorch's exporter writes itself; older ones are converted.
TORCH_OPSET = 18

# Where PyTorch's exporter notes the modules that a node came from: "['', 'model', 'model.head', 'conv2d_3']".
MODULE_PATHS = "pkg.torch.onnx.name_scopes"


def export_onnx(
    model: torch.nn.Module, spec: ModelSpec, directory: Path, options: ExportOptions, check: StageCheck
) -> Path:
    """Write `directory/model.onnx` for any module that maps (N, 3, H, W) to raw predictions (N, A, 5 + C).

    `check` records how far the output is from the reference after each step.
    """
    graph = InferenceGraph(model, spec).eval()
    inputs = torch.from_numpy(check.inputs)
    typed: Precision = "fp16" if spec.precision == "fp16" else "fp32"  # int8 comes last
    with torch.inference_mode():
        check.record("the rewritten PyTorch graph", graph(inputs).numpy(), typed)
    exported = trace(graph, inputs, options.opset)
    check.record("PyTorch's ONNX export", run(exported, check), typed)
    # onnxsim compares with the original on random inputs of its own; we compare with the reference on real ones.
    final, _ = onnxsim.simplify(exported)
    check.record("onnxsim", run(final, check), typed)
    if spec.precision == "int8":
        from .calibration import calibration_batches
        from .qdq import quantize_for_onnxruntime, quantize_for_tensorrt

        quantize = quantize_for_tensorrt if options.tensorrt_form else quantize_for_onnxruntime
        final = quantize(final, calibration_batches(options.calibration, spec), options.float_layers)
        check.record("int8", run(final, check), "int8")
    if spec.nms is not None:
        from .nms import append_nms

        final = append_nms(final, spec.nms)
    onnx.helper.set_model_props(final, spec_to_metadata(spec))
    final.ir_version = onnx.helper.find_min_ir_version_for(list(final.opset_import))
    final.producer_name, final.producer_version = "yolox-deploy", ""
    onnx.checker.check_model(final, full_check=True)
    path = directory / "model.onnx"
    onnx.save(final, path)
    return path


def trace(graph: InferenceGraph, inputs: torch.Tensor, opset: int) -> onnx.ModelProto:
    """PyTorch's exporter. A free batch is traced with two images, since torch takes a one for a constant."""
    dynamic = graph.spec.batch is None
    example = inputs[:1].repeat(2, 1, 1, 1) if dynamic else inputs
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    with quiet():
        program = torch.onnx.export(
            graph, (example,), dynamo=True, opset_version=max(opset, TORCH_OPSET), dynamic_shapes=shapes,
            input_names=[INPUT], output_names=[OUTPUT], verbose=False,
        )  # fmt: skip
    assert program is not None  # only None for the old exporter
    model = program.model_proto
    if dynamic:  # torch 2.6 names the free dimension after the example's size
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    name_nodes(model.graph)
    return model if opset >= TORCH_OPSET else onnx.version_converter.convert_version(model, opset)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's notes on its internals (torchvision is missing, pytree is deprecated) off the terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.fx.experimental.symbolic_shapes")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def name_nodes(graph: onnx.GraphProto) -> None:
    """Name nodes and values after the modules they come from ("backbone.backbone.stem/Conv"), as Netron shows them.

    PyTorch's notes on each node are dropped: they hold the source paths of the machine that exported.
    """
    fixed = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {}
    used: Counter[str] = Counter()
    for node in graph.node:
        notes = {entry.key: entry.value for entry in node.metadata_props}
        scopes = ast.literal_eval(notes.get(MODULE_PATHS, "['', '']"))
        module = scopes[-2].removeprefix("model").lstrip(".") or "decode"
        stem = f"{module}/{node.op_type}"
        node.name = f"{stem}_{used[stem]}" if used[stem] else stem
        used[stem] += 1
        del node.metadata_props[:]
        for index, output in enumerate(node.output):
            if output not in fixed:
                names[output] = f"{node.name}_output" + (f"_{index}" if index else "")
    for index, tensor in enumerate(graph.initializer):
        constant = tensor.name.startswith("val_")  # the exporter's name for what is no weight
        names[tensor.name] = f"constant_{index}" if constant else tensor.name.removeprefix("model.")
        del tensor.metadata_props[:]
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    del graph.value_info[:]  # onnxsim infers them anew
    for value in (*graph.input, *graph.output):
        del value.metadata_props[:]


def run(model: onnx.ModelProto, check: StageCheck) -> Floats:
    """The output of a model that is not yet a file."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    output: Floats = session.run(None, {INPUT: check.inputs})[0]
    return output

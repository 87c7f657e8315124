"""How much of the convolutions' work a backend really computes in int8, read from what it made of the file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from exporters.sensitivity import SensitivityMap
from runtimes.ncnn_format import read_model
from runtimes.openvino import OpenVINORuntime


def onnx_layers(path: Path) -> set[str]:
    """The convolutions that ONNX Runtime computes in int8: QLinearConv in the graph that it optimized."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        options.log_severity_level = 3  # it warns that the file is for this processor only
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath, load_external_data=False).graph
    return {_layer(node.name) for node in graph.node if node.op_type == "QLinearConv"}


def openvino_layers(path: Path) -> set[str]:
    """The convolutions that OpenVINO computes in int8, as the compiled graph says."""
    runtime = OpenVINORuntime(path, threads=1)
    found: set[str] = set()
    for operation in runtime.compiled.get_runtime_model().get_ops():
        info = operation.get_rt_info()
        if info["layerType"].astype(str) == "Convolution" and info["runtimePrecision"].astype(str) in ("u8", "i8"):
            names = info["originalLayersNames"].astype(str).split(",")
            found.update(_layer(name) for name in names if "/Conv" in name and not name.endswith("fq_input_0"))
    return found


def ncnn_layers(path: Path) -> set[str]:
    """The convolutions that NCNN computes in int8: those whose weights are."""
    return {name for name, weight in read_model(path)[1].items() if weight.weight.dtype == "int8"}


def _layer(node: str) -> str:
    return node.split("/Conv")[0]


INT8_LAYERS: dict[str, Callable[[Path], set[str]]] = {
    ".onnx": onnx_layers,
    ".xml": openvino_layers,
    ".param": ncnn_layers,
}


def int8_share(model_file: Path, sensitivity: SensitivityMap) -> float:
    """The share of the convolutions' multiply-adds that is computed in int8; `sensitivity` says how many each has."""
    return sensitivity.share(INT8_LAYERS[model_file.suffix](model_file) & set(sensitivity.layers))

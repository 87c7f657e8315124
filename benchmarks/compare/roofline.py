"""This machine's matrix-multiply peak, and how near to it a model comes."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from exporters.graph import rewrite

SIDES = (768, 1536)  # of square matrices: which is best differs from processor to processor
SECONDS = 0.5


def measured_peaks(threads: int) -> dict[str, float]:
    """GFLOP/s of matrix multiplication on so many threads, by precision: fp32, int8 and bf16 (emulated, on some).

    fp32 and int8 by ONNX Runtime, bf16 by PyTorch's oneDNN: the libraries that the backends use themselves. A
    convolution may pass it all the same: Winograd's algorithm multiplies less than is counted.
    """
    found = {name: max(_rate(_onnx_product(name, side, threads), side) for side in SIDES) for name in ("fp32", "int8")}
    found["bf16"] = max(_rate(_bf16_product(side, threads), side) for side in SIDES)
    return found


def _rate(product: Callable[[], object], side: int) -> float:
    """GFLOP/s at its best moment: a roof is the most that there can be."""
    product()
    best, end = np.inf, time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        product()
        best = min(best, time.perf_counter() - start)
    return 2e-9 * side**3 / float(best)


def _onnx_product(precision: str, side: int, threads: int) -> Callable[[], object]:
    import onnxruntime
    from onnx import parser

    operator, left, right, out = {
        "fp32": ("MatMul", "float", "float", "float"),
        "int8": ("MatMulInteger", "uint8", "int8", "int32"),
    }[precision]
    text = f"""
        <ir_version: 8, opset_import: ["": 17]>
        product ({left}[{side},{side}] a, {right}[{side},{side}] b) => ({out}[{side},{side}] c)
        {{ c = {operator}(a, b) }}"""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = parser.parse_model(text).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    types = {"float": np.float32, "uint8": np.uint8, "int8": np.int8}
    feed = {
        name: random.integers(0, 100, (side, side)).astype(types[kind]) for name, kind in (("a", left), ("b", right))
    }
    return lambda: session.run(None, feed)


def _bf16_product(side: int, threads: int) -> Callable[[], object]:
    torch.set_num_threads(threads)
    a, b = (torch.rand(side, side).bfloat16() for _ in range(2))
    return lambda: a @ b


def convolution_gflops(model: nn.Module, height: int, width: int) -> float:
    """Billions of operations of the convolutions of one image, two for each multiply-add, as they are exported."""
    operations = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal operations
        if isinstance(module, nn.Conv2d):
            operations += 2 * output.numel() * module.weight[0].numel()

    network = rewrite(model).to("meta")
    for module in network.modules():
        module.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros(1, 3, height, width, device="meta"))
    return operations / 1e9

"""NCNN: traced by PyTorch, converted by pnnx, checked layer by layer, weights stored as the precision says."""

from __future__ import annotations

import re
import subprocess
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runtimes.errors import InvalidInput, MissingBackend
from runtimes.ncnn import NcnnRuntime
from runtimes.ncnn_format import Layer, Weights, parse_bin, parse_param
from runtimes.ncnn_graph import output_shape
from runtimes.spec import ModelSpec

from .graph import rewrite
from .ncnn_format import to_half, write_model
from .ncnn_int8 import quantize
from .options import ExportOptions
from .parity import StageCheck

try:
    import ncnn  # noqa: F401  (the result is run)
    import pnnx
except ImportError as error:
    raise MissingBackend(f"the NCNN exporter needs {error.name}: pip install {error.name}") from None

# pnnx leaves free what differs between two runs. Small sizes do, in units of the largest stride; areas must differ too.
TRACED, SECOND = (2, 3), (3, 4)

# How pnnx writes "the first two dimensions in one", for which NCNN has a plain form that older versions read too.
FLATTEN = re.compile(r'6="\*\(0h,0w\),(\d+)"')


class RawNetwork(nn.Module):
    """Images (N, 3, H, W) to (N, 5 + C, A): the scores after the sigmoid, boxes raw.

    Channels first, as they come out of the convolutions: turning them would cost NCNN layers, and NumPy nothing.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = rewrite(model)

    def forward(self, images: Tensor) -> Tensor:
        predictions = self.model(images).transpose(1, 2)
        return torch.cat([predictions[:, :4], predictions[:, 4:].sigmoid()], dim=1)


def check_ncnn(spec: ModelSpec, options: ExportOptions) -> None:
    """Raise `InvalidInput`, before any work, for what NCNN files cannot hold."""
    if spec.decoded or spec.uint8_input or spec.nms or spec.topk:
        raise InvalidInput("NCNN files take float input and leave boxes raw: no decoding, uint8 input, NMS or TopK.")


def export_ncnn(model: nn.Module, spec: ModelSpec, directory: Path, options: ExportOptions, check: StageCheck) -> Path:
    """Write `directory/model.param` and `.bin` for any module that maps (N, 3, H, W) to raw predictions (N, A, 5 + C).

    `check` records how far the output is from the reference after each step. `check_ncnn` is to be asked first.
    """
    network = RawNetwork(model).eval()
    with torch.inference_mode():
        check.record("the rewritten PyTorch graph", network(torch.from_numpy(check.inputs)).mT.numpy())
    layers, weights = convert(network, spec)
    path = write_model(directory / "model.param", layers, weights)
    plain = NcnnRuntime(path, replace(spec, precision="fp32"), threads=1)
    check.record("pnnx", plain.infer(check.inputs))
    if spec.precision == "fp32":
        return path
    if spec.precision == "fp16":
        weights = to_half(weights)
    else:
        layers, weights = quantize(path, layers, weights, spec, options)
    write_model(path, layers, weights)
    check.record(spec.precision, NcnnRuntime(path, spec, threads=1).infer(check.inputs), spec.precision)
    return path


def convert(network: RawNetwork, spec: ModelSpec) -> tuple[list[Layer], dict[str, Weights]]:
    """The network by pnnx, with fp32 weights, its convolutions named after their modules.

    pnnx succeeds even where it wrote what NCNN cannot load, or left something out; here that raises `InvalidInput`.
    """
    with tempfile.TemporaryDirectory() as folder:
        text, content = _run_pnnx(network, max(spec.strides), Path(folder))
    try:
        layers = parse_param(FLATTEN.sub(r"0=-1 1=\1", text))
        found = output_shape(layers, (3, *spec.input_size))
        if found != (5 + spec.num_classes, spec.num_anchors):  # it drops what it does not understand
            raise InvalidInput(f"what it wrote gives an output of shape {found}.")
        weights = parse_bin(content, layers)
    except InvalidInput as error:
        raise InvalidInput(f"pnnx cannot convert {spec.name} to what NCNN runs here: {error}") from None
    names = match_modules(network, weights)
    return rename(layers, names), {names[name]: one for name, one in weights.items()}


def _run_pnnx(network: RawNetwork, step: int, folder: Path) -> tuple[str, bytes]:
    """pnnx writes many files beside its own; all into `folder`."""
    shapes = [(1, 3, rows * step, columns * step) for rows, columns in (TRACED, SECOND)]
    trace: Any = torch.jit.trace
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, but the only thing that pnnx reads
        trace(network, torch.zeros(shapes[0]), check_trace=False).save(str(folder / "model.pt"))
    sizes = [
        f"{name}=[{','.join(map(str, shape))}]"
        for name, shape in zip(("inputshape", "inputshape2"), shapes, strict=True)
    ]
    done = subprocess.run(
        [pnnx.EXEC_PATH, "model.pt", *sizes, "fp16=0"], cwd=folder, capture_output=True, text=True, check=False
    )
    try:
        return (folder / "model.ncnn.param").read_text(), (folder / "model.ncnn.bin").read_bytes()
    except OSError:
        last = (done.stderr.strip() or f"it ended with {done.returncode}").splitlines()[-1]
        raise InvalidInput(f"pnnx could not convert the model: {last}") from None


def match_modules(network: RawNetwork, weights: Mapping[str, Weights]) -> dict[str, str]:
    """pnnx numbers the convolutions; find the module path of each by its weights, which pnnx does not change."""
    paths: dict[bytes, list[str]] = {}
    for path, module in network.model.named_modules():
        if isinstance(module, nn.Conv2d):
            paths.setdefault(_bytes(module.weight, module.bias), []).append(path)
    found = {}
    for name, one in weights.items():
        key = one.weight.tobytes() + (b"" if one.bias is None else one.bias.tobytes())
        candidates = paths.get(key)
        if not candidates:
            raise InvalidInput(f"pnnx changed the weights of {name}, or uses them twice: it cannot be named.")
        found[name] = candidates.pop(0)  # of equal ones any: what holds for one holds for the other
    return found


def _bytes(weight: Tensor, bias: Tensor | None) -> bytes:
    return b"".join(values.detach().numpy().tobytes() for values in (weight, bias) if values is not None)


def rename(layers: Sequence[Layer], names: Mapping[str, str]) -> list[Layer]:
    """Name convolutions after their modules, and an activation after the convolution that it follows."""
    source = {name: layer for layer in layers for name in layer.outputs}
    renamed = []
    for layer in layers:
        before = source[layer.inputs[0]].name if layer.inputs else ""
        activated = f"{names[before]}/{layer.kind}" if before in names and len(layer.outputs) == 1 else layer.name
        renamed.append(replace(layer, name=names.get(layer.name, activated)))
    return renamed

"""python -m benchmarks.layers: where a backend spends its time inside the network, and how near to the machine's roof.

    python -m benchmarks.layers artifacts/yolox-s-openvino-int8

Asks the backend's own profiler (ONNX Runtime and OpenVINO have one) and sets the work of each kind of convolution
against the peak that this machine reaches in matrix multiplication. OpenVINO computes activations inside the
convolution before them, ONNX Runtime on their own. Prints a table and ends with one JSON line.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import tyro

from runtimes.errors import InvalidInput
from runtimes.json_file import json_text
from runtimes.load import model_file
from runtimes.onnx import OnnxRuntime
from runtimes.openvino import OpenVINORuntime
from runtimes.preprocess import preprocess
from yolox_deploy.console import require, run
from yolox_deploy.doctor import cpu
from yolox_deploy.options import Images, check_positive

from .compare.roofline import measured_peaks
from .machine import describe_machine
from .photos import some_images

WARM_UP = 10

# What ONNX Runtime and OpenVINO call them.
CONVOLUTIONS = {"Conv", "FusedConv", "NhwcFusedConv", "QLinearConv", "Convolution", "GroupConvolution"}


@dataclass(frozen=True)
class LayersConfig:
    """Where a backend spends its time inside the network, and how near to the machine's roof."""

    artifact: Annotated[Path, tyro.conf.Positional]
    """Artifact of the target onnx or openvino."""
    bf16: bool = False
    """OpenVINO: compute in bf16 what is not int8."""
    images: Images = None
    """Folder of images; unset, generated ones."""
    runs: int = 50
    """Runs that are timed, after some that are not."""


@dataclass(frozen=True)
class Part:
    """What takes time: a kind of convolution, in one precision, or another operation.

    layers: how many. gflop: billions of operations, two for each multiply-add; 0 for what is no convolution.
    """

    kind: str
    precision: str
    layers: int
    gflop: float
    milliseconds: float

    def row(self, total: float, peaks: dict[str, float]) -> str:
        rate = f"{self.gflop / self.milliseconds * 1e3:.0f}" if self.gflop else ""
        roof = f"{self.gflop / self.milliseconds * 1e3 / peaks[self.precision]:.0%}" if self.gflop else ""
        share = f"{self.milliseconds / total:.0%}"
        return (
            f"| {self.kind} | {self.precision} | {self.layers} | {self.milliseconds:.3f} | {share} | {rate} | {roof} |"
        )


@dataclass(frozen=True)
class Timed:
    """One operation as the profiler names it: its median milliseconds, and the precision it was computed in."""

    name: str
    kind: str
    precision: str
    milliseconds: float


def work_of(path: Path) -> dict[str, tuple[str, float]]:
    """The kind and the billions of operations of each convolution, by the path of its module."""
    import openvino

    found = {}
    for operation in openvino.Core().read_model(str(path)).get_ops():
        if operation.get_type_name() not in ("Convolution", "GroupConvolution"):
            continue
        weight = [*operation.input(1).get_partial_shape().to_shape()]
        values = int(np.prod(weight[-3:]))  # input channels of a group, and the kernel
        outputs = int(np.prod([size.get_length() for size in [*operation.output(0).get_partial_shape()][1:]]))
        kind = f"{'depthwise ' if len(weight) == 5 else ''}{weight[-2]}x{weight[-1]}"
        found[module_of(operation.get_friendly_name())] = kind, 2e-9 * outputs * values
    return found


def module_of(name: str) -> str:
    """The module that an operation is named after."""
    return name.split("/Conv")[0]


def time_onnx(path: Path, images: Sequence[npt.NDArray[Any]], runs: int) -> list[Timed]:
    """By ONNX Runtime's profiler."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.enable_profiling = 1, True
        options.profile_file_prefix = f"{folder}/profile"
        runtime = OnnxRuntime(path, session_options=options)
        for turn in range(WARM_UP + runs):
            runtime.infer(images[turn % len(images)])
        events = json.loads(Path(runtime._session.end_profiling()).read_text(encoding="utf-8"))
    times, kinds = defaultdict[str, list[float]](list), {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["name"]].append(event["dur"] / 1e3)
            kinds[event["name"]] = event["args"]["op_name"]
    return [
        Timed(name, kinds[name], "int8" if kinds[name].startswith("QLinear") else "fp32", median(own[WARM_UP:]))
        for name, own in times.items()
    ]


def time_openvino(path: Path, images: Sequence[npt.NDArray[Any]], runs: int, bf16: bool) -> list[Timed]:
    """By OpenVINO's performance counters."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32", "PERF_COUNT": True}
    request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    times = defaultdict[tuple[str, str, str], list[float]](list)
    for turn in range(WARM_UP + runs):
        request.infer([images[turn % len(images)]])
        for node in request.get_profiling_info():
            key = node.node_name, node.node_type, node.exec_type
            times[key].append(node.real_time.total_seconds() * 1e3)
    endings = {"I8": "int8", "bf16": "bf16"}
    return [
        Timed(name, kind, endings.get(executed.rsplit("_", 1)[-1], "fp32"), median(own[WARM_UP:]))
        for (name, kind, executed), own in times.items()
    ]


def parts_of(timed: Sequence[Timed], work: dict[str, tuple[str, float]]) -> list[Part]:
    """Joined by kind and precision, the longest first."""
    joined = defaultdict[tuple[str, str], list[tuple[float, float]]](list)
    for one in timed:
        convolution = one.kind in CONVOLUTIONS
        kind, gflop = work[module_of(one.name)] if convolution else (one.kind, 0.0)
        if one.milliseconds:
            joined[f"convolution {kind}" if convolution else kind, one.precision].append((gflop, one.milliseconds))
    parts = [
        Part(kind, precision, len(own), sum(gflop for gflop, _ in own), sum(time for _, time in own))
        for (kind, precision), own in joined.items()
    ]
    return sorted(parts, key=lambda part: -part.milliseconds)


def command(config: LayersConfig) -> None:
    require("onnx", "onnxruntime", "openvino", "torch", "psutil")
    check_positive(runs=config.runs)
    path = model_file(config.artifact)
    if path.suffix not in (".onnx", ".xml"):
        raise InvalidInput(f"{path} has no profiler: only ONNX Runtime and OpenVINO bring one.")
    if config.bf16 and (path.suffix != ".xml" or "bf16" not in cpu()):
        raise InvalidInput("--bf16 is for OpenVINO, on a processor that computes it.")
    runtimes: dict[str, Callable[..., Any]] = {".onnx": OnnxRuntime, ".xml": OpenVINORuntime}
    spec = runtimes[path.suffix](path, threads=1).spec
    images = [preprocess([image] * (spec.batch or 1), spec)[0] for image in some_images(config.images, 4)]
    if path.suffix == ".onnx":
        timed = time_onnx(path, images, config.runs)
    else:
        timed = time_openvino(path, images, config.runs, config.bf16)
    parts, peaks = parts_of(timed, work_of(path)), measured_peaks(threads=1)
    total = sum(part.milliseconds for part in parts)
    print(f"{config.artifact}: {total:.2f} ms with the profiler, {sum(part.gflop for part in parts):.2f} GFLOP")
    print("one core's peak: " + ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in peaks.items()))
    print("| operation | precision | layers | ms | share | GFLOP/s | of the peak |\n|---|---|---|---|---|---|---|")
    print("\n".join(part.row(total, peaks) for part in parts))
    found = {"artifact": str(config.artifact), "peaks": peaks, "parts": [asdict(part) for part in parts]}
    print(json_text({**found, "machine": asdict(describe_machine())}))


def main(arguments: Sequence[str] | None = None) -> int:
    return run("python -m benchmarks.layers", LayersConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

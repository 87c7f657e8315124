"""python -m yolox_deploy.doctor: which backends, versions and devices are here, and what to type for the others."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from runtimes.cuda import find_gpu
from runtimes.errors import UserError
from runtimes.trt_build import library

from .console import is_installed, run
from .options import Json

COLUMNS = 80

# What decides how fast fp16, bf16 and int8 are, as Linux names it, on x86 and on ARM.
CPU_FEATURES = (
    "avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8",
    "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve",
)  # fmt: skip


@dataclass(frozen=True)
class Backend:
    """A target: what runs it, what writes it (distribution names for pip), and how to ask it for its devices."""

    target: str
    runs: tuple[str, ...]
    writes: tuple[str, ...]
    devices: Callable[[], str]


def onnx_devices() -> str:
    import onnxruntime

    return ", ".join(onnxruntime.get_available_providers())


def openvino_devices() -> str:
    import openvino

    core = openvino.Core()
    names = core.available_devices
    return ", ".join(f"{name} ({' '.join(core.get_property(name, 'OPTIMIZATION_CAPABILITIES'))})" for name in names)


def ncnn_devices() -> str:
    return "CPU"


def web_devices() -> str:
    """Of the page. Its model is an ONNX file, which ONNX Runtime runs here."""
    return "those of the browser that opens the page"


def gpu(name: str) -> str:
    """The GPU that TensorRT ("tensorrt" or "tensorrt_rtx") would run on."""
    try:
        library(name)  # the bindings can be there without NVIDIA's libraries
        found = find_gpu()
    except UserError as error:
        return f"does not run here: {error}"
    return f"{found.name}, compute capability {found.compute_capability}, driver for CUDA {found.driver}"


EXPORT = ("torch", "onnx", "onnxscript", "onnxsim", "onnxruntime")

BACKENDS = (
    Backend("onnx", ("onnxruntime",), EXPORT, onnx_devices),
    Backend("openvino", ("openvino",), (*EXPORT, "openvino", "nncf"), openvino_devices),
    Backend("ncnn", ("ncnn",), (*EXPORT, "ncnn", "pnnx"), ncnn_devices),
    Backend(
        "trt", ("tensorrt-cu13", "cuda-bindings"), (*EXPORT, "tensorrt-cu13", "cuda-bindings"), partial(gpu, "tensorrt")
    ),
    Backend(
        "trt-rtx",
        ("tensorrt-rtx-cu13", "cuda-bindings"),
        (*EXPORT, "tensorrt-rtx-cu13", "cuda-bindings"),
        partial(gpu, "tensorrt_rtx"),
    ),
    Backend("web", ("onnxruntime",), EXPORT, web_devices),
)

# Where the module is not the distribution's name with underscores. TensorRT comes in one package for each CUDA.
MODULES = {"tensorrt-cu13": "tensorrt", "tensorrt-rtx-cu13": "tensorrt_rtx", "cuda-bindings": "cuda.bindings"}


def version(distribution: str) -> str | None:
    """The version of an installed package; None where its module cannot be found."""
    module = MODULES.get(distribution, distribution)
    if not is_installed(module):
        return None
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # installed under another name, such as tensorrt-cu12
        return "?"


@dataclass(frozen=True)
class Finding:
    """What is here of a backend. run, write: the version of each package that it takes, None where it is missing; "?"
    where it is installed under another name. devices: as the backend names them, None where it cannot run."""

    target: str
    run: dict[str, str | None]
    write: dict[str, str | None]
    devices: str | None

    @property
    def can_run(self) -> bool:
        return None not in self.run.values()

    def __str__(self) -> str:
        devices = [] if self.devices is None else [_wrapped(f"  devices: {self.devices}")]
        return "\n".join([self.target, _line("run", self.run), *devices, _line("write", self.write)])


def _line(purpose: str, versions: dict[str, str | None]) -> str:
    missing = [package for package, found in versions.items() if found is None]
    if missing:
        return f"  to {purpose}: pip install {' '.join(missing)}"  # on one line, so that it can be copied
    return _wrapped(f"  can {purpose}: " + ", ".join(f"{name} {found}" for name, found in versions.items()))


def _wrapped(line: str) -> str:
    return textwrap.fill(line, COLUMNS, subsequent_indent="    ", break_on_hyphens=False)


def look_at(backend: Backend) -> Finding:
    run, write = ({package: version(package) for package in packages} for packages in (backend.runs, backend.writes))
    return Finding(backend.target, run, write, None if None in run.values() else _devices(backend))


def _devices(backend: Backend) -> str:
    try:
        return backend.devices()
    except Exception as error:  # a broken installation must not hide the other backends
        return f"BROKEN: {type(error).__name__}: {error}"


def cpu() -> str:
    """The features of this processor that matter, as far as the system tells."""
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return cv2.getCPUFeaturesLine()
    return " ".join(name for name in CPU_FEATURES if name in words) or "none of those that matter"


@dataclass(frozen=True)
class DoctorConfig:
    """Say which backends, versions, devices and CPU features are here, and what to type for those that are missing."""

    json: Json = None
    """File for what is here as JSON, {"python", "system", "machine", "processors", "cpu", "backends"}; "-" is standard
    output, which then holds nothing else."""


def command(config: DoctorConfig) -> dict[str, Any]:
    here = {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "cpu": cpu(),
    }
    print("Python {python}, {system} {machine}, {processors} processors".format(**here))
    print(_wrapped(f"CPU: {here['cpu']}"))
    found = []
    for backend in BACKENDS:
        found.append(look_at(backend))
        print(f"\n{found[-1]}", flush=True)
    return {**here, "backends": [{**asdict(one), "can_run": one.can_run} for one in found]}


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy doctor", DoctorConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""What a measurement was made on, and what else the machine did meanwhile."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from runtimes.cuda import find_gpu
from runtimes.errors import UserError
from yolox_deploy.doctor import cpu

PACKAGES = (
    "numpy", "opencv-python-headless", "torch", "onnx", "onnxruntime", "openvino", "nncf", "ncnn", "pnnx",
    "tensorrt-cu13", "tensorrt-cu12", "tensorrt-rtx-cu13", "cuda-bindings", "hotcoco", "pycocotools", "rtmlib",
)  # fmt: skip

# Cores that others may take, share of time that the host may take, and change of speed, before a run is flagged.
MOST_OTHERS, MOST_STEAL, MOST_DRIFT = 0.15, 0.02, 0.15


@dataclass(frozen=True)
class Machine:
    """The manifest. governor, megahertz and gpu are "" where the system does not tell."""

    system: str
    processor: str
    features: str
    cores: int
    memory_gib: float
    governor: str
    megahertz: str
    gpu: str
    driver: str
    python: str
    packages: dict[str, str]
    commit: str
    environment: dict[str, str]


def describe_machine() -> Machine:
    gpu, driver = _gpu()
    frequency = _frequency()
    return Machine(
        system=platform.platform(),
        processor=_processor(),
        features=cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        governor=_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        megahertz=frequency,
        gpu=gpu,
        driver=driver,
        python=platform.python_version(),
        packages=_versions(),
        commit=_commit(),
        environment={name: value for name, value in os.environ.items() if name.startswith(("OMP_", "OPENBLAS_"))},
    )


def _processor() -> str:
    lines = _read("/proc/cpuinfo").splitlines()
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _frequency() -> str:
    try:
        found = psutil.cpu_freq()
    except (OSError, NotImplementedError):
        return ""
    return f"{found.current:.0f} of {found.max:.0f}" if found and found.max else ""


def _gpu() -> tuple[str, str]:
    try:
        found = find_gpu()
    except UserError:
        return "", ""
    return f"{found.name}, compute capability {found.compute_capability}", str(found.driver)


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    """The commit of this checkout, marked where files differ from it; "" where this is none."""
    root = Path(__file__).parents[1]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


@dataclass(frozen=True)
class Usage:
    """Processor seconds up to some moment: busy, of the whole machine; stolen by the host; own, of what is measured."""

    clock: float
    busy: float
    stolen: float
    own: float


def usage(processes: Sequence[int]) -> Usage:
    """processes: ids of those that are measured, which have to live; this one counts among them."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # Linux counts a guest's time in user as well, and the stolen apart.
    busy = sum(times[:8]) - idle - getattr(times, "steal", 0.0) if hasattr(times, "steal") else sum(times) - idle
    own = sum(sum(psutil.Process(number).cpu_times()[:2]) for number in (os.getpid(), *processes))
    return Usage(time.perf_counter(), busy, getattr(times, "steal", 0.0), own)


@dataclass(frozen=True)
class Load:
    """others: cores that other processes took; stolen: cores that the host took; of `seconds`."""

    others: float
    stolen: float
    seconds: float


def load_between(start: Usage, end: Usage) -> Load:
    seconds = max(end.clock - start.clock, 1e-9)
    others = (end.busy - start.busy) - (end.own - start.own)
    return Load(max(others, 0.0) / seconds, max(end.stolen - start.stolen, 0.0) / seconds, seconds)


def warnings(loads: Sequence[Load], drift: float) -> list[str]:
    """What makes a measurement doubtful, in sentences. drift: slowest over fastest round of the baseline, less 1."""
    seconds = sum(load.seconds for load in loads) or 1.0
    others = sum(load.others * load.seconds for load in loads) / seconds
    stolen = sum(load.stolen * load.seconds for load in loads) / seconds
    found = []
    if others > MOST_OTHERS:
        found.append(f"The machine was busy: other processes took {others:.2f} cores.")
    if stolen > MOST_STEAL:
        found.append(f"The host of this virtual machine took {stolen:.2f} cores away.")
    if drift > MOST_DRIFT:
        found.append(f"The machine's speed changed by {drift:.0%} between rounds: it was throttled or shared.")
    return found

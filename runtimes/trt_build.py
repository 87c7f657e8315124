"""From ONNX bytes to engine bytes: TensorRT 8.6 and newer and TensorRT-RTX, told apart by what they have."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import re
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cuda import Gpu
from .errors import InvalidInput, MissingBackend, UserError
from .spec import Precision

TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
PACKAGES = {"tensorrt": "tensorrt-cu13", "tensorrt_rtx": "tensorrt-rtx-cu13"}

# Only where a network cannot be strongly typed (TensorRT 8): elsewhere precision is in the ONNX file alone. Such a flag
# allows every layer the lower precision, also one that the file has in float; engine.json lists it among the flags.
PRECISION_FLAGS: dict[Precision, tuple[str, ...]] = {"fp32": (), "fp16": ("FP16",), "int8": ("INT8",)}


@dataclass(frozen=True)
class BuildOptions:
    """What the builder is told. Sizes of `profile` (smallest, most usual, largest batch) count where the batch is free.

    Raises `InvalidInput` where a value is out of range.
    """

    precision: Precision = "fp32"
    profile: tuple[int, int, int] = (1, 1, 8)
    optimization_level: int | None = None  # 0 to 5; None: TensorRT's default
    workspace_mib: int | None = None  # None: all of the GPU's memory

    def __post_init__(self) -> None:
        smallest, usual, largest = self.profile
        if not 1 <= smallest <= usual <= largest:
            raise InvalidInput(f"the batch sizes of a profile must rise from 1 on, not be {self.profile}.")
        if self.optimization_level is not None and not 0 <= self.optimization_level <= 5:
            raise InvalidInput(f"the optimisation level must lie between 0 and 5, not be {self.optimization_level}.")
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise InvalidInput(f"the workspace must be at least 1 MiB, not {self.workspace_mib}.")


@dataclass(frozen=True)
class Build:
    """engine: the plan's bytes. flags: those of the network and the builder. profile: None where the batch is fixed."""

    engine: bytes
    flags: tuple[str, ...]
    profile: tuple[int, int, int] | None


def library(name: str) -> Any:
    """The module `tensorrt` or `tensorrt_rtx`. Raises `MissingBackend` where it is missing or known to be bad."""
    title, package = TITLES[name], PACKAGES[name]
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError):  # OSError: the bindings are there, NVIDIA's libraries are not
        raise MissingBackend(f"{title} engines need {title}: pip install {package} cuda-bindings") from None
    if re.match(r"10\.2\.0(\.|$)", module.__version__):
        raise MissingBackend(f"{title} 10.2.0 builds wrong engines: pip install --upgrade {package}")
    return module


@functools.cache
def logger(trt: Any) -> Any:
    """The one logger of a module: TensorRT keeps the first that it is given. `errors` holds the last messages."""
    log = logging.getLogger(trt.__name__)

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: deque[str] = deque(maxlen=20)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)
            log.log(logging.INFO if severity == trt.ILogger.WARNING else logging.DEBUG, message)

    return Log()


def first_error(trt: Any) -> str:
    """The first thing that TensorRT complained about and was not asked for yet, on one line, without a full stop.

    All of it is forgotten then, so that a later failure does not get the words of this one.
    """
    errors = logger(trt).errors
    said = _one_line(next(iter(errors), "it does not say why"))
    errors.clear()
    return said


def _one_line(text: str) -> str:
    text = " ".join(text.split()).rstrip(". ")
    return text if len(text) <= 300 else text[:300] + "..."


def start(trt: Any, kind: str) -> Any:
    """`trt.Builder` or `trt.Runtime`, plugins at hand. Raises `UserError` where it does not start: an old driver."""
    logger(trt).errors.clear()
    try:
        trt.init_libnvinfer_plugins(logger(trt), "")
        return getattr(trt, kind)(logger(trt))
    except (TypeError, RuntimeError):  # what the bindings raise for a null pointer
        raise UserError(f"{TITLES[trt.__name__]} {trt.__version__} does not start: {first_error(trt)}.") from None


def build_engine(
    trt: Any, onnx: bytes, options: BuildOptions, gpu: Gpu | None, timing_cache: Path | None = None
) -> Build:
    """Build an engine from an ONNX file's bytes, for the GPU that is current.

    gpu: that GPU; None on a machine without one, which only TensorRT-RTX takes. timing_cache: see `cache_file`.
    Raises `InvalidInput` where TensorRT cannot read or build the graph.
    """
    builder = start(trt, "Builder")
    network_flags = _network_flags(trt)
    network = builder.create_network(sum(1 << int(flag) for flag in network_flags))
    parser = trt.OnnxParser(network, logger(trt))  # has to live as long as the network, whose weights it holds
    if not parser.parse(onnx):
        raise InvalidInput(_parser_problem(trt, parser))
    config = builder.create_builder_config()
    _configure(trt, config, options)
    _choose_targets(trt, config, gpu)
    profile = _add_profile(builder, network, config, options)
    cache = timing_cache and cache_file(trt, timing_cache, gpu, options.precision)
    if cache:
        _read_cache(config, cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise InvalidInput(f"{TITLES[trt.__name__]} cannot build this graph: {first_error(trt)}.")
    if cache:
        write_beside(cache, bytes(config.get_timing_cache().serialize()))
    set_flags = [flag for flag in trt.BuilderFlag.__members__.values() if config.get_flag(flag)]
    return Build(bytes(plan), tuple(flag.name for flag in [*network_flags, *set_flags]), profile)


def _network_flags(trt: Any) -> list[Any]:
    """8 has to be told that the batch is part of the shape, 10 that types are the file's; 11 knows both."""
    members = trt.NetworkDefinitionCreationFlag.__members__
    return [members[name] for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED") if name in members]


def _configure(trt: Any, config: Any, options: BuildOptions) -> None:
    if not is_strongly_typed(trt):
        for name in PRECISION_FLAGS[options.precision]:
            config.set_flag(getattr(trt.BuilderFlag, name))
        _share_profile(trt, config)
    if options.precision == "fp32":  # TF32 keeps 10 bits of the mantissa: not what "fp32" promises
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)


def is_strongly_typed(trt: Any) -> bool:
    """Whether types are the ONNX file's, as they are from TensorRT 10 on."""
    return "STRONGLY_TYPED" in trt.NetworkDefinitionCreationFlag.__members__


def _share_profile(trt: Any, config: Any) -> None:
    """Let several execution contexts use the one profile, as they always do from TensorRT 10 on."""
    features = getattr(getattr(trt, "PreviewFeature", None), "__members__", {})
    if "PROFILE_SHARING_0806" in features:
        config.set_preview_feature(features["PROFILE_SHARING_0806"], True)


def target_of(trt: Any, gpu: Gpu | None) -> str:
    """The compute capability that an engine built here is for: "9.0", or "8.0+" for that and all later ones.

    TensorRT-RTX by default makes one engine for 8.0 (Ampere) and everything later. Turing (7.5) in the same engine
    would triple it and slow the others down, so NVIDIA advises one of its own: it is built where a Turing GPU is.
    """
    if not hasattr(trt, "ComputeCapability"):
        assert gpu is not None
        return gpu.compute_capability
    return "7.5" if gpu is not None and gpu.compute_capability == "7.5" else "8.0+"


def _choose_targets(trt: Any, config: Any, gpu: Gpu | None) -> None:
    if hasattr(trt, "ComputeCapability") and target_of(trt, gpu) == "7.5":
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM75, 0)


def _add_profile(builder: Any, network: Any, config: Any, options: BuildOptions) -> tuple[int, int, int] | None:
    images = network.get_input(0)
    batch, *rest = images.shape
    if batch != -1:
        return None
    profile = builder.create_optimization_profile()
    profile.set_shape(images.name, *((size, *rest) for size in options.profile))
    config.add_optimization_profile(profile)
    return options.profile


def _parser_problem(trt: Any, parser: Any) -> str:
    """The first error and its node, by name, operator or, in versions before 10, its place alone."""
    error = parser.get_error(0)
    names = [error.node_name(), error.node_operator()] if hasattr(error, "node_name") else [f"number {error.node()}"]
    where = " at node " + " ".join(filter(None, names)) if any(names) else ""
    reason = _one_line(" ".join(error.desc().strip().splitlines()[:2]))  # what follows are consequences
    return f"{TITLES[trt.__name__]} cannot read the graph{where}: {reason}."


def cache_file(trt: Any, path: Path, gpu: Gpu | None, precision: Precision) -> Path:
    """Where the timings of this library, version, GPU and precision are kept, beside the name that was given.

    "timings.cache" becomes "timings-tensorrt-10.4.0-nvidia-h200-9.0-fp16.cache": a wrong one is never fed.
    """
    device = f"{gpu.name}-{gpu.compute_capability}" if gpu else "none"
    key = re.sub(r"[^a-z0-9.]+", "-", f"{trt.__name__}-{trt.__version__}-{device}-{precision}".lower())
    return path.with_name(f"{path.stem}-{key}{path.suffix}")


def _read_cache(config: Any, file: Path) -> None:
    """Feed what an earlier build measured. TensorRT refuses a damaged file; it then starts afresh."""
    kept = config.create_timing_cache(file.read_bytes() if file.exists() else b"")
    if kept is None or not config.set_timing_cache(kept, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def write_beside(path: Path, content: bytes) -> None:
    """Write a file that others may be reading: beside it, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)

"""An engine on disk: the plan, `engine.json` that says where it runs, and the `model.onnx` it is built from again."""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .cuda import Gpu, call, cuda_runtime, find_gpu
from .errors import InvalidInput, MissingBackend
from .json_file import check_regular, read_json_object
from .spec import ModelSpec, Precision
from .trt_build import TITLES, BuildOptions, build_engine, library, target_of, write_beside

# The suffix of an engine and the module that builds and runs it.
LIBRARIES = {".engine": "tensorrt", ".rtx": "tensorrt_rtx"}


@dataclass(frozen=True)
class EngineInfo:
    """`engine.json`: what an engine was built by, for and from. Kept beside it, since trtexec takes no prefix in it.

    compute_capability: "9.0", or "8.0+" for that and later. gpu and driver are None where it was built without one.
    """

    library: str  # "tensorrt" or "tensorrt_rtx"
    version: str
    gpu: str | None
    compute_capability: str
    driver: str | None
    precision: Precision
    flags: tuple[str, ...]
    profile: tuple[int, int, int] | None  # None: the batch is fixed
    optimization_level: int | None
    workspace_mib: int | None
    onnx_sha256: str
    engine_sha256: str
    build_seconds: float
    rebuild: str  # the command, to be run in the engine's folder

    @classmethod
    def read(cls, engine: Path) -> EngineInfo:
        """That of an engine. Raises `InvalidInput` where it is missing or damaged."""
        path = info_file(engine)
        if not path.exists():
            raise InvalidInput(
                f"{engine} has no engine.json beside it, which says what it runs on: build it here with"
                f" `{rebuild_command(engine)}`, which needs model.onnx and spec.json beside it."
            )
        try:
            content = read_json_object(path)
            values: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
            }
            info = cls(**values)
            info.options(), _number(info.compute_capability)
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidInput(f"{path} is damaged ({error}): `{rebuild_command(engine)}` writes it anew.") from None
        return info

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    def options(self) -> BuildOptions:
        """Those that it was built with."""
        given = {field.name: getattr(self, field.name) for field in fields(BuildOptions)}
        return BuildOptions(**{name: value for name, value in given.items() if value is not None})


def info_file(engine: Path) -> Path:
    return engine.with_name("engine.json")


def rebuild_command(engine: Path) -> str:
    return f"python -m {__package__}.trt_rebuild {shlex.quote(str(engine))}"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_engine(engine: Path, options: BuildOptions, timing_cache: Path | None = None, device: int = 0) -> EngineInfo:
    """Build `engine` from the `model.onnx` beside it, and write `engine.json`. Its suffix says the library.

    Raises `MissingBackend` where there is no GPU (TensorRT-RTX needs none), `InvalidInput` where the graph cannot be
    built.
    """
    trt = library(LIBRARIES[engine.suffix.lower()])
    gpu = building_gpu(engine.suffix.lower(), device)
    onnx = engine.with_name("model.onnx").read_bytes()
    start = time.monotonic()
    built = build_engine(trt, onnx, options, gpu, timing_cache)
    info = EngineInfo(
        library=trt.__name__,
        version=trt.__version__,
        gpu=gpu.name if gpu else None,
        compute_capability=target_of(trt, gpu),
        driver=gpu.driver if gpu else None,
        precision=options.precision,
        flags=built.flags,
        profile=built.profile,
        optimization_level=options.optimization_level,
        workspace_mib=options.workspace_mib,
        onnx_sha256=sha256(onnx),
        engine_sha256=sha256(built.engine),
        build_seconds=round(time.monotonic() - start, 1),
        rebuild=rebuild_command(Path(engine.name)),
    )
    write_beside(engine, built.engine)
    write_beside(info_file(engine), info.to_json().encode())
    return info


def building_gpu(suffix: str, device: int = 0) -> Gpu | None:
    """The GPU to build on. TensorRT needs one; TensorRT-RTX only looks whether it is a Turing GPU."""
    try:
        gpu = find_gpu(device)
    except MissingBackend:
        if suffix == ".rtx":
            return None
        raise
    call(cuda_runtime().cudaSetDevice, device)
    return gpu


def read_plan(engine: Path, trt: Any, gpu: Gpu) -> bytes:
    """The bytes of an engine that fits this machine. TensorRT may end the process over others.

    Raises `MissingBackend` where this GPU is another than it was built for, `InvalidInput` for everything else.
    """
    info = EngineInfo.read(engine)
    title = TITLES.get(info.library, info.library)
    advice = f"build it for this machine with `{rebuild_command(engine)}`."
    if not _serves(info.compute_capability, gpu.compute_capability):
        wanted, found = info.compute_capability, gpu.compute_capability
        raise MissingBackend(
            f"{engine} was built for compute capability {wanted}, and this GPU ({gpu.name}) has {found}: {advice}"
        )
    # TensorRT times kernels on one card; TensorRT-RTX compiles for every card of a compute capability.
    if info.library == "tensorrt" and info.gpu not in (None, gpu.name):
        raise MissingBackend(f"{engine} was built for a {info.gpu}, and this is a {gpu.name}: {advice}")
    if (info.library, info.version) != (trt.__name__, trt.__version__):
        here = f"{TITLES[trt.__name__]} {trt.__version__}"
        raise InvalidInput(f"{engine} was built by {title} {info.version}, and this is {here}: {advice}")
    if not engine.exists():
        raise InvalidInput(f"{engine} does not exist: {advice}")
    check_regular(engine)
    plan = engine.read_bytes()
    if sha256(plan) != info.engine_sha256:
        raise InvalidInput(f"{engine} is damaged, or not the file that engine.json tells of: {advice}")
    return plan


def _serves(wanted: str, found: str) -> bool:
    return _number(found) >= _number(wanted) if wanted.endswith("+") else found == wanted


def _number(compute_capability: str) -> tuple[int, ...]:
    return tuple(map(int, compute_capability.rstrip("+").split(".")))


def rebuild(engine: Path, device: int = 0) -> EngineInfo:
    """Build an engine again, for this machine, with the options it had, or TensorRT's where it never was.

    Raises `InvalidInput` where `model.onnx` is missing beside it, or is not the one that it was built from.
    """
    onnx = engine.with_name("model.onnx")
    if engine.suffix.lower() not in LIBRARIES:
        raise InvalidInput(f"{engine} names no engine: those end in {' or '.join(LIBRARIES)}.")
    if not onnx.exists():
        raise InvalidInput(f"{engine} cannot be built: there is no {onnx.name} beside it.")
    try:
        info = EngineInfo.read(engine)
    except InvalidInput:
        options = BuildOptions(ModelSpec.read(engine.with_name("spec.json")).precision)
    else:
        if sha256(onnx.read_bytes()) != info.onnx_sha256:
            raise InvalidInput(f"{onnx} is not the file that {engine.name} was built from: export it again.")
        options = info.options()
    return write_engine(engine, options, device=device)

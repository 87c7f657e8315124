"""A FAKE `tensorrt` of a given version, made from the recorded API of the real one.

Touching a member that the version does not have raises AttributeError, as it would there. Calls are recorded. "Engines"
hold the inputs and outputs of the ONNX file, and "run" a NumPy function on the fake GPU of `fake_cuda`. It proves which
members are touched, in which order, with what; it proves nothing about a real engine's numbers or speed.
"""

from __future__ import annotations

import json
import sys
import types
import weakref
from collections.abc import Callable, Mapping
from enum import IntEnum
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from runtimes import ModelSpec
from tests import fake_cuda

Compute = Callable[[npt.NDArray[Any]], Mapping[str, npt.NDArray[Any]]]
Surface = Mapping[str, list[str]]

ENUMS = (
    "BuilderFlag", "ComputeCapability", "CudaGraphStrategy", "DataType", "EngineValidity", "MemoryPoolType",
    "NetworkDefinitionCreationFlag", "TensorIOMode",
)  # fmt: skip
# Not in the recorded surface, which has the name of this enum but none of its members: these are from NVIDIA's sources.
# 11 and TensorRT-RTX have lost the one that matters here, as the real `tensorrt_rtx` shows.
PREVIEW_FEATURES = {"8.6": ["PROFILE_SHARING_0806"], "10": ["PROFILE_SHARING_0806"]}
DTYPES = {1: ("FLOAT", np.float32), 2: ("UINT8", np.uint8), 6: ("INT32", np.int32), 10: ("HALF", np.float16)}


class Recorded:
    """An object of TensorRT's: only the members that the version's class has, whatever the fake implements."""

    _trt: Any
    _members: frozenset[str]

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name not in type(self)._members:
            raise AttributeError(f"{type(self).__name__} of {type(self)._trt.__version__} has no {name}")
        value = object.__getattribute__(self, name)
        if callable(value) and not name.startswith("_"):
            return lambda *arguments: (
                type(self)._trt.record(f"{type(self).__name__}.{name}", arguments) or value(*arguments)
            )
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            if name not in type(self)._members:
                raise AttributeError(f"{type(self).__name__} of {type(self)._trt.__version__} has no {name}")
            type(self)._trt.record(f"{type(self).__name__}.{name}", (value,))
        object.__setattr__(self, name, value)


class Builder(Recorded):
    def __init__(self, logger: Any) -> None:
        self._trt.first_touch(logger)

    def create_network(self, flags: int) -> Any:
        network = self._trt.INetworkDefinition()
        network._flags = flags
        return network

    def create_builder_config(self) -> Any:
        return self._trt.IBuilderConfig()

    def create_optimization_profile(self) -> Any:
        return self._trt.IOptimizationProfile()

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        members = self._trt.NetworkDefinitionCreationFlag.__members__
        typed = network._flags >> members["STRONGLY_TYPED"] & 1 if "STRONGLY_TYPED" in members else False
        names = {flag.name for flag in config._flags}
        if typed and names & {"FP16", "INT8", "BF16"}:
            return self._trt.complain("a strongly typed network takes no precision flags")
        if "EXPLICIT_BATCH" in members and not network._flags >> members["EXPLICIT_BATCH"] & 1:
            return self._trt.complain("implicit batch is not supported with ONNX")
        (name, shape, _), *_ = network._inputs
        if (shape[0] < 0) != bool(config._profiles):
            return self._trt.complain(
                "Network has dynamic or shape inputs, but no optimization profile has been defined"
            )
        plan = {"version": self._trt.__version__, "inputs": network._inputs, "outputs": network._outputs}
        profile = config._profiles[0]._shapes[name] if config._profiles else None
        shared = config._features.get("PROFILE_SHARING_0806", "STRONGLY_TYPED" in members)  # from 10 on, always
        return b"FAKE" + json.dumps({**plan, "profile": profile, "shared": shared}).encode()


class INetworkDefinition(Recorded):
    def get_input(self, index: int) -> Any:
        tensor = self._trt.ITensor()
        tensor._shape = self._inputs[index][1]
        object.__setattr__(tensor, "name", self._inputs[index][0])
        object.__setattr__(tensor, "shape", tuple(self._inputs[index][1]))
        return tensor


class ITensor(Recorded):
    pass


class IOptimizationProfile(Recorded):
    def __init__(self) -> None:
        self._shapes: dict[str, Any] = {}

    def set_shape(self, name: str, smallest: Any, usual: Any, largest: Any) -> None:
        self._shapes[name] = (smallest, usual, largest)


class ParserError(Recorded):
    def desc(self) -> str:
        return "Invalid Node - a/Conv\nbecause\nthe fake says so."

    def node(self) -> int:
        return 12

    def node_name(self) -> str:
        return "a/Conv"

    def node_operator(self) -> str:
        return "Conv"


class OnnxParser(Recorded):
    def __init__(self, network: Any, logger: Any) -> None:
        self._network = network

    def parse(self, content: bytes) -> bool:
        graph = onnx.load_from_string(content).graph
        known = self._trt.plugins if self._trt.initialized else set()
        wanted = {node.op_type for node in graph.node if node.op_type.endswith("_TRT")}
        if not self._trt.parses or wanted - known:
            return False
        assert not hasattr(self._network, "_inputs"), "this network is already filled"
        self._network._inputs = [_describe(value) for value in graph.input]
        self._network._outputs = [_describe(value) for value in graph.output]
        return True

    def get_error(self, index: int) -> Any:
        return self._trt.ParserError()


class IBuilderConfig(Recorded):
    def __init__(self) -> None:
        self._profiles: list[Any] = []
        self._flags = {self._trt.BuilderFlag.TF32}  # TensorRT's default
        self._cache: Any = None
        self._features: dict[str, bool] = {}

    def set_flag(self, flag: Any) -> None:
        self._flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag)

    def get_flag(self, flag: Any) -> bool:
        return flag in self._flags

    def set_memory_pool_limit(self, pool: Any, size: int) -> None: ...

    def set_preview_feature(self, feature: Any, value: bool) -> None:
        self._features[feature.name] = value

    def add_optimization_profile(self, profile: Any) -> int:
        self._profiles.append(profile)
        return 0

    def create_timing_cache(self, content: bytes) -> Any:
        if content and not content.startswith(b"timings"):
            return None
        cache = self._trt.ITimingCache()
        cache._content = content
        return cache

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        self._cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._cache

    def set_compute_capability(self, capability: Any, index: int) -> bool:
        return True


class ITimingCache(Recorded):
    def serialize(self) -> bytes:
        return (self._content or b"timings") + b"+"


class Runtime(Recorded):
    def __init__(self, logger: Any) -> None:
        self._trt.first_touch(logger)

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        if not plan.startswith(b"FAKE"):
            return self._trt.complain("Magic tag does not match")
        engine = self._trt.ICudaEngine()
        engine._plan = json.loads(plan[4:])
        engine._tensors = {entry[0]: entry for entry in engine._plan["inputs"] + engine._plan["outputs"]}
        self._trt.living.add(engine)
        return engine

    def get_engine_validity(self, plan: bytes) -> tuple[Any, int]:
        return self._trt.EngineValidity[self._trt.validity], 0


class ICudaEngine(Recorded):
    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        is_input = name in [entry[0] for entry in self._plan["inputs"]]
        return self._trt.TensorIOMode.INPUT if is_input else self._trt.TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name][1])

    def get_tensor_dtype(self, name: str) -> Any:
        return self._trt.DataType[self._tensors[name][2]]

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self._plan["profile"]]

    def create_execution_context(self, config: Any = None) -> Any:
        context = self._trt.IExecutionContext()
        context._engine, context._config = self, config
        context._profile = 0 if self._is_free(0) else -1
        self._trt.living.add(context)
        return context

    def _is_free(self, profile: int) -> bool:
        """TensorRT 8: a profile belongs to one context, unless the engine was built to share it."""
        plan, trt = self._plan, self._trt
        if plan["profile"] is None or plan["shared"]:
            return True
        contexts = [other for other in trt.living if isinstance(other, trt.IExecutionContext)]
        return not any(other._engine is self and other._profile == profile for other in contexts)

    def create_runtime_config(self) -> Any:
        return self._trt.IRuntimeConfig()


class IRuntimeConfig(Recorded):
    def create_runtime_cache(self) -> object:
        return object()

    def set_runtime_cache(self, cache: object) -> bool:
        return True


class IExecutionContext(Recorded):
    def __init__(self) -> None:
        self._addresses: dict[str, int] = {}
        self._shape: tuple[int, ...] | None = None
        self._flushed = False
        self._profile = -1

    @property
    def active_optimization_profile(self) -> int:
        return self._profile

    def set_optimization_profile_async(self, profile: int, handle: int) -> bool:
        if not self._engine._is_free(profile):
            self._trt.complain(f"Profile {profile} has been chosen by another IExecutionContext")
            return False
        self._profile = profile
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self._profile < 0:
            self._trt.complain("no optimization profile has been chosen")
            return False
        profile, fixed = self._engine._plan["profile"], self._engine._tensors[name][1]
        smallest, largest = (profile[0][0], profile[2][0]) if profile else (fixed[0], fixed[0])
        if not smallest <= shape[0] <= largest or list(shape[1:]) != fixed[1:]:
            self._trt.complain("the shape is not in the profile")
            return False
        self._shape, self._flushed = shape, False
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return name in self._engine._tensors

    def execute_async_v3(self, handle: int) -> bool:
        stream = self._trt.cuda.streams[handle]
        if set(self._addresses) != set(self._engine._tensors) or self._shape is None:
            self._trt.complain("addresses or shapes are missing")
            return False
        if stream.captured is not None and not self._flushed:
            self._trt.complain("a new shape was not run before it was captured")
            return False
        self._flushed = True
        state = self._shape, dict(self._addresses)
        stream.submit(lambda: self._run(*state))
        return True

    def _run(self, shape: tuple[int, ...], addresses: dict[str, int]) -> None:
        assert (shape, addresses) == (self._shape, self._addresses), "the context changed after its graph was captured"
        (name, _, dtype), *_ = self._engine._plan["inputs"]
        memory = self._trt.cuda.memory["device"]
        images = np.frombuffer(memory[addresses[name]], _numpy(dtype), int(np.prod(shape))).reshape(shape)
        outputs = self._trt.compute(images)
        for name, _, dtype in self._engine._plan["outputs"]:
            content = np.ascontiguousarray(outputs[name], _numpy(dtype)).tobytes()
            memory[addresses[name]][: len(content)] = content


class ILogger:
    """Not guarded: ours is a subclass, with members of its own."""

    class Severity(IntEnum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity


CLASSES: tuple[type[Recorded], ...] = (
    Builder, INetworkDefinition, ITensor, IOptimizationProfile, ParserError, OnnxParser, IBuilderConfig, ITimingCache,
    Runtime, ICudaEngine, IRuntimeConfig, IExecutionContext,
)  # fmt: skip


class FakeTensorRT(types.ModuleType):
    """version: a key of the recorded surface; "rtx..." makes it `tensorrt_rtx`."""

    def __init__(
        self, surface: Mapping[str, Surface], version: str, cuda: fake_cuda.FakeCuda, compute: Compute
    ) -> None:
        rtx = version.startswith("rtx")
        super().__init__("tensorrt_rtx" if rtx else "tensorrt")
        self.__spec__ = ModuleSpec(self.__name__, None)  # torch looks for it
        self.__version__ = version.removeprefix("rtx")
        self.cuda, self.compute = cuda, compute
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.living: weakref.WeakSet[Any] = weakref.WeakSet()
        self.initialized = False
        self.parses, self.validity, self.plugins = True, "VALID", set() if rtx else {"EfficientNMS_TRT"}
        self.ILogger, self._logger = ILogger, None
        for name in ENUMS:
            if name in surface[version]:
                setattr(self, name, IntEnum(name, surface[version][name], start=0))
        for numbers, features in PREVIEW_FEATURES.items():
            if not rtx and version.startswith(f"{numbers}."):
                self.PreviewFeature = IntEnum("PreviewFeature", features, start=0)
        for base in CLASSES:
            if base.__name__ in surface[version]:
                namespace = {"_trt": self, "_members": frozenset(surface[version][base.__name__])}
                setattr(self, base.__name__, type(base.__name__, (base,), namespace))

    def record(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.calls.append((name, arguments))

    def called(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of every call of a method, or every value that an attribute was set to."""
        return [arguments for called, arguments in self.calls if called == name]

    def complain(self, message: str) -> None:
        self._logger.log(ILogger.ERROR, message)

    def first_touch(self, logger: Any) -> None:
        """TensorRT proper may end the process where there is no driver, so that has to be asked first."""
        assert self.__name__ == "tensorrt_rtx" or self.cuda.calls["cudaGetDeviceCount"], "nobody asked for a GPU"
        assert self.cuda.gpus or self.__name__ == "tensorrt_rtx", "a segmentation fault"
        self._logger = logger

    def init_libnvinfer_plugins(self, logger: Any, namespace: str) -> bool:
        self.initialized = True
        return True

    def get_plugin_registry(self) -> Any:
        def find(name: str, version: str, namespace: str = "") -> object | None:
            return object() if self.initialized and name in self.plugins else None

        old = self.__name__ == "tensorrt" and int(self.__version__.split(".")[0]) < 10
        return types.SimpleNamespace(**{"get_plugin_creator" if old else "get_creator": find})


def _describe(value: onnx.ValueInfoProto) -> tuple[str, list[int], str]:
    tensor = value.type.tensor_type
    shape = [-1 if dim.dim_param else dim.dim_value for dim in tensor.shape.dim]
    return value.name, shape, DTYPES[tensor.elem_type][0]


def _numpy(name: str) -> npt.DTypeLike:
    return dict(DTYPES.values())[name]


def install(
    monkeypatch: pytest.MonkeyPatch, surface: Mapping[str, Surface], version: str, compute: Compute | None = None,
    gpus: tuple[tuple[str, str], ...] = (("NVIDIA Fake", "9.0"),),
) -> FakeTensorRT:  # fmt: skip
    """Put a fake of this version in the place of TensorRT, and a fake GPU, or none, in that of cuda-bindings."""
    cuda = fake_cuda.install(monkeypatch, fake_cuda.FakeCuda(gpus))
    trt = FakeTensorRT(surface, version, cuda, compute or (lambda images: {}))
    monkeypatch.setitem(sys.modules, trt.__name__, trt)
    return trt


def read_surface(shared: Path) -> dict[str, Any]:
    """Version -> class -> members, as recorded from the real packages."""
    surface: dict[str, Any] = json.loads((shared / "reference" / "tensorrt-api-surface.json").read_text())
    return surface


def write_hollow(folder: Path, spec: ModelSpec) -> Path:
    """`spec.json` and a `model.onnx` that has the spec's input and output and nothing between. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = onnx.TensorProto.UINT8 if spec.uint8_input else onnx.TensorProto.FLOAT
    shapes = [["batch", *shape[1:]] if shape[0] is None else shape for shape in (spec.input_shape, spec.output_shape)]
    images = onnx.helper.make_tensor_value_info("images", kind, shapes[0])
    output = onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, shapes[1])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "hollow", [images], [output])), folder / "model.onnx")
    (folder / "spec.json").write_text(spec.to_json())
    return folder

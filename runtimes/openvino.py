"""OpenVINO."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from .cores import threads_of
from .errors import InvalidInput, MissingBackend, UserError
from .json_file import check_regular
from .preprocess import empty_input
from .proof import weights_beside
from .runtime import CopyingRequest, Request, check_graph, check_input, check_threads, one_spec, refuse_sigmoid
from .spec import ModelSpec
from .third_party import ThirdPartyGraph
from .third_party_layout import Port

# Where the spec lies in the IR: model.get_rt_info("yolox"), one JSON text.
RT_INFO = "yolox"

InferencePrecision = Literal["f32", "bf16", "f16"]
PerformanceHint = Literal["LATENCY", "THROUGHPUT"]


class OpenVINORuntime:
    """Runs a `.xml` file (OpenVINO IR) and the `.bin` beside it.

    threads: of the CPU, of one image; unset, the cores there are, shared out between the streams. streams: images that
    are worked on at a time, by threads that share this runtime. device: "CPU", "GPU", "NPU", "AUTO" and what else
    OpenVINO names. performance_hint: "LATENCY" or "THROUGHPUT", which lets OpenVINO choose the streams where `streams`
    is 1. inference_precision: what is computed in; f32, whatever the file's precision, since OpenVINO's own choice is
    bf16 where the processor has it, which detects other things. bf16 is refused where the processor has none. cache:
    folder for compiled models. sigmoid: of a third-party file whose scores are logits, to make probabilities of them.

    Safe to share between threads: each call takes an idle inference request. Raises `MissingBackend` without openvino,
    `InvalidInput` for a file that is damaged or carries no spec while none is given.
    """

    def __init__(
        self,
        path: str | Path,
        spec: ModelSpec | None = None,
        threads: int | None = None,
        streams: int = 1,
        device: str = "CPU",
        performance_hint: PerformanceHint = "LATENCY",
        inference_precision: InferencePrecision = "f32",
        cache: str | Path | None = None,
        sigmoid: bool = False,
    ) -> None:
        try:
            import openvino
        except ImportError:
            raise MissingBackend("OpenVINO files need OpenVINO: pip install openvino") from None
        _check_options(performance_hint, inference_precision)
        check_threads(threads, streams)
        core = openvino.Core()
        _check_device(core, device, inference_precision)
        model = _read(core, Path(path))
        self.spec: ModelSpec = _spec_of(model, path, spec)
        self._third_party: ThirdPartyGraph | None = None
        if model.has_rt_info(RT_INFO):
            refuse_sigmoid(path, sigmoid)
            _check_against_file(model, path, self.spec)
        else:
            inputs, outputs = [*map(port_of, model.inputs)], [*map(port_of, model.outputs)]
            self._third_party = ThirdPartyGraph(path, self.spec, inputs, outputs, sigmoid)
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": performance_hint,
            "INFERENCE_PRECISION_HINT": inference_precision,
        }
        shared = threads_of(threads, streams) if device == "CPU" else threads
        if shared is not None:  # OpenVINO counts the threads of all streams together
            settings["INFERENCE_NUM_THREADS"] = shared * streams
        if streams > 1:
            settings["NUM_STREAMS"] = streams
        if cache is not None:
            settings["CACHE_DIR"] = str(cache)
        try:
            self.compiled: Any = core.compile_model(model, device, settings)
        except Exception as error:  # openvino has no common base class for what it raises
            raise InvalidInput(f"OpenVINO cannot compile {path} for {device}: {_reason(error)}") from None
        _check_precision(self.compiled, device, inference_precision)
        self._openvino: Any = openvino
        self._idle: deque[Any] = deque()
        if self._third_party is not None:
            self._third_party.check(self.infer)

    def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See `Runtime.infer`."""
        return self.start(images)()

    def start(self, images: npt.NDArray[Any]) -> Callable[[], npt.NDArray[np.float32]]:
        """Begin to infer; returns a function that waits for the result. Until then the images must stay as they are."""
        compiled = self.compiled
        if compiled is None:
            raise InvalidInput(f"{self.spec.name} is closed.")
        check_input(images, self.spec)
        try:
            request = self._idle.pop()
        except IndexError:  # all are at work
            request = compiled.create_infer_request()
        count, third_party = len(images), self._third_party
        images = np.ascontiguousarray(images) if third_party is None else third_party.feed(images)
        request.set_input_tensor(self._openvino.Tensor(images, shared_memory=True))
        request.start_async()

        lock = threading.Lock()
        done: list[npt.NDArray[np.float32]] = []  # the result, so that a second call gives the same

        def wait() -> npt.NDArray[np.float32]:
            with lock:
                if not done:
                    done.append(self._take(request, compiled, count))
                    keeper.detach()
            return done[0]

        # The request reads this memory, but does not own it: both live until it is done, also where nobody waits.
        keeper = weakref.finalize(wait, _settle, request, images)
        return wait

    def _take(self, request: Any, compiled: Any, count: int) -> npt.NDArray[np.float32]:
        """Wait for a request, copy its result, and put the request back."""
        try:
            request.wait()
        except Exception as error:  # openvino has no common base class for what it raises
            raise UserError(f"OpenVINO failed on {self.spec.name}: {_reason(error)}") from None
        outputs: list[npt.NDArray[np.float32]] = [tensor.data.copy() for tensor in request.output_tensors]
        if self.compiled is compiled:
            self._idle.append(request)
        return outputs[0] if self._third_party is None else self._third_party.read(outputs, count)

    def new_request(self, batch: int) -> Request:
        """See `runtime.Request`: OpenVINO reads its input there, and its output is read where OpenVINO puts it."""
        compiled = self.compiled
        if compiled is None:
            raise InvalidInput(f"{self.spec.name} is closed.")
        if self._third_party is not None:
            return CopyingRequest(self, batch)
        return OpenVINORequest(compiled, self.spec, batch, self._openvino.Tensor)

    def close(self) -> None:
        self._idle.clear()
        self.compiled = None


class OpenVINORequest:
    """See `runtime.Request`."""

    def __init__(self, compiled: Any, spec: ModelSpec, batch: int, tensor: Any) -> None:
        self.images = empty_input(batch, spec)
        self._name = spec.name
        self._request: Any = compiled.create_infer_request()
        self._request.set_input_tensor(tensor(self.images, shared_memory=True))

    def run(self) -> npt.NDArray[np.float32]:
        """See `Request.run`."""
        try:
            self._request.infer(share_outputs=True)
        except Exception as error:  # openvino has no common base class for what it raises
            raise UserError(f"OpenVINO failed on {self._name}: {_reason(error)}") from None
        output: npt.NDArray[np.float32] = self._request.get_output_tensor().data
        return output


def _settle(request: Any, images: npt.NDArray[Any]) -> None:
    """Wait for what nobody waits for; `images` is what it reads."""
    with contextlib.suppress(Exception):  # openvino has no common base class for what it raises
        request.wait()


def _check_options(hint: str, precision: str) -> None:
    for name, value, known in (
        ("performance_hint", hint, get_args(PerformanceHint)),
        ("inference_precision", precision, get_args(InferencePrecision)),
    ):
        if value not in known:
            raise InvalidInput(f"{name} must be one of {', '.join(known)}, not {value!r}.")


def _reason(error: Exception) -> str:
    """What OpenVINO says last; before it stand the places in its source that the error came through."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _check_device(core: Any, device: str, precision: str) -> None:
    known = [*core.available_devices, "AUTO"]
    if device.split(".")[0].split(":")[0] not in {name.split(".")[0] for name in known}:
        raise MissingBackend(f"OpenVINO finds no {device} here, only {', '.join(known)}.")
    if precision == "bf16" and "BF16" not in core.get_property(device, "OPTIMIZATION_CAPABILITIES"):
        raise InvalidInput(f"this {device} computes no bf16; leave inference_precision at f32.")


def _check_precision(compiled: Any, device: str, precision: str) -> None:
    """OpenVINO takes another one, such as bf16 for f16, where the device has not what was asked for."""
    names = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
    try:
        found = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    except Exception:  # devices that do not tell, AUTO among them
        return
    if found not in (precision, names[precision]):
        raise InvalidInput(f"this {device} computes {found} where it is asked for {precision}: ask for another.")


def _read(core: Any, path: Path) -> Any:
    weights = weights_beside(path)
    for file in (path, weights):
        check_regular(file)
    if not weights.exists():
        raise InvalidInput(f"{weights}, the weights of {path.name}, is missing.")
    try:
        return core.read_model(str(path), str(weights))
    except Exception as error:  # openvino has no common base class for what it raises
        raise InvalidInput(f"{path} is damaged or cut short; OpenVINO says: {_reason(error)}") from None


def _spec_of(model: Any, path: str | Path, given: ModelSpec | None) -> ModelSpec:
    if not model.has_rt_info(RT_INFO):
        return one_spec(None, given, path)
    try:
        text = str(model.get_rt_info(RT_INFO).value)
    except UnicodeDecodeError:
        raise InvalidInput(f"the spec in {path} is damaged: it is no text.") from None
    return one_spec(ModelSpec.from_json(text, f"the spec in {path}"), given, path)


def _check_against_file(model: Any, path: str | Path, spec: ModelSpec) -> None:
    dtypes = [str(port.element_type.to_dtype()) for port in model.inputs]
    check_graph(path, spec, dtypes, [*map(_shape, model.inputs)], [*map(_shape, model.outputs)])


def port_of(value: Any) -> Port:
    """An input or output of a model, also one without a name."""
    name = value.any_name if value.names else value.node.friendly_name
    return Port(name, str(value.element_type.to_dtype()), tuple(_shape(value)))


def _shape(port: Any) -> list[int | None]:
    return [None if size.is_dynamic else size.get_length() for size in port.partial_shape]

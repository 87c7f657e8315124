"""ONNX Runtime."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .cores import threads_of
from .errors import InvalidInput, MissingBackend, UserError, first_line
from .onnx_external import check_external_data
from .preprocess import empty_input
from .runtime import CopyingRequest, Request, check_graph, check_input, check_threads, one_spec, refuse_sigmoid
from .spec import ModelSpec
from .third_party import ThirdPartyGraph
from .third_party_layout import Port

# Each field of the spec is one entry of the file's metadata, as JSON: "yolox.input_size" -> "[416, 416]".
METADATA_PREFIX = "yolox."

# How long a thread without work stays awake. It must, between the operators of one run: without, two threads are hardly
# faster than one on YOLOX-Nano. ONNX Runtime's own setting keeps a core busy from one frame of a camera to the next.
# Older versions do not know the setting, and pass over it.
SPIN_MICROSECONDS = "50"

ELEMENT_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}  # others are called as in NumPy


def spec_to_metadata(spec: ModelSpec) -> dict[str, str]:
    return {METADATA_PREFIX + name: json.dumps(value) for name, value in json.loads(spec.to_json()).items()}


def spec_from_metadata(metadata: Mapping[str, str], source: str) -> ModelSpec | None:
    """The spec in a file's metadata, or None where there is none. Raises `InvalidInput` for a damaged one."""
    own = {key[len(METADATA_PREFIX) :]: text for key, text in metadata.items() if key.startswith(METADATA_PREFIX)}
    if not own:
        return None
    try:
        content = {name: json.loads(text) for name, text in own.items()}
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the metadata of {source} is damaged: {error}.") from None
    return ModelSpec.from_dict(content, f"the metadata of {source}")


class OnnxRuntime:
    """Runs a `.onnx` file.

    threads: of one image; unset, the cores there are, shared out between the streams (see `cores.threads_of`). streams:
    images that are worked on at a time, by threads that share this runtime. providers: ONNX Runtime's execution
    providers, best first. session_options: an `onnxruntime.SessionOptions` of your own, on which `threads` is set where
    it is given. sigmoid: of a third-party file whose scores are logits, to make probabilities of them.

    Safe to share between threads. Raises `MissingBackend` without onnxruntime, `InvalidInput` for a file that is
    damaged or carries no spec while none is given.
    """

    def __init__(
        self,
        path: str | Path,
        spec: ModelSpec | None = None,
        threads: int | None = None,
        streams: int = 1,
        providers: Sequence[str | tuple[str, dict[str, Any]]] = ("CPUExecutionProvider",),
        session_options: Any = None,
        sigmoid: bool = False,
    ) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise MissingBackend("ONNX files need ONNX Runtime: pip install onnxruntime") from None
        check_threads(threads, streams)
        providers = (providers,) if isinstance(providers, str) else providers
        missing = set(_names(providers)) - set(onnxruntime.get_available_providers())
        if missing:
            raise MissingBackend(
                f"this ONNX Runtime has no {', '.join(sorted(missing))}; see onnxruntime's packages for it."
            )
        options = session_options
        if options is None:
            options = onnxruntime.SessionOptions()
            options.add_session_config_entry("session.intra_op.spin_duration_us", SPIN_MICROSECONDS)
            threads = threads_of(threads, streams)
        if threads is not None:  # each stream brings its own thread; the others are those of all streams together
            options.intra_op_num_threads = streams * (threads - 1) + 1
        check_external_data(Path(path))
        try:
            # Without its own fallback, which prints, and would take another provider than was asked for.
            self._session: Any = onnxruntime.InferenceSession(
                str(path), options, providers=list(providers), enable_fallback=0
            )
        except Exception as error:  # onnxruntime has no common base class for what it raises
            raise InvalidInput(f"ONNX Runtime cannot load {path}: {first_line(error)}") from None
        own = self._own_spec(path)
        self.spec: ModelSpec = one_spec(own, spec, path)
        # ONNX Runtime goes on without a provider that does not start, such as CUDA without a driver.
        if _names(providers)[0] not in self._session.get_providers():
            raise InvalidInput(f"ONNX Runtime could not start {_names(providers)[0]} and would have used another.")
        self._third_party: ThirdPartyGraph | None = None
        if own is None:
            self._open_third_party(path, sigmoid)
        else:
            refuse_sigmoid(path, sigmoid)
            self._check_against_file(path)

    def _own_spec(self, path: str | Path) -> ModelSpec | None:
        try:
            metadata = self._session.get_modelmeta().custom_metadata_map
        except UnicodeDecodeError:
            raise InvalidInput(f"the metadata of {path} is damaged: it is no text.") from None
        return spec_from_metadata(metadata, str(path))

    def _check_against_file(self, path: str | Path) -> None:
        """The spec must fit the graph, so that a wrong one shows here and not as wrong boxes."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        dtypes = [_dtype(value) for value in inputs]
        check_graph(path, self.spec, dtypes, [value.shape for value in inputs], [value.shape for value in outputs])
        self._input_name = inputs[0].name

    def _open_third_party(self, path: str | Path, sigmoid: bool) -> None:
        inputs, outputs = (
            [*map(_port, values)] for values in (self._session.get_inputs(), self._session.get_outputs())
        )
        self._third_party = ThirdPartyGraph(path, self.spec, inputs, outputs, sigmoid)
        self._input_name = inputs[0].name
        self._third_party.check(self.infer)

    def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See `Runtime.infer`."""
        session = self._session
        if session is None:
            raise InvalidInput(f"{self.spec.name} is closed.")
        check_input(images, self.spec)
        third_party = self._third_party
        fed = images if third_party is None else third_party.feed(images)
        try:
            outputs: list[npt.NDArray[np.float32]] = session.run(None, {self._input_name: fed})
        except Exception as error:  # onnxruntime has no common base class for what it raises
            raise UserError(f"ONNX Runtime failed on {self.spec.name}: {first_line(error)}") from None
        return outputs[0] if third_party is None else third_party.read(outputs, len(images))

    def new_request(self, batch: int) -> Request:
        """See `runtime.Request`: bound to its memory, so that nothing is copied."""
        session = self._session
        if session is None:
            raise InvalidInput(f"{self.spec.name} is closed.")
        return OnnxRequest(session, self.spec, batch) if self._third_party is None else CopyingRequest(self, batch)

    def close(self) -> None:
        self._session = None


class OnnxRequest:
    """See `runtime.Request`."""

    def __init__(self, session: Any, spec: ModelSpec, batch: int) -> None:
        self.images = empty_input(batch, spec)
        self._session, self._name = session, spec.name
        self._binding: Any = session.io_binding()
        self._input_name, self._output_name = session.get_inputs()[0].name, session.get_outputs()[0].name
        self._output: npt.NDArray[np.float32] | None = None
        if spec.nms is None:
            self._output = np.empty((batch, *spec.output_shape[1:]), np.float32)  # type: ignore[arg-type]
            memory = self._output.ctypes.data
            self._binding.bind_output(self._output_name, "cpu", 0, np.float32, self._output.shape, memory)

    def run(self) -> npt.NDArray[np.float32]:
        """See `Request.run`."""
        images = self.images  # bound anew each time, which is when a GPU's provider copies them
        self._binding.bind_input(self._input_name, "cpu", 0, images.dtype.type, images.shape, images.ctypes.data)
        if self._output is None:  # NMS in the graph: as many rows as there are detections, others each time
            self._binding.bind_output(self._output_name, "cpu")
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # onnxruntime has no common base class for what it raises
            raise UserError(f"ONNX Runtime failed on {self._name}: {first_line(error)}") from None
        if self._output is not None:
            return self._output
        rows: npt.NDArray[np.float32] = self._binding.copy_outputs_to_cpu()[0]
        return rows


def _dtype(value: Any) -> str:
    inside = re.fullmatch(r"tensor\((\w+)\)", value.type)
    return ELEMENT_TYPES.get(value.type, inside[1] if inside else value.type)


def _port(value: Any) -> Port:
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in value.shape)
    return Port(value.name, _dtype(value), shape)


def _names(providers: Sequence[str | tuple[str, dict[str, Any]]]) -> list[str]:
    return [provider if isinstance(provider, str) else provider[0] for provider in providers]

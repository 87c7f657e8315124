"""ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InvalidInput, MissingBackend
from .runtime import check_input
from .spec import ModelSpec

# Each field of the spec is one entry of the file's metadata, as JSON: "yolox.input_size" -> "[416, 416]".
METADATA_PREFIX = "yolox."

ELEMENT_TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}


def spec_to_metadata(spec: ModelSpec) -> dict[str, str]:
    return {METADATA_PREFIX + name: json.dumps(value) for name, value in json.loads(spec.to_json()).items()}


def spec_from_metadata(metadata: Mapping[str, str], source: str) -> ModelSpec | None:
    """The spec in a file's metadata, or None where there is none. Raises `InvalidInput` for a damaged one."""
    own = {key[len(METADATA_PREFIX) :]: text for key, text in metadata.items() if key.startswith(METADATA_PREFIX)}
    if not own:
        return None
    try:
        content = {name: json.loads(text) for name, text in own.items()}
    except ValueError as error:
        raise InvalidInput(f"the metadata of {source} is damaged: {error}.") from None
    return ModelSpec.from_dict(content, f"the metadata of {source}")


class OnnxRuntime:
    """Runs a `.onnx` file.

    providers: ONNX Runtime's execution providers, best first. threads: for one operator; None leaves it to ONNX
    Runtime. session_options: an `onnxruntime.SessionOptions` of your own; `threads` is set on it where given.

    Safe to share between threads. Raises `MissingBackend` without onnxruntime, `InvalidInput` for a file that is
    damaged or carries no spec while none is given.
    """

    def __init__(
        self,
        path: str | Path,
        spec: ModelSpec | None = None,
        providers: Sequence[str | tuple[str, dict[str, Any]]] = ("CPUExecutionProvider",),
        threads: int | None = None,
        session_options: Any = None,
    ) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise MissingBackend("ONNX files need ONNX Runtime: pip install onnxruntime") from None
        missing = set(_names(providers)) - set(onnxruntime.get_available_providers())
        if missing:
            raise MissingBackend(
                f"this ONNX Runtime has no {', '.join(sorted(missing))}; see onnxruntime's packages for it."
            )
        options = session_options or onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
        except Exception as error:  # onnxruntime has no common base class for what it raises
            raise InvalidInput(f"ONNX Runtime cannot load {path}: {first_line(error)}") from None
        metadata = self._session.get_modelmeta().custom_metadata_map
        own = spec_from_metadata(metadata, str(path))
        if own is not None and spec is not None and own != spec:
            raise InvalidInput(f"{path} carries a spec of its own, and another was given: leave that out.")
        found = own or spec
        if found is None:
            raise InvalidInput(
                f"{path} carries no spec (another exporter wrote it): say how it was trained with --preprocessing and"
                " --class-names, or give --spec FILE; in Python, load(path, spec=foreign_spec(...))."
            )
        # ONNX Runtime goes on without a provider that does not start, such as CUDA without a driver.
        if _names(providers)[0] not in self._session.get_providers():
            raise InvalidInput(f"ONNX Runtime could not start {_names(providers)[0]} and would have used another.")
        self.spec: ModelSpec = found
        self._check_against_file(path)

    def _check_against_file(self, path: str | Path) -> None:
        """The spec must fit the graph, so that a wrong one shows here and not as wrong boxes."""
        spec, inputs, outputs = self.spec, self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise InvalidInput(
                f"{path} has {len(inputs)} inputs and {len(outputs)} outputs; a YOLOX file has one of each."
            )
        self._input_name = inputs[0].name
        promised_input = (spec.batch, *spec.input_size, 3) if spec.uint8_input else (spec.batch, 3, *spec.input_size)
        promised_output = (None, 7) if spec.nms else (spec.batch, spec.num_anchors, 5 + spec.num_classes)
        found_type = ELEMENT_TYPES.get(inputs[0].type, inputs[0].type)
        promised_type = "uint8" if spec.uint8_input else "float32"
        for what, promised, found in (
            ("input", promised_input, inputs[0].shape),
            ("output", promised_output, outputs[0].shape),
            ("input type", promised_type, found_type),
        ):
            fits = promised == found if isinstance(promised, str) else _fits(promised, found)
            if not fits:
                raise InvalidInput(f"the spec of {path} promises {what} {promised}, the graph has {found}.")

    def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See `Runtime.infer`."""
        if self._session is None:
            raise InvalidInput(f"{self.spec.name} is closed.")
        check_input(images, self.spec)
        output: npt.NDArray[np.float32] = self._session.run(None, {self._input_name: images})[0]
        return output

    def close(self) -> None:
        self._session = None


def _names(providers: Sequence[str | tuple[str, dict[str, Any]]]) -> list[str]:
    return [provider if isinstance(provider, str) else provider[0] for provider in providers]


def _fits(promised: tuple[int | None, ...], found: Sequence[int | str | None]) -> bool:
    """Whether a shape from a file, where names stand for free sizes, is the promised one (None: free)."""
    return len(promised) == len(found) and all(
        not isinstance(size, int) if want is None else size == want for want, size in zip(promised, found, strict=True)
    )


def first_line(error: BaseException) -> str:
    """A native library's message, cut to what a person reads."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]

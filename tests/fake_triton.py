"""A stand-in for `triton_python_backend_utils`, which only Triton's own process has.

Its tensors, requests and responses take the arguments that our model gives Triton's, and `exec` runs the network of a
model repository by ONNX Runtime. It shows what our model makes of a request, not that Triton loads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

TRITONSERVER_MEMORY_CPU = 1
repository = Path()  # set by the test


class TritonModelException(Exception):
    """What a network's failure is raised as."""


@dataclass
class TritonError:
    text: str
    code: int
    INVALID_ARG, INTERNAL = 3, 1

    def message(self) -> str:
        return self.text


@dataclass
class Tensor:
    title: str
    values: npt.NDArray[Any]

    def name(self) -> str:
        return self.title

    def as_numpy(self) -> npt.NDArray[Any]:
        return self.values


@dataclass
class PreferredMemory:
    kind: int


@dataclass
class InferenceResponse:
    output_tensors: list[Tensor]
    error_: TritonError | None = None

    def __init__(self, output_tensors: list[Tensor], error: TritonError | None = None) -> None:
        self.output_tensors, self.error_ = output_tensors, error

    def has_error(self) -> bool:
        return self.error_ is not None

    def error(self) -> TritonError | None:
        return self.error_


@dataclass
class InferenceRequest:
    inputs: list[Tensor]
    model_name: str = ""
    requested_output_names: list[str] = field(default_factory=list)
    preferred_memory: PreferredMemory | None = None

    def exec(self) -> InferenceResponse:
        file = repository / self.model_name / "1" / "model.onnx"
        if not file.exists():
            return InferenceResponse([], TritonError(f"there is no model {self.model_name}", TritonError.INTERNAL))
        session = onnxruntime.InferenceSession(str(file))
        found = session.run(self.requested_output_names, {one.title: one.values for one in self.inputs})
        return InferenceResponse([*map(Tensor, self.requested_output_names, found)])


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor:
    return next(one for one in request.inputs if one.title == name)


def get_output_tensor_by_name(response: InferenceResponse, name: str) -> Tensor:
    return next(one for one in response.output_tensors if one.title == name)


def request_of(content: bytes) -> InferenceRequest:
    """What a client sends: one file's bytes."""
    return InferenceRequest([Tensor("image", np.array([content], dtype=np.object_))])

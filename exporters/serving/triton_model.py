"""Triton's Python backend: an image file to its detections, by the code that the artifact was proven with.

It lies in a model repository as NAME/1/model.py, beside spec.json and a copy of the runtime's code, which Triton puts
on the path. One model instead of an ensemble: the ratio of the letterbox has to reach the other end.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils
from yolox_runtimes.detections import Detections
from yolox_runtimes.errors import InvalidInput
from yolox_runtimes.postprocess import postprocess
from yolox_runtimes.preprocess import Image, empty_input, preprocess
from yolox_runtimes.spec import ModelSpec


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        self.network: str = parameters["network"]["string_value"]
        self.score_threshold = float(parameters["score_threshold"]["string_value"])
        self.nms_threshold = float(parameters["nms_threshold"]["string_value"])
        self.spec = ModelSpec.read(Path(__file__).with_name("spec.json"))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        """The response to one request; what is wrong with it is its own error, not that of the others."""
        try:
            content = pb_utils.get_input_tensor_by_name(request, "image").as_numpy().reshape(-1)[0]
            found = self._detect(read_image(content))
        except InvalidInput as error:
            return failure(str(error), pb_utils.TritonError.INVALID_ARG)
        except pb_utils.TritonModelException as error:  # of the network
            return failure(str(error), pb_utils.TritonError.INTERNAL)
        names = [self.spec.class_names[class_id].encode() for class_id in found.class_id]
        return pb_utils.InferenceResponse(
            output_tensors=[
                pb_utils.Tensor("xyxy", found.xyxy),
                pb_utils.Tensor("confidence", found.confidence),
                pb_utils.Tensor("class_id", found.class_id),
                pb_utils.Tensor("class_name", np.array(names, dtype=np.object_)),
            ]
        )

    def _detect(self, image: Image) -> Detections:
        inputs = empty_input(self.spec.batch or 1, self.spec)
        _, ratios = preprocess([image], self.spec, inputs[:1])
        inputs[1:] = inputs[0]  # a fixed batch is filled up
        request = pb_utils.InferenceRequest(
            model_name=self.network,
            requested_output_names=["output"],
            inputs=[pb_utils.Tensor("images", inputs)],
            preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
        )
        response = request.exec()
        if response.has_error():
            raise pb_utils.TritonModelException(response.error().message())
        output = pb_utils.get_output_tensor_by_name(response, "output").as_numpy()
        first = output if self.spec.nms else output[:1]
        return postprocess(first, ratios, self.spec, self.score_threshold, self.nms_threshold, [image.shape[:2]])[0]


def failure(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))


def read_image(content: bytes) -> Image:
    """A file's bytes as BGR uint8 (H, W, 3), upright. Raises `InvalidInput` for what is no image."""
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    except cv2.error:  # of a header that asks for more pixels than OpenCV takes
        image = None
    if image is None:
        raise InvalidInput("this is not an image that OpenCV reads.")
    return image.astype(np.uint8, copy=False)

"""The network alone, as a backend's own benchmark program runs it: one input, filled once, over and over.

Each takes the model file of an artifact, and gives no detections.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from runtimes.detections import Detections
from runtimes.preprocess import Image

NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
ELEMENT_TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


class BareOnnx:
    """ONNX Runtime: `session.run`."""

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        source = self._session.get_inputs()[0]
        shape = [size if isinstance(size, int) else 1 for size in source.shape]
        self._feed = {source.name: np.ones(shape, ELEMENT_TYPES[source.type])}

    def __call__(self, image: Image) -> Detections:
        self._session.run(None, self._feed)
        return NOTHING

    def close(self) -> None:
        self._session = None


class BareOpenVINO:
    """OpenVINO: one infer request."""

    def __init__(self, path: str | Path, threads: int = 1, inference_precision: str = "f32") -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(str(path))
        shape = [1 if size.is_dynamic else size.get_length() for size in model.input(0).partial_shape]
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": inference_precision}
        self._request: Any = core.compile_model(model, "CPU", settings).create_infer_request()
        images = np.ones(shape, model.input(0).element_type.to_dtype())
        self._request.set_input_tensor(openvino.Tensor(images))

    def __call__(self, image: Image) -> Detections:
        self._request.start_async()
        self._request.wait()
        return NOTHING

    def close(self) -> None:
        self._request = None


class BareNcnn:
    """NCNN: an extractor a run, with the options of `runtimes.ncnn`, since its own change the precision."""

    def __init__(
        self, path: str | Path, threads: int = 1, bf16: bool = False, size: tuple[int, int] = (416, 416)
    ) -> None:
        import ncnn

        from runtimes.ncnn import open_net

        self._net: Any = open_net(Path(path), threads, bf16)
        self._input = ncnn.Mat(np.ones((3, *size), np.float32)).clone()

    def __call__(self, image: Image) -> Detections:
        extractor = self._net.create_extractor()
        extractor.input("in0", self._input)
        extractor.extract("out0")
        return NOTHING

    def close(self) -> None:
        self._net = None

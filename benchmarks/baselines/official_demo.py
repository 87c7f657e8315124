"""The official ONNX Runtime demo's pipeline: its file, its pre- and postprocessing, its thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime

from runtimes.detections import Detections
from runtimes.preprocess import Image

from .numpy_pipeline import NANO_SIZE, OFFICIAL, Rules, Size, detections, network_input


class OfficialDemo:
    """path: an ONNX file as the official exporter writes it, boxes not decoded. size: that of its input."""

    def __init__(self, path: str | Path, threads: int = 1, size: Size = NANO_SIZE, rules: Rules = OFFICIAL) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._size, self._rules = size, rules

    def __call__(self, image: Image) -> Detections:
        pixels, ratio = network_input(image, self._size)
        output = self._session.run(None, {self._session.get_inputs()[0].name: pixels})[0]  # (1, A, 5 + C)
        return detections(output[0], self._size, ratio, self._rules)

    def close(self) -> None:
        self._session = None

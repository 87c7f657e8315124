"""OpenVINO as its tutorials use it: compile a file, call it; the rest in NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino

from runtimes.detections import Detections
from runtimes.preprocess import Image

from .numpy_pipeline import NANO_SIZE, OFFICIAL, Rules, Size, detections, network_input


class PlainOpenVINO:
    """path: an ONNX file or an IR (.xml), boxes not decoded. It computes in fp32, where its default may be bf16."""

    def __init__(self, path: str | Path, threads: int = 1, size: Size = NANO_SIZE, rules: Rules = OFFICIAL) -> None:
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        self._compiled: Any = openvino.Core().compile_model(str(path), "CPU", settings)
        self._size, self._rules = size, rules

    def __call__(self, image: Image) -> Detections:
        pixels, ratio = network_input(image, self._size)
        output = self._compiled(pixels)[0]  # (1, A, 5 + C)
        return detections(output[0], self._size, ratio, self._rules)

    def close(self) -> None:
        self._compiled = None

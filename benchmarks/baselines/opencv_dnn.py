"""OpenCV's own network module; the rest in NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2

from runtimes.detections import Detections
from runtimes.preprocess import Image

from .numpy_pipeline import NANO_SIZE, OFFICIAL, Rules, Size, detections, letterbox


class OpenCVDnn:
    """path: an ONNX file, boxes not decoded. The threads are those of all that OpenCV does in this process."""

    def __init__(self, path: str | Path, threads: int = 1, size: Size = NANO_SIZE, rules: Rules = OFFICIAL) -> None:
        cv2.setNumThreads(threads)
        self._net: Any = cv2.dnn.readNetFromONNX(str(path))
        self._size, self._rules = size, rules

    def __call__(self, image: Image) -> Detections:
        canvas, ratio = letterbox(image, self._size)
        self._net.setInput(cv2.dnn.blobFromImage(canvas))
        output = self._net.forward()  # (1, A, 5 + C)
        return detections(output[0], self._size, ratio, self._rules)

    def close(self) -> None:
        self._net = None

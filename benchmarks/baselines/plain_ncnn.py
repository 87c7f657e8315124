"""NCNN as its Python examples use it: load, extract; the rest in NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ncnn
import numpy as np

from runtimes.detections import Detections
from runtimes.preprocess import Image

from .numpy_pipeline import NANO_SIZE, OFFICIAL, Rules, Size, detections, network_input


class PlainNcnn:
    """path: a `.param` file that pnnx converted, with its names; the `.bin` lies beside it. Boxes not decoded.

    But for the threads, NCNN's own defaults hold.
    """

    def __init__(self, path: str | Path, threads: int = 1, size: Size = NANO_SIZE, rules: Rules = OFFICIAL) -> None:
        self._net: Any = ncnn.Net()
        self._net.opt.num_threads = threads
        self._net.load_param(str(path))
        self._net.load_model(str(Path(path).with_suffix(".bin")))
        self._size, self._rules = size, rules

    def __call__(self, image: Image) -> Detections:
        pixels, ratio = network_input(image, self._size)
        extractor = self._net.create_extractor()
        extractor.input("in0", ncnn.Mat(pixels[0]))
        _, output = extractor.extract("out0")  # (5 + C, A)
        return detections(np.array(output).T, self._size, ratio, self._rules)

    def close(self) -> None:
        self._net = None

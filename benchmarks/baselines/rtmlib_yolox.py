"""rtmlib's YOLOX class (Apache-2.0), a peer that runs official ONNX files on ONNX Runtime.

Installed with `pip install --no-deps rtmlib`: what it asks for are two other builds of OpenCV, which would replace the
one here. Seen with 0.0.16.
"""

from __future__ import annotations

import contextlib
import io
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnxruntime
import rtmlib

from runtimes.detections import Detections
from runtimes.preprocess import Image

from .numpy_pipeline import NANO_SIZE, OFFICIAL, Rules, Size


class RtmlibYolox:
    """path: an ONNX file, boxes not decoded.

    Of `rules` it has the thresholds; its NMS is class-aware and counts pixels, and an anchor may be of several classes.
    It tells no scores: the confidence is NaN, and detections come class by class.
    """

    def __init__(self, path: str | Path, threads: int = 1, size: Size = NANO_SIZE, rules: Rules = OFFICIAL) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # It has no option for threads, and prints.
        limited = partial(onnxruntime.InferenceSession, sess_options=options)
        with patch.object(onnxruntime, "InferenceSession", limited), contextlib.redirect_stdout(io.StringIO()):
            self._model: Any = rtmlib.YOLOX(
                str(path),
                model_input_size=size,
                det_mode="multiclass",
                nms_thr=rules.nms_threshold,
                score_thr=rules.score_threshold,
                backend="onnxruntime",
            )

    def __call__(self, image: Image) -> Detections:
        boxes, class_ids = self._model(image)
        unknown = np.full(len(boxes), np.nan, np.float32)
        return Detections(boxes.reshape(-1, 4), unknown, class_ids.astype(np.int64))

    def close(self) -> None:
        self._model = None

from __future__ import annotations

import numpy as np
import pytest

from runtimes import Detections, InvalidInput


def test_shapes_are_validated_and_dtypes_set() -> None:
    detections = Detections(np.zeros((2, 4)), np.ones(2), np.array([0, 1], dtype=np.int32))  # type: ignore[arg-type]
    assert (detections.xyxy.dtype, detections.confidence.dtype, detections.class_id.dtype) == ("f4", "f4", "i8")
    with pytest.raises(InvalidInput, match="xyxy"):
        Detections(np.zeros((3, 4), "f4"), np.ones(2, "f4"), np.zeros(2, "i8"))
    with pytest.raises(InvalidInput, match="class_id"):
        Detections(np.zeros((2, 4), "f4"), np.ones(2, "f4"), np.zeros(1, "i8"))


def test_iteration_is_best_first_as_given() -> None:
    detections = Detections(np.arange(8.0).reshape(2, 4), np.array([0.5, 0.25]), np.array([3, 1]))  # type: ignore[arg-type]
    assert [(box.tolist(), score, class_id) for box, score, class_id in detections] == [
        ([0, 1, 2, 3], 0.5, 3),
        ([4, 5, 6, 7], 0.25, 1),
    ]

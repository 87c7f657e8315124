"""Detections to and from those of `supervision`, whose annotators, zones and metrics then work on ours.

    pip install --no-deps supervision pydeprecate defusedxml
    python examples/with_supervision.py artifacts/yolox-s-onnx-fp32 street.jpg boxes.jpg

Without `--no-deps` it brings PyAV, whose wheel holds x264 and x265 (GPL); supervision needs that for video alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import tyro

from runtimes import Detections, InvalidInput, UserError, load
from yolox_deploy.data.images import read_image

try:
    import supervision as sv
except ImportError:
    sys.exit("error: this needs supervision: pip install --no-deps supervision pydeprecate defusedxml")


def to_supervision(detections: Detections, class_names: Sequence[str]) -> sv.Detections:
    """The same n detections in the same order; names go where supervision's annotators look for them."""
    names = np.array([class_names[index] for index in detections.class_id], dtype=np.str_)
    return sv.Detections(
        xyxy=detections.xyxy.copy(),
        confidence=detections.confidence.copy(),
        class_id=detections.class_id.copy(),
        data={"class_name": names},
    )


def from_supervision(detections: sv.Detections) -> Detections:
    """Best first, as ours are; equal ones stay in order. Masks, tracks and names, which ours have not, are left out.

    Raises `InvalidInput` where there are no confidences or classes.
    """
    if detections.confidence is None or detections.class_id is None:
        raise InvalidInput("these detections have no confidence or no class_id.")
    order = np.argsort(-detections.confidence, kind="stable")
    return Detections(
        np.asarray(detections.xyxy[order], np.float32),
        np.asarray(detections.confidence[order], np.float32),
        np.asarray(detections.class_id[order], np.int64),
    )


def main(artifact: Path, source: Path, target: Path, /) -> None:
    """Write a picture with boxes and labels by supervision's annotators."""
    image = read_image(source)
    with load(artifact, score_threshold=0.3) as detector:
        found = to_supervision(detector(image), detector.spec.class_names)
    picture = sv.BoxAnnotator().annotate(image, found)
    if not cv2.imwrite(str(target), sv.LabelAnnotator().annotate(picture, found)):
        raise InvalidInput(f"cannot write {target}.")
    print(f"{len(found)} detections in {target}")


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except UserError as error:
        sys.exit(f"error: {error}")

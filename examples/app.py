"""Boxes on one picture: the smallest app. Needs NumPy, OpenCV and the artifact's backend.

    python examples/app.py artifacts/yolox-s-onnx-fp32 street.jpg boxes.jpg

In an app of your own that is `import yolox_runtimes`, after `pip install "./runtimes[onnx]"`.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np

from runtimes import UserError, load


def main(artifact: str, source: str, target: str) -> None:
    read = cv2.imread(source)  # (H, W, 3), BGR; None for what is no image
    if read is None:
        sys.exit(f"error: {source} is not an image that OpenCV reads.")
    image = np.asarray(read, np.uint8)
    with load(artifact, score_threshold=0.3) as detector:
        for box, confidence, class_id in detector(image):
            left, top, right, bottom = (int(side) for side in box.round())
            print(f"{detector.spec.class_names[class_id]} {confidence:.2f} {left} {top} {right} {bottom}")
            cv2.rectangle(image, (left, top), (right, bottom), (0, 200, 0), 2)
    if not cv2.imwrite(target, image):
        sys.exit(f"error: cannot write {target}.")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python examples/app.py ARTIFACT IMAGE PICTURE")
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")

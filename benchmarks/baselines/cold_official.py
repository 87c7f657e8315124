"""The official demo as a script: one image, one process. `benchmarks.cold` runs it.

It imports PyTorch, as the demo does through the module that it takes its preprocessing from, and uses nothing of it.
What else that module brings along (torchvision, pycocotools) is left out.
"""

from __future__ import annotations

import json
import sys

import cv2
import torch  # noqa: F401

from benchmarks.baselines.official_demo import OfficialDemo
from benchmarks.memory import peak_memory


def main(path: str, image: str, options: str) -> None:
    pixels = cv2.imread(image)
    assert pixels is not None, image
    found = OfficialDemo(path, **json.loads(options))(pixels)  # type: ignore[arg-type]
    print(json.dumps([len(found), peak_memory()]))


if __name__ == "__main__":
    main(*sys.argv[1:])

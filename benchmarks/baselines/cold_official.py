"""The official demo as a script: one image, one process. `benchmarks.cold` runs it.

It is told what to import besides: the demo imports PyTorch, through the module that it takes its preprocessing from,
and uses nothing of it. What else that module brings along (torchvision, pycocotools) is left out.
"""

from __future__ import annotations

import importlib
import json
import sys

import cv2

from benchmarks.baselines.official_demo import OfficialDemo
from benchmarks.memory import peak_memory


def main(path: str, image: str, options: str, *besides: str) -> None:
    for module in besides:
        importlib.import_module(module)
    pixels = cv2.imread(image)
    assert pixels is not None, image
    found = OfficialDemo(path, **json.loads(options))(pixels)  # type: ignore[arg-type]
    print(json.dumps([len(found), peak_memory()]))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""One process that opens damaged artifacts, one after another, and prints a line on each.

It may crash or hang: that is what it is for. `supervisor` watches it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from runtimes.errors import UserError
from runtimes.load import load, model_file
from runtimes.preprocess import Image
from runtimes.proof import RECORD
from yolox_deploy.data.shapes import shapes_images

from .mutate import mutate
from .mutate_onnx import mutate_onnx

MEMORY = 12 * 2**30  # of address space, as a container has its limit: a file that asks for more is refused
# The files that each runtime reads, and how often each is damaged.
READ = {
    ".onnx": {"model.onnx": 1.0},
    ".xml": {"model.xml": 0.9, "model.bin": 0.1},
    ".param": {"model.param": 0.6, "model.bin": 0.25, "spec.json": 0.15},
}
MEANT = 0.6  # of ONNX files, that can still be read: a change of bytes seldom leaves one so
WEIGHTS = 256  # bytes: longer tensors are weights, and damage to them is only another number


def cases(artifact: Path, copy: Path, seed: int, first: int, last: int) -> Iterator[int]:
    """Damage the copy of an artifact, once for each number; it is whole again before the next."""
    suffix = model_file(artifact).suffix
    names, shares = list(READ[suffix]), list(READ[suffix].values())
    contents = {name: (artifact / name).read_bytes() for name in names}
    spans = {name: structure(content) if suffix == ".onnx" else [] for name, content in contents.items()}
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(artifact, copy)
    (copy / RECORD).unlink(missing_ok=True)  # with its hashes, nothing that is damaged would be opened at all
    for number in range(first, last):
        random = np.random.default_rng([seed, number])
        name = names[int(random.choice(len(names), p=shares))]
        if suffix == ".onnx" and random.random() < MEANT:
            damaged = mutate_onnx(contents[name], random)
        else:
            damaged = mutate(contents[name], random, spans[name])
        (copy / name).write_bytes(damaged)
        yield number
        (copy / name).write_bytes(contents[name])


def structure(content: bytes) -> list[range]:
    """Where an ONNX file holds no weights."""
    import onnx

    tensors = [tensor.raw_data for tensor in onnx.load_from_string(content).graph.initializer]
    spans, begin = [], 0
    for tensor in tensors:
        place = content.find(tensor, begin) if len(tensor) > WEIGHTS else -1
        if place >= 0:
            spans.append(range(begin, place))
            begin = place + len(tensor)
    return [span for span in [*spans, range(begin, len(content))] if span]


def outcome(artifact: Path, image: Image) -> tuple[str, str]:
    """What comes of an artifact: "ran", "refused" in a sentence, or "foreign", an error that says nothing to a user."""
    try:
        with load(artifact, score_threshold=0.01, threads=1) as detector:
            found = detector(image)
    except UserError as error:
        return ("foreign", f"not one line: {error}") if "\n" in str(error) else ("refused", str(error))
    except Exception as error:  # whatever it is, it is what is looked for
        return "foreign", f"{type(error).__name__}: {error} ({_where(error)})"
    sound = np.isfinite(found.xyxy).all() and np.isfinite(found.confidence).all()
    return ("ran", "") if sound else ("foreign", "detections that are not finite")


def _where(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def limit_memory() -> None:
    """Where the system can: Windows cannot."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def main() -> None:
    artifact, copy, *numbers = sys.argv[1:]
    seed, first, last = map(int, numbers)
    lines = os.fdopen(os.dup(1), "w")  # what libraries print goes elsewhere
    os.dup2(2, 1)
    limit_memory()
    (image,) = shapes_images(1)
    for number in cases(Path(artifact), Path(copy), seed, first, last):
        print(json.dumps([number, "begun", ""]), file=lines, flush=True)
        print(json.dumps([number, *outcome(Path(copy), image)]), file=lines, flush=True)


if __name__ == "__main__":
    main()

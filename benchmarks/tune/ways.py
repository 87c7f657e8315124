"""What there is to try: builds of a model, and ways to run each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING

from runtimes.errors import InvalidInput
from yolox_deploy.console import is_installed
from yolox_deploy.doctor import cpu

from .search import Build, Size, Way

if TYPE_CHECKING:
    from .__main__ import TuneConfig
    from .lab import Aim

TARGETS = ("onnx", "openvino", "ncnn")
MODULES = {"onnx": "onnxruntime", "openvino": "openvino", "ncnn": "ncnn"}
BF16_TARGETS = ("openvino", "ncnn")
SMALLER = (1.0, 0.75, 0.5)  # sizes that are tried, as shares of the model's own


def read_sizes(texts: Sequence[str], own: Size) -> list[Size]:
    """Sizes from "416" or "384x640"; the model's own and smaller ones where there are none."""
    if not texts:
        return list(dict.fromkeys((_multiple(share * own[0]), _multiple(share * own[1])) for share in SMALLER))
    found = []
    for text in texts:
        sides = text.split("x")
        if len(sides) > 2 or not all(side.isascii() and side.isdigit() for side in sides):
            raise InvalidInput(f"--sizes {text!r} is no size: 416, or HEIGHTxWIDTH such as 384x640.")
        size = int(sides[0]), int(sides[-1])
        if min(size) < 32 or size[0] % 32 or size[1] % 32:
            raise InvalidInput(f"--sizes {text}: height and width have to be multiples of 32.")
        found.append(size)
    return list(dict.fromkeys(found))


def _multiple(side: float) -> int:
    return max(round(side / 32) * 32, 32)


def builds_of(config: TuneConfig, sizes: Sequence[Size]) -> list[Build]:
    """What there is to try. Raises `InvalidInput` where that is nothing."""
    targets: tuple[str, ...] = config.target or tuple(target for target in TARGETS if is_installed(MODULES[target]))
    has_bf16 = "bf16" in cpu()
    precisions = config.precision or ("fp32", *(("bf16",) if has_bf16 else ()), "int8")
    found = [
        Build(target, computes, size)
        for size, target, computes in product(sizes, targets, precisions)
        if computes != "bf16" or target in BF16_TARGETS
    ]
    if not targets:
        raise InvalidInput("no backend is installed to try: yolox-deploy doctor says what to type.")
    if not found:
        raise InvalidInput(f"none of {', '.join(targets)} computes {', '.join(precisions)}.")
    return found


def ways_of(builds: Sequence[Build], cores: int, aim: Aim) -> list[Way]:
    """One image: 1, 2, 4 threads and so on. Throughput: every way to share out all the cores."""
    return [Way(build, *share) for build in builds for share in _shares(cores, aim)]


def _shares(cores: int, aim: Aim) -> Iterator[tuple[int, int]]:
    if aim == "throughput":
        yield from ((streams, cores // streams) for streams in range(1, cores + 1) if cores % streams == 0)
        return
    threads = 1
    while threads < cores:
        yield 1, threads
        threads *= 2
    yield 1, cores

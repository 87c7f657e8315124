"""python -m benchmarks.evaluation: what comes after the network in evaluation, against pycocotools and NumPy.

From detections to COCO's twelve figures, ours (on all cores) against pycocotools (on one), on a made set like val2017,
for which pycocotools takes a minute. From a network's output to detections at score threshold 0.001, ours against the
official postprocessing in NumPy, on made outputs or on those of an artifact. The two run in this process, in turn, and
have to give the same, or it ends in an error: compare the ratio. Prints a Markdown table and ends with one JSON line.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from statistics import median
from typing import ParamSpec, TypeVar

import numpy as np

from exporters.matching import identical
from runtimes.coco import COCO_CLASS_NAMES
from runtimes.errors import InvalidInput, UserError
from runtimes.json_file import json_text
from runtimes.load import load
from runtimes.postprocess import Floats, decode_output, postprocess
from runtimes.preprocess import preprocess
from runtimes.spec import ModelSpec
from yolox_deploy.accuracy import SCORE_THRESHOLD
from yolox_deploy.console import require, run
from yolox_deploy.data.images import find_images, read_image
from yolox_deploy.evaluator import Evaluation, coco_evaluation
from yolox_deploy.options import Images, check_positive
from yolox_deploy.progress import progress_bar

from .made_detections import SIDE, STRIDES, made_output, made_results
from .plain_evaluation import plain_evaluation, plain_postprocess

THRESHOLDS = (SCORE_THRESHOLD, 0.65)  # of scores, of IoU
MOST_APART = 1e-12  # of figures

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Output = tuple[Floats, float, ModelSpec]  # (1, A, 5 + C), how its image was scaled, the spec


@dataclass(frozen=True)
class EvaluationConfig:
    """Time evaluation against pycocotools and the official postprocessing."""

    size: int = 5000
    """Images of the made set."""
    detections: int = 100
    """Detections in each of them."""
    rounds: int = 1
    """How often pycocotools runs. Ours runs three times before and after each."""
    outputs: int = 100
    """Made network outputs to postprocess."""
    artifact: Path | None = None
    """Postprocess the outputs of this artifact instead."""
    images: Images = None
    """Images for the artifact: a folder, a file or a pattern."""
    seed: int = 0
    """What is made, is made from it."""


@dataclass(frozen=True)
class Comparison:
    """Median seconds of pycocotools (or a NumPy loop) and of ours. apart: the largest difference of their results."""

    what: str
    plain: float
    ours: float
    apart: float

    @property
    def ratio(self) -> float:
        return self.plain / self.ours

    def __str__(self) -> str:
        times = f"{_duration(self.plain)} | {_duration(self.ours)} | {self.ratio:.1f}x"
        return f"| {self.what} | {times} | {self.apart:g} |"


HEADER = "| what | pycocotools, NumPy | ours | faster | results apart by |\n|---|---|---|---|---|"


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1e3 * seconds:.2f} ms"


def timed(
    seconds: list[float],
    function: Callable[Arguments, Result],
    *arguments: Arguments.args,
    **named: Arguments.kwargs,
) -> Result:
    """Call the function, and note how long it took."""
    start = time.perf_counter()
    result = function(*arguments, **named)
    seconds.append(time.perf_counter() - start)
    return result


def compare_figures(config: EvaluationConfig) -> Comparison:
    """From detections to figures. Raises `UserError` where they differ."""
    dataset, found = made_results(config.size, config.detections, config.seed)
    measured = (dataset, found, dataset.category_ids)
    plain: list[float] = []
    ours: list[float] = []
    apart = 0.0
    for _ in progress_bar(range(config.rounds), unit="round", desc="figures"):
        given = [timed(ours, coco_evaluation, *measured) for _ in range(3)]
        expected = timed(plain, plain_evaluation, *measured)
        given += [timed(ours, coco_evaluation, *measured) for _ in range(3)]
        apart = float(np.max([apart, *(difference(one, expected) for one in given)]))
    if not apart <= MOST_APART:
        raise UserError(f"the figures differ from pycocotools' by {apart:g}.")
    objects = sum(len(image.boxes) for image in dataset.images)
    what = f"figures: {config.size} images, {objects} objects, {sum(map(len, found))} detections"
    return Comparison(what, median(plain), median(ours), apart)


def difference(left: Evaluation, right: Evaluation) -> float:
    """The largest, of figures and precision."""
    figures = np.abs(np.subtract(astuple(left.figures), astuple(right.figures)))
    return float(np.maximum(figures.max(), np.abs(left.precision - right.precision).max()))


def compare_postprocessing(outputs: Iterator[Output], count: int) -> Comparison:
    """From outputs to detections; seconds of one. Raises `UserError` where they differ."""
    plain: list[float] = []
    ours: list[float] = []
    candidates: list[int] = []
    for output, ratio, spec in progress_bar(outputs, unit="output", desc="postprocessing", total=count):
        rows = decode_output(output, spec)[0]
        candidates.append(int((rows[:, 4] * rows[:, 5:].max(axis=1) >= SCORE_THRESHOLD).sum()))
        for _ in range(3):
            expected = timed(plain, plain_postprocess, rows, ratio, *THRESHOLDS)
            (given,) = timed(ours, postprocess, output, [ratio], spec, *THRESHOLDS)
        if not identical(expected, given):
            raise UserError(f"output {len(candidates)} gives other detections than the official postprocessing.")
    few, some, many = np.percentile(candidates, (0, 50, 100))
    what = f"postprocessing: {len(candidates)} outputs, {few:.0f} to {many:.0f} candidates, median {some:.0f}"
    return Comparison(what, median(plain), median(ours), 0.0)


def made_outputs(count: int, seed: int) -> Iterator[Output]:
    random = np.random.default_rng(seed)
    spec = ModelSpec("made", (SIDE, SIDE), COCO_CLASS_NAMES, strides=STRIDES)
    for _ in range(count):
        yield made_output(random)[None], 1.0, spec


def real_outputs(artifact: Path, paths: Sequence[Path]) -> Iterator[Output]:
    """Of each image. Raises `InvalidInput` for an artifact that does not give every anchor of one image."""
    with load(artifact) as detector:
        spec = detector.spec
        if spec.nms is not None or spec.topk is not None or spec.batch not in (None, 1):
            raise InvalidInput(f"--artifact {artifact} has to take single images, and have no NMS or TopK inside.")
        for path in paths:
            inputs, ratios = preprocess([read_image(path)], spec)
            yield np.asarray(detector.runtime.infer(inputs)), ratios[0], spec


def command(config: EvaluationConfig) -> None:
    require("hotcoco", "pycocotools")
    check_positive(size=config.size, detections=config.detections, rounds=config.rounds, outputs=config.outputs)
    if (config.artifact is None) != (config.images is None):
        raise InvalidInput("--artifact and --images go together.")
    paths = [] if config.images is None else find_images(config.images)
    if config.artifact is None:
        postprocessing = compare_postprocessing(made_outputs(config.outputs, config.seed), config.outputs)
    else:
        postprocessing = compare_postprocessing(real_outputs(config.artifact, paths), len(paths))
    rows = {"figures": compare_figures(config), "postprocessing": postprocessing}
    print(HEADER)
    for row in rows.values():
        print(row)
    print(json_text({name: {**asdict(row), "ratio": row.ratio} for name, row in rows.items()}))


def main(arguments: list[str] | None = None) -> int:
    return run("python -m benchmarks.evaluation", EvaluationConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

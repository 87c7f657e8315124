"""The TensorRT protocol: an fp16 engine of batch 1, proven first, then timed in five parts and two totals.

The engine is what `yolox-deploy export --target trt --precision fp16` writes. The parts are those of `stages`; they and
the totals are without a CUDA graph, which would be one piece. The latency with the graph is that of one call of
`infer`, as apps make it. Postprocessing is that of detections from score 0.25 on, so that it depends on images and
weights. Nothing here is the paper's protocol: see `paper`.
"""

from __future__ import annotations

import re
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from exporters.artifact import write_artifact
from runtimes.cuda import call, cuda_runtime, find_gpu
from runtimes.detector import Detector
from runtimes.errors import MissingBackend
from runtimes.load import load
from runtimes.preprocess import Image, preprocess
from runtimes.trt_build import library
from yolox_deploy.accuracy import SCORE_THRESHOLD
from yolox_deploy.console import require
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.evaluate import evaluate
from yolox_deploy.model.open import TrainedModel

from ..latency import Latency, clocked, repeat
from ..stages import STAGES, detect_timed
from .gpu import V100_PINS, Card

TOTALS = ("engine", "total")
PROOF_IMAGES = 4

# TensorRT's first version without the V100.
WITHOUT_V100 = (10, 5)


@dataclass(frozen=True)
class Row:
    """One model. AP: a fraction, None where it was not measured. latencies: by stage, total, and "graph".

    parity: how close the engine is to the checkpoint, in words.
    """

    model: str
    AP: float | None
    latencies: dict[str, Latency]
    parity: str

    def to_dict(self, everything: bool = False) -> dict[str, Any]:
        """For JSON; with `everything`, with the time of each run."""
        found = {name: latency.to_dict(everything) for name, latency in self.latencies.items()}
        return {"model": self.model, "AP": self.AP, "milliseconds": found, "parity": self.parity}


HEADER = (
    "| model | AP | preprocess | copy in | compute | copy out | postprocess | engine | image to boxes |"
    " engine with CUDA graph |\n|---|---|---|---|---|---|---|---|---|---|"
)
NOTE = (
    "This is not the protocol of the paper's V100 figures, which are PyTorch's forward pass: do not compare them"
    " (--protocol paper does)."
)


def table(rows: Sequence[Row], card: Card) -> str:
    """Medians of the five parts; of the totals also p90 and p99."""
    where = f"{card.label}, TensorRT {card.versions['tensorrt']}"
    lines = [f"Milliseconds on {where}, fp16, batch 1: median (p90, p99).", "", HEADER]
    for row in rows:
        parts = [f"{row.latencies[stage].median:.3f}" for stage in STAGES]
        totals = [
            f"{latency.median:.2f} ({latency.p90:.2f}, {latency.p99:.2f})"
            for latency in (row.latencies[name] for name in (*TOTALS, "graph"))
        ]
        lines.append(f"| {' | '.join([row.model, '' if row.AP is None else f'{100 * row.AP:.1f}', *parts, *totals])} |")
    return "\n".join([*lines, "", NOTE])


def find_card() -> Card:
    """The GPU that TensorRT uses. Raises `MissingBackend`, with what a V100 needs, where one of the two is missing."""
    try:
        gpu = find_gpu()
        trt = library("tensorrt")
    except MissingBackend as error:
        reason = str(error).rstrip(".")
        raise MissingBackend(f"--protocol trt needs a CUDA GPU and TensorRT: {reason}; {V100_PINS}.") from None
    require("onnx", "onnxruntime", "onnxscript", "onnxsim")
    if gpu.compute_capability == "7.0" and _version(trt.__version__) >= WITHOUT_V100:
        raise MissingBackend(f"TensorRT {trt.__version__} has no kernels for {gpu.name}; {V100_PINS}.")
    identity = getattr(call(cuda_runtime().cudaGetDeviceProperties, 0), "uuid", None)
    versions = {"tensorrt": trt.__version__, "cuda_of_driver": gpu.driver, "torch": torch.__version__}
    name = f"GPU-{uuid.UUID(bytes=identity.bytes)}" if identity else ""
    return Card(gpu.name, gpu.compute_capability, name, versions)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def measure(trained: TrainedModel, images: Sequence[Image], runs: int, dataset: Dataset | None) -> Row:
    """Build the engine of one model, prove it, and time it. Raises `ParityError` where it detects something else."""
    spec = replace(trained.spec, batch=1, precision="fp16", decoded=True)
    with tempfile.TemporaryDirectory() as folder:
        artifact = write_artifact(trained.model, spec, "trt", Path(folder), images[:PROOF_IMAGES])
        with load(artifact.folder) as detector:
            latencies = time_engine(detector, images, runs)
            ap = None if dataset is None else evaluate(Detector(detector.runtime, SCORE_THRESHOLD), dataset).AP
    return Row(spec.name, ap, latencies, str(artifact.report))


def time_engine(detector: Detector, images: Sequence[Image], runs: int) -> dict[str, Latency]:
    """Each stage, each total, and "graph": the runtime's call with its CUDA graph; on each image in turn."""
    found = repeat(lambda run: detect_timed(detector, [images[run % len(images)]])[1], runs)
    latencies = {name: Latency(tuple(getattr(times, name) for times in found)) for name in (*STAGES, *TOTALS)}
    inputs = [preprocess([image], detector.spec)[0] for image in images]
    graph = repeat(clocked(lambda run: detector.runtime.infer(inputs[run % len(inputs)])), runs)
    return latencies | {"graph": Latency(tuple(graph))}

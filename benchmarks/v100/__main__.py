"""python -m benchmarks.v100: the paper's speed table on your GPU, and that of TensorRT engines.

Two protocols, never mixed: `paper` measures what the paper's V100 figures are, `trt` what a deployed engine
takes. Prints a Markdown table and ends with one JSON line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol

from runtimes.errors import InvalidInput
from runtimes.json_file import json_text
from runtimes.preprocess import Image
from yolox_deploy.categories import check_classes
from yolox_deploy.console import require, run
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.data.open import open_evaluable
from yolox_deploy.data.shapes import shapes_images
from yolox_deploy.model.checkpoint import read_checkpoint
from yolox_deploy.model.download import official_weights
from yolox_deploy.model.open import TrainedModel, describe
from yolox_deploy.model.seeded import seeded_model
from yolox_deploy.model.variants import VariantName
from yolox_deploy.options import Json
from yolox_deploy.progress import progress_bar

from . import paper, trt
from .gpu import Card
from .paper import PAPER

PaperModel = Literal["yolox-s", "yolox-m", "yolox-l", "yolox-x", "yolox-darknet53"]

SIZE, CLASSES = (640, 640), 80  # of the paper's table
INPUTS = 8  # different images, in turn
LEAST_RUNS = 50


@dataclass(frozen=True)
class V100Config:
    """Time YOLOX as its paper does, or as a TensorRT engine: fp16, 640x640, batch 1.

    Runs on any CUDA GPU (the first that CUDA_VISIBLE_DEVICES shows), under its own name. Nothing of its clocks or power
    is set; what they were is noted.

    A V100 needs old versions, in Python 3.10: pip install torch==2.7.1 tensorrt-cu12==10.4.0 "cuda-bindings==12.8.*"
    -e ".[export,evaluate]". TensorRT's libraries come from NVIDIA's package index; from PyPI alone there is
    tensorrt==8.6.0, with "nvidia-cudnn-cu12==8.9.*" and "nvidia-cublas-cu12==12.1.*". PyTorch pins newer ones of these
    two: install them with --no-deps --target FOLDER, and name their folders in LD_LIBRARY_PATH (nobody has tried yet).
    """

    protocol: Literal["paper", "trt"]
    """paper: PyTorch's forward pass, as the paper's figures are. trt: an engine, from images to boxes."""
    models: tuple[PaperModel, ...] = ()
    """Which; unset, the paper's five, or those of them that --weights holds."""
    weights: tuple[Path, ...] = ()
    """Checkpoints, or folders of .pth; unset, the official ones are downloaded."""
    seeded: bool = False
    """Untrained weights from a fixed seed. Only postprocessing takes another time with them."""
    data: Path | None = None
    """Measure the AP on this data set too, and time on its images; unset, on generated ones. The paper's is val2017."""
    split: str | None = None
    """Split of --data; unset, the only one, val or test."""
    runs: int = 300
    """Timed runs of each model, after the warm-up."""
    json: Json = None
    """File for the JSON with the time of each run and a description of the machine; "-" is standard output, which then
    holds nothing else."""


class Row(Protocol):
    def to_dict(self, everything: bool = False) -> dict[str, Any]: ...


class Measuring(Protocol):
    """What the module of a protocol offers."""

    def find_card(self) -> Card: ...
    def measure(self, trained: TrainedModel, images: Sequence[Image], runs: int, dataset: Dataset | None) -> Row: ...
    def table(self, rows: Sequence[Any], card: Card) -> str: ...


PROTOCOLS: dict[str, Measuring] = {"paper": paper, "trt": trt}


def check(config: V100Config) -> None:
    """Raise `InvalidInput` for options that do not fit together."""
    if config.seeded and config.weights:
        raise InvalidInput("--seeded and --weights exclude each other.")
    if config.seeded and config.data is not None:
        raise InvalidInput("seeded weights have no AP to measure: leave out --data, or --seeded.")
    if config.split is not None and config.data is None:
        raise InvalidInput("--split is for labelled images: --data PATH.")
    if config.runs < LEAST_RUNS:
        raise InvalidInput(f"--runs must be at least {LEAST_RUNS}, not {config.runs}.")
    if config.data is not None:
        require("hotcoco")
    if config.json is not None:
        require("psutil")


def choose_weights(config: V100Config) -> dict[VariantName, Path | None]:
    """The checkpoint of each model to measure, in the paper's order or the user's; None: seeded."""
    names: tuple[VariantName, ...] = tuple(dict.fromkeys(config.models)) or tuple(PAPER)
    if config.seeded:
        return dict.fromkeys(names)
    if not config.weights:
        return {name: official_weights(name) for name in names}
    found = find_checkpoints(config.weights)
    chosen: dict[VariantName, Path | None] = {name: found[name] for name in names if name in found}
    missing = [name for name in config.models or (names if not chosen else ()) if name not in found]
    if missing:
        raise InvalidInput(f"--weights holds {', '.join(found) or 'no checkpoint'}, but not {' or '.join(missing)}.")
    return chosen


def find_checkpoints(paths: Sequence[Path]) -> dict[VariantName, Path]:
    """Which file holds which model, of files and of folders of .pth. Raises `InvalidInput` for two of the same."""
    found: dict[VariantName, Path] = {}
    for file in (file for path in paths for file in (sorted(path.glob("*.pth")) if path.is_dir() else [path])):
        checkpoint = read_checkpoint(file)
        checkpoint.require(None, CLASSES)
        if checkpoint.variant in found:
            raise InvalidInput(f"{found[checkpoint.variant]} and {file} both hold a {checkpoint.variant}: name one.")
        found[checkpoint.variant] = file
    return found


def open_model(name: VariantName, weights: Path | None) -> TrainedModel:
    if weights is None:
        return describe(seeded_model(name), input_size=SIZE)
    checkpoint = read_checkpoint(weights)
    checkpoint.require(name, CLASSES)
    return describe(checkpoint.build(), checkpoint, input_size=SIZE)


def measure_all(
    config: V100Config, weights: dict[VariantName, Path | None], images: Sequence[Image], dataset: Dataset | None
) -> tuple[list[Row], dict[str, str]]:
    """The rows, and the SHA-256 of each model's checkpoint, or "seeded"."""
    rows, sources = [], {}
    for name, path in progress_bar(weights.items(), unit="model", desc=config.protocol):
        trained = open_model(name, path)
        if dataset is not None:
            check_classes(trained.spec, dataset)
        rows.append(PROTOCOLS[config.protocol].measure(trained, images, config.runs, dataset))
        sources[name] = trained.spec.source_sha256 or "seeded"
    return rows, sources


def command(config: V100Config) -> dict[str, Any] | None:
    check(config)
    protocol = PROTOCOLS[config.protocol]
    card = protocol.find_card()
    splits = () if config.split is None else (config.split,)
    dataset = None if config.data is None else open_evaluable(config.data, splits)
    images = shapes_images(INPUTS) if dataset is None else list(islice(dataset.read_images(), INPUTS))
    rows, sources = measure_all(config, choose_weights(config), images, dataset)
    found = {
        "protocol": config.protocol,
        "gpu": card.manifest(),  # now, while the clocks are still up
        "settings": {"precision": "fp16", "batch": 1, "input_size": SIZE, "runs": config.runs, "inputs": len(images)},
        "weights": sources,
        "ap_images": None if dataset is None else len(dataset),
    }
    print(protocol.table(rows, card))
    if dataset is not None:
        print(f"\nAP on {len(dataset)} images of {dataset.source}; the paper's is on the 5000 of COCO val2017.")
    print(json_text(found | {"rows": [row.to_dict() for row in rows]}))
    if config.json is None:
        return None
    from ..machine import describe_machine

    return found | {"machine": asdict(describe_machine()), "rows": [row.to_dict(everything=True) for row in rows]}


def main(arguments: Sequence[str] | None = None) -> int:
    return run("python -m benchmarks.v100", V100Config, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

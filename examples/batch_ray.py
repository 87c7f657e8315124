"""Detections in a folder of many images, by many processes on one machine or many, through Ray Data.

    pip install -e ".[examples,onnx]"
    python examples/batch_ray.py artifacts/yolox-s-onnx-fp32 my_images detections --workers 4

Writes detections/detections.jsonl: a line for each image, sorted by its path below the folder, with its detections or,
where it cannot be read, its "error". A worker that is killed is started anew; if this process is killed, the same
command goes on where it stopped. Each batch is a file in detections/parts, there whole or not at all, and named after
its images, so that one that is done again replaces itself.

RAY_ADDRESS names a cluster (its machines need the same folders); without it, Ray is started for this run alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray tells its makers that it runs

import numpy as np
import numpy.typing as npt
import ray
import ray.data
import ray.exceptions
import tyro
from tqdm import tqdm

from runtimes import Detector, InvalidInput, UserError, load
from runtimes.errors import first_line
from runtimes.load import model_file
from yolox_deploy.data.images import is_image, read_image
from yolox_deploy.files import check_output_folder, read_text, replacing, write_text
from yolox_deploy.options import check_positive

OBJECT_STORE = 200_000_000  # bytes; only paths travel, the workers read the images themselves


@dataclass(frozen=True)
class Batch:
    """Detections in a folder of many images, by many processes."""

    artifact: Annotated[Path, tyro.conf.Positional]
    """Artifact: its folder, or the model file in it."""
    images: Annotated[Path, tyro.conf.Positional]
    """Folder of images, with folders in it."""
    output: Annotated[Path, tyro.conf.Positional]
    """Folder to write to, or to go on in."""
    workers: int = 2
    """Processes, each with a detector of its own on one thread."""
    batch: int = 64
    """Images between two parts: what is done again, at most, for each worker when all is killed."""
    score_threshold: float = 0.05
    """Detections below it are dropped."""


class Worker:
    """An actor: loads the detector once, and writes a part for each batch of paths."""

    def __init__(self, config: Batch) -> None:
        self.config = config
        self.detector = load(config.artifact, score_threshold=config.score_threshold, threads=1)

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        keys = [os.fsdecode(bytes(key)) for key in batch["item"]]
        write_part(self.config.output, [row_of(self.detector, self.config.images, key) for key in keys])
        return {"done": np.array([len(keys)])}


def row_of(detector: Detector, folder: Path, key: str) -> dict[str, Any]:
    """The line of one image. `key` is its path below the folder."""
    try:
        image = read_image(folder / key)
    except UserError as error:
        return {"image": key, "error": str(error)}
    found = [
        {"box": box.tolist(), "confidence": confidence, "class_id": class_id}
        for box, confidence, class_id in detector(image)
    ]
    return {"image": key, "height": image.shape[0], "width": image.shape[1], "detections": found}


def write_part(output: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A file that is there whole or not at all, named after the images in it."""
    name = hashlib.sha256(b"\0".join(os.fsencode(row["image"]) for row in rows)).hexdigest()[:24]
    part = output / "parts" / f".{name}.{uuid.uuid4().hex}.part"  # a worker that Ray takes for dead may still write
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        part.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        part.replace(part.with_name(f"{name}.jsonl"))
    finally:
        part.unlink(missing_ok=True)


def written(output: Path) -> Iterator[dict[str, Any]]:
    """The lines of all parts."""
    for path in sorted((output / "parts").glob("*.jsonl")):
        yield from map(json.loads, read_text(path).splitlines())


def check_same_run(config: Batch) -> None:
    """What lies in `output` has to come from the same model and images. Raises `InvalidInput` where it does not."""
    path = model_file(config.artifact)
    files = sorted(path.parent.glob(f"{path.stem}.*"))  # weights may lie beside
    model = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    now = json.dumps({"model": model, "images": str(config.images), "score_threshold": config.score_threshold})
    note = config.output / "run.json"
    if note.exists() and read_text(note) != now:
        raise InvalidInput(f"{config.output} holds detections of another model, folder or threshold: name a new one.")
    write_text(note, now)


def find_keys(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder.")
    found = (path for path in folder.rglob("*") if path.is_file() and is_image(path))
    return sorted(path.relative_to(folder).as_posix() for path in found)


def detect_all(config: Batch, keys: Sequence[str]) -> None:
    """Detect in these images, by actors. Raises `UserError` where Ray gives up."""
    if not os.environ.get("RAY_ADDRESS"):
        # Ray starts on one machine with as many "CPUs" as workers, each of which takes one.
        ray.init(
            num_cpus=config.workers,
            object_store_memory=OBJECT_STORE,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    ray.data.DataContext.get_current().enable_progress_bars = False  # ours counts images
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    blocks = -(-len(keys) // config.batch)
    data = ray.data.from_items(list(map(os.fsencode, keys)), override_num_blocks=blocks)  # not every name is Unicode
    pool = ray.data.ActorPoolStrategy(size=config.workers)
    work = data.map_batches(Worker, fn_constructor_args=(config,), batch_size=config.batch, compute=pool, num_cpus=1)
    try:
        with tqdm(total=len(keys), unit="image") as progress:
            for batch in work.iter_batches(batch_size=None):
                progress.update(int(batch["done"].sum()))
    except ray.exceptions.RayError as error:
        raise UserError(f"Ray gave up ({reason(error)}); the same command goes on where it stopped.") from None


def reason(error: Exception) -> str:
    """The line that matters of a worker's traceback, which is what Ray gives."""
    lines = [line for line in str(error).splitlines() if re.match(r"\w+Error: ", line)]
    return lines[0] if lines else first_line(error)


def merge(config: Batch, keys: Sequence[str]) -> dict[str, int]:
    """All parts as one file, each image once. Raises `UserError` where one is missing."""
    rows: dict[str, Any] = {}
    for row in written(config.output):
        if row["image"] not in rows or "error" in rows[row["image"]]:  # one that could be read at last
            rows[row["image"]] = row
    if missing := [key for key in keys if key not in rows]:
        raise UserError(f"{len(missing)} images are missing, such as {missing[0]}; run the same command again.")
    with replacing(config.output / "detections.jsonl") as part, part.open("w", encoding="utf-8") as file:
        for key in sorted(keys):
            file.write(json.dumps(rows[key]) + "\n")
    for left in (config.output / "parts").glob(".*.part"):  # of workers that were killed
        left.unlink()
    return {"images": len(keys), "unread": sum("error" in rows[key] for key in keys)}


def main(config: Batch) -> None:
    check_positive(workers=config.workers, batch=config.batch)
    check_output_folder(config.output, "OUTPUT")
    absolute = {name: getattr(config, name).absolute() for name in ("artifact", "images", "output")}
    config = replace(config, **absolute)  # the workers have a folder of their own
    keys = find_keys(config.images)
    check_same_run(config)
    done = {row["image"] for row in written(config.output) if "error" not in row}  # those are tried again
    left = [key for key in keys if key not in done]
    if left:
        load(config.artifact).close()  # what is wrong with it is said here, before there are processes
        detect_all(config, left)
    print(json.dumps({"done_before": len(done), **merge(config, keys)}))


if __name__ == "__main__":
    try:
        main(tyro.cli(Batch))
    except UserError as error:
        sys.exit(f"error: {error}")

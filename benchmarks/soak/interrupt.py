"""Ctrl-C to `yolox-deploy detect` on many images: how soon it ends, and whether what it leaves is whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2

from runtimes.errors import InvalidInput, UserError
from yolox_deploy.data.images import read_image
from yolox_deploy.data.shapes import shapes_images

from .work import PICTURES, SCORE

ROOT = Path(__file__).parents[2]
FILES = 5000  # far more than are detected in before the signal comes
MOMENTS = (1, 5, 20, 50, 100)  # pictures that are there when Ctrl-C comes
PATIENCE = 60  # seconds, for the pictures, and for the end


@dataclass(frozen=True)
class Interrupted:
    """seconds: from the signal to the end. pictures: how many are left; faults: what is not as it must be, in words."""

    seconds: float
    pictures: int
    faults: list[str]


def interrupt_at_moments(artifact: Path) -> list[Interrupted]:
    """Detect in a folder of images, once for each of `MOMENTS`, and send SIGINT then."""
    with tempfile.TemporaryDirectory() as name:
        images = many_images(Path(name) / "images")
        return [interrupt(artifact, images, Path(name) / f"output-{moment}", moment) for moment in MOMENTS]


def many_images(folder: Path) -> Path:
    """A folder of `FILES` images, most of them links."""
    folder.mkdir()
    for number in range(FILES):
        path = folder / f"{number:05}.jpg"
        if number < PICTURES:
            cv2.imwrite(str(path), shapes_images(number + 1)[number])
        else:
            os.link(folder / f"{number % PICTURES:05}.jpg", path)
    return folder


def interrupt(artifact: Path, images: Path, output: Path, moment: int) -> Interrupted:
    """Raises `UserError` where the command ends before it is interrupted, or does not begin."""
    command = [sys.executable, "-m", "yolox_deploy", "detect", str(artifact.absolute()), str(images)]
    command += ["--output", str(output), "--score-threshold", str(SCORE)]
    # Where a shell starts us in the background, Ctrl-C is ignored, and would be by what we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(process, output, moment)
        start = time.perf_counter()
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return Interrupted(PATIENCE, len(pictures_in(output)), ["it goes on after Ctrl-C"])
        seconds = time.perf_counter() - start
    finally:
        process.kill()
        process.wait()
    faults = [] if process.returncode == 130 else [f"exit code {process.returncode}, not 130: {said[-200:]}"]
    found = faults_in(output)
    return Interrupted(seconds, len(pictures_in(output)), faults + found)


def wait_for(process: subprocess.Popen[str], output: Path, moment: int) -> None:
    """Until so many pictures are there."""
    last = time.perf_counter() + PATIENCE
    while len(pictures_in(output)) < moment:
        if process.poll() is not None:
            raise UserError("yolox-deploy detect ended before it could be interrupted.")
        if time.perf_counter() > last:
            raise UserError(f"yolox-deploy detect wrote fewer than {moment} pictures in {PATIENCE} s.")
        time.sleep(0.005)


def pictures_in(output: Path) -> list[Path]:
    return [path for path in output.glob("*.jpg") if not path.name.startswith(".")]


def faults_in(output: Path) -> list[str]:
    """What an interrupted run must not leave: half pictures, a list that does not parse or names what is not there."""
    faults = [f"{path.name} is left" for path in output.iterdir() if path.name.startswith(".")]
    for path in pictures_in(output):
        try:
            read_image(path)
        except InvalidInput as error:
            faults.append(str(error))
    try:
        named = {int(row["image_id"]) for row in json.loads((output / "detections.json").read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError, KeyError) as error:
        return [*faults, f"detections.json: {error!r}"]
    there = {int(path.stem) for path in pictures_in(output)}
    if not named <= there:
        faults.append(f"detections.json names {len(named - there)} images that have no picture")
    if len(there - named) > 1:  # one may be drawn and not yet noted; every image of `shapes` holds a detection
        faults.append(f"{len(there - named)} pictures are not in detections.json")
    return faults

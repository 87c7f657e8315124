"""Write a conformance kit."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import cv2

from runtimes.preprocess import Image, letterbox
from runtimes.runtime import Runtime

from .cases import MADE, MADE_RATIO, Case, image_cases, made_output
from .manifest import MANIFEST, Kit, describe_file, tolerances
from .readme import kit_readme
from .steps import STEPS, Array, Settings, dtype_of, later_steps, make_input, write_step

IMAGES, SEED = 4, 3  # generated ones, which a kit is made of


def image_steps(case: Case, runtime: Runtime, settings: Settings) -> tuple[dict[str, Array], float]:
    """What every step makes of an image, and the ratio of its letterbox."""
    canvas, ratio = letterbox(case.image, settings.spec.input_size, settings.spec.pad_value)
    network_input = make_input(canvas, settings, ratio)
    output = runtime.infer(network_input[None])[0]
    size = case.image.shape[0], case.image.shape[1]
    return {"letterbox": canvas, "input": network_input, **later_steps(output, settings, ratio, size)}, ratio


def write_case(
    folder: Path, name: str, about: str, steps: dict[str, Array], settings: Settings, ratio: float
) -> dict[str, Any]:
    """Write the files of one case. Returns what the manifest says of it."""
    files = {}
    for step, array in steps.items():
        path = folder / name / f"{step}.bin"
        write_step(path, step, array, settings.spec)
        files[step] = describe_file(path, array.astype(dtype_of(step, settings.spec)), folder)
    return {"name": name, "about": about, "ratio": ratio, "files": files}


def write_image(folder: Path, case: Case) -> dict[str, Any]:
    """Write the image itself, to look at and to read without a library. Returns what the manifest says of it."""
    path = folder / case.name / "image.bin"
    path.write_bytes(case.image.tobytes())
    path.with_suffix(".png").write_bytes(cv2.imencode(".png", case.image)[1].tobytes())
    return describe_file(path, case.image, folder)


def write_kit(
    runtime: Runtime, settings: Settings, images: Sequence[Image], folder: Path, only: Container[str] = STEPS
) -> Kit:
    """Write a kit of four images, resized, and a made-up output into `folder`. only: the steps that images keep."""
    cases = []
    for case in image_cases(images, settings.spec.input_size):
        steps, ratio = image_steps(case, runtime, settings)
        kept = {step: array for step, array in steps.items() if step in only}
        cases.append(write_case(folder, case.name, case.about, kept, settings, ratio))
        cases[-1]["files"] = {"image": write_image(folder, case), **cases[-1]["files"]}
    made = later_steps(made_output(settings.spec), settings, MADE_RATIO)
    cases.append(write_case(folder, "made", MADE, made, settings, MADE_RATIO))
    kit = Kit(folder, settings, {case["name"]: case for case in cases}, tolerances(settings))
    (folder / MANIFEST).write_text(kit.to_json(), encoding="utf-8")
    (folder / "README.md").write_text(kit_readme(settings), encoding="utf-8")
    return kit

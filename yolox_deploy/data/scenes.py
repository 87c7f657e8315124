"""Generated labelled data: images of ten kinds of objects, to train a detector on and to compare trainings.

`python -m yolox_deploy.data.scenes FOLDER` writes a data set in COCO's format. No download, no licence, and with the
same versions of NumPy and OpenCV always the same: every image depends on the seed, its split and its number alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import numpy.typing as npt
import tyro

from runtimes.errors import InvalidInput
from runtimes.preprocess import Image
from yolox_deploy.console import run
from yolox_deploy.files import new_folder, write_text
from yolox_deploy.options import check_positive
from yolox_deploy.progress import progress_bar

from .outlines import OUTLINES, Outline, turned
from .painting import Random, add_clutter, background, paint, photographed

IMAGE_SIDES = (320, 640)
OBJECT_SIZES = (8, 400)  # the longest side, in pixels
LEAST_VISIBLE = 0.25  # of an object that has a label
JPEG_QUALITY = 90


@dataclass(frozen=True)
class SceneObject:
    """box: left, top, right, bottom in pixels, of what is hidden too, cut to the image. area: visible pixels."""

    class_id: int
    box: tuple[float, ...]
    area: float


@dataclass(frozen=True, eq=False)
class Scene:
    """image: (h, w, 3) uint8, BGR."""

    image: Image
    objects: list[SceneObject]


def scene(seed: int, split: int, index: int) -> Scene:
    """One image with its labels, a pure function of three numbers from 0 on."""
    random = np.random.default_rng([seed, split, index])
    height, width = (int(side) for side in random.integers(*IMAGE_SIDES, 2, endpoint=True))
    image = background((height, width), random)
    add_clutter(image, int(random.integers(0, 9)), random)
    owners = np.full((height, width), -1, np.int64)
    sizes = _sizes(min(height, width), random)
    objects = [_place(image, owners, number, size, random) for number, size in enumerate(sizes)]
    add_clutter(image, int(random.integers(0, 3)), random)
    return Scene(photographed(image, random), _visible(objects, owners))


def _sizes(side: int, random: Random) -> list[float]:
    """Log-uniform. Large objects come first as a rule, so that small ones stand before them."""
    low, high = OBJECT_SIZES[0], min(OBJECT_SIZES[1], 0.9 * side)
    sizes = low * (high / low) ** random.random(int(random.integers(19)))
    order = np.argsort(-sizes * random.lognormal(0, 0.6, len(sizes)))
    return [float(size) for size in sizes[order]]


def _place(image: Image, owners: npt.NDArray[np.int64], number: int, size: float, random: Random) -> SceneObject:
    """Paint an object somewhere, and its number into `owners`, over what it hides. The area returned is all of it."""
    height, width = owners.shape
    class_id = int(random.integers(len(OUTLINES)))
    outline, centre = turned([*OUTLINES.values()][class_id](random), size, random), random.uniform(0, (width, height))
    corners = np.concatenate(outline) + centre
    low, high = corners.min(axis=0), corners.max(axis=0)
    left, top = (int(value) - 1 for value in np.floor(low))
    right, bottom = (int(value) + 2 for value in np.ceil(high))
    mask = _mask([contour + centre - (left, top) for contour in outline], (bottom - top, right - left))
    inside = mask[max(-top, 0) : height - top, max(-left, 0) : width - left]
    part = np.s_[max(top, 0) : bottom, max(left, 0) : right]
    paint(image[part], inside, 180 * class_id / len(OUTLINES), random)
    owners[part][inside > 127] = number
    box = (np.stack([low, high]) + 0.5).clip(0, (width, height))  # pixel 0 reaches from 0 to 1; cv2 calls its centre 0
    return SceneObject(class_id, tuple(box.ravel().tolist()), float((mask > 127).sum()))


def _mask(outline: Outline, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """(height, width), 255 inside, less on the edge."""
    mask = np.zeros(size, np.uint8)
    sixteenths = [(contour * 16).round().astype(np.int32) for contour in outline]
    cv2.fillPoly(mask, sixteenths, (255,), cv2.LINE_AA, 4)
    return mask


def _visible(objects: list[SceneObject], owners: npt.NDArray[np.int64]) -> list[SceneObject]:
    areas = np.bincount(owners.ravel() + 1, minlength=len(objects) + 1)[1:].tolist()
    return [
        replace(item, area=float(area))
        for item, area in zip(objects, areas, strict=True)
        if area > 0 and area >= LEAST_VISIBLE * item.area
    ]


@dataclass(frozen=True)
class ScenesConfig:
    """Write a labelled data set of generated images, in COCO's format."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder to write; it must be empty or not exist."""
    train: int = 1500
    """Images to train on."""
    val: int = 200
    """Images to measure on."""
    seed: int = 0
    """Another seed gives other images."""


def write_scenes(config: ScenesConfig) -> None:
    """The folder is complete or not there. Raises `InvalidInput` where it holds something."""
    check_positive(train=config.train, val=config.val)
    if config.seed < 0:
        raise InvalidInput(f"--seed cannot be negative, as {config.seed} is.")
    with new_folder(config.folder, "FOLDER") as folder:
        for number, (split, count) in enumerate((("train", config.train), ("val", config.val))):
            _write_split(folder, split, [(config.seed, number, index) for index in range(count)])


def _write_split(root: Path, split: str, numbers: Sequence[tuple[int, int, int]]) -> None:
    (root / split).mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, key in enumerate(progress_bar(numbers, unit="image", desc=split), 1):
        made = scene(*key)
        name = f"{image_id:06}.jpg"
        jpeg = cv2.imencode(".jpg", made.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        (root / split / name).write_bytes(jpeg.tobytes())
        height, width = made.image.shape[:2]
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for item in made.objects:
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **_annotation(item)})
    categories = [{"id": number, "name": name} for number, name in enumerate(OUTLINES, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_text(root / "annotations" / f"instances_{split}.json", json.dumps(content))


def _annotation(item: SceneObject) -> dict[str, Any]:
    left, top, right, bottom = (round(value, 2) for value in item.box)
    box = [left, top, round(right - left, 2), round(bottom - top, 2)]
    return {"category_id": item.class_id + 1, "bbox": box, "area": item.area, "iscrowd": 0}


def main(arguments: Sequence[str] | None = None) -> int:
    return run("python -m yolox_deploy.data.scenes", ScenesConfig, write_scenes, arguments)


if __name__ == "__main__":
    sys.exit(main())

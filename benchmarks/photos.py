"""The images that times are taken of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runtimes.preprocess import Image
from yolox_deploy.data.images import ImageFiles, find_images
from yolox_deploy.data.shapes import shapes_images
from yolox_deploy.int8 import evenly


def some_images(folder: Path | None, count: int) -> list[Image]:
    """At most so many of the images in a folder, evenly spread; generated ones where there is no folder."""
    images: Sequence[Image] = shapes_images(count) if folder is None else ImageFiles(find_images(folder))
    return [images[index] for index in evenly(len(images), count)]

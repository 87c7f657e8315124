"""The images that times are taken of."""

from __future__ import annotations

from pathlib import Path

from runtimes.preprocess import Image
from yolox_deploy.verification import evenly, given_images


def some_images(folder: Path | None, count: int) -> list[Image]:
    """At most so many of the images at a path, evenly spread; generated ones where there is no path."""
    images = given_images(folder, count).images
    return [images[index] for index in evenly(len(images), count)]

"""Generated images: coloured shapes on textured backgrounds. No download, no licence, the same on every machine.

`python -m yolox_deploy.data.shapes FOLDER` writes some to look at or to detect in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import tyro

from runtimes.preprocess import Image


def shapes_images(count: int, seed: int = 0) -> list[Image]:
    """`count` BGR images of various sizes, (h, w, 3) uint8, deterministic from `seed`."""
    return [shapes_image(np.random.default_rng([seed, index])) for index in range(count)]


def shapes_image(random: np.random.Generator) -> Image:
    """One image: a smooth background with grain, and 3 to 12 discs, boxes and triangles of 8 to 300 px on it."""
    height, width = (int(side) for side in random.integers(240, 720, size=2))
    coarse = random.integers(40, 216, size=(4, 6, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int64)
    grain = random.integers(-12, 13, size=smooth.shape)
    image = np.clip(smooth + grain, 0, 255).astype(np.uint8)
    for _ in range(random.integers(3, 13)):
        _draw_shape(image, random)
    return image


def _draw_shape(image: Image, random: np.random.Generator) -> None:
    height, width = image.shape[:2]
    x, y = int(random.integers(width)), int(random.integers(height))
    reach = int(4 * (150 / 4) ** random.random())  # half the side: small shapes are as frequent as large ones
    colour = [int(value) for value in random.integers(256, size=3)]
    kind = random.integers(3)
    if kind == 0:
        cv2.circle(image, (x, y), reach, colour, -1, cv2.LINE_AA)
    elif kind == 1:
        cv2.rectangle(image, (x - reach, y - reach), (x + reach, y + reach), colour, -1)
    else:
        corners = np.array([[x, y - reach], [x - reach, y + reach], [x + reach, y + reach]])
        cv2.fillPoly(image, [corners], colour, cv2.LINE_AA)


def write_images(folder: Annotated[Path, tyro.conf.Positional], count: int = 6) -> None:
    """Write generated images, 0.png, 1.png and so on, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(shapes_images(count, seed=1)):
        cv2.imwrite(str(folder / f"{index}.png"), image)


if __name__ == "__main__":
    tyro.cli(write_images, prog="python -m yolox_deploy.data.shapes")

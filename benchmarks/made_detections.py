"""What a detector might give on a data set like COCO's val2017, made from a seed: detections beside their truth, and
network outputs in which boxes crowd around objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtimes.coco import COCO_CATEGORY_IDS, COCO_CLASS_NAMES
from runtimes.detections import Detections
from runtimes.postprocess import Floats, anchor_grid
from yolox_deploy.data.dataset import Dataset, LabelledImage

SIDE = 640  # of an image, and of a network's input
STRIDES = (8, 16, 32)
OBJECTS = 7.3  # an image, as in val2017
CLASSES = len(COCO_CLASS_NAMES)

Array = npt.NDArray[np.float64]
Random = np.random.Generator


def made_results(images: int, detections: int, seed: int) -> tuple[Dataset, list[Detections]]:
    """A data set, and so many detections in each of its images. Image ids are in no order."""
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(CLASSES, 0.6))  # of the classes: some are frequent, some rare
    labelled = tuple(made_image(int(number), shares, random) for number in random.permutation(4 * images)[:images])
    dataset = Dataset(Path("made"), labelled, dict(zip(COCO_CATEGORY_IDS, COCO_CLASS_NAMES, strict=True)))
    return dataset, [made_detections(image, detections, shares, random) for image in labelled]


def made_image(number: int, shares: Array, random: Random) -> LabelledImage:
    """An image whose objects are of all three sizes, some of them crowds. shares: (C,) of the classes."""
    count = int(random.poisson(OBJECTS))
    boxes = made_boxes(count, random).round(2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) * random.uniform(0.5, 1, count)
    class_ids = random.choice(CLASSES, count, p=shares)
    return LabelledImage(number, Path(), (SIDE, SIDE), boxes, class_ids, area, random.random(count) < 0.012)


def made_boxes(count: int, random: Random) -> Array:
    """Boxes around the image's objects, (count, 4): two in five small, one in four large, as in val2017."""
    sides = np.exp(random.normal(4.0, 1.0, (count, 1)) + random.normal(0, 0.3, (count, 2))).clip(4, 600)
    centres = random.uniform(0, SIDE, (count, 2))
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)


def made_detections(image: LabelledImage, count: int, shares: Array, random: Random) -> Detections:
    """So many, best first: none to three of each object, moved a little and some of a wrong class, the rest false.
    Three in ten scores have two digits only, so that many are equal."""
    copies = np.repeat(np.arange(len(image.boxes)), random.integers(0, 4, len(image.boxes)))[:count]
    near, false = image.boxes[copies], made_boxes(count - len(copies), random)
    near = near + random.normal(0, 0.1, near.shape) * np.tile(near[:, 2:] - near[:, :2], 2)
    class_ids = random.choice(CLASSES, count, p=shares)
    right = random.random(len(copies)) < 0.85
    class_ids[: len(copies)][right] = image.class_ids[copies][right]
    scores = np.concatenate([random.beta(2, 2, len(near)), random.beta(0.6, 6, len(false))])
    scores = np.where(random.random(count) < 0.3, scores.round(2), scores)
    order = np.argsort(-scores, kind="stable")
    return Detections(np.concatenate([near, false])[order], scores[order], class_ids[order])


def made_output(random: Random) -> Floats:
    """A network's output for one image, decoded, (8400, 85): around each object, anchors on all three levels whose
    boxes differ little and whose scores fall with the distance from it, as before NMS; elsewhere hardly any."""
    cells, strides = anchor_grid((SIDE, SIDE), STRIDES)
    centres = ((cells + 0.5) * strides).astype(np.float64)
    objects = made_boxes(3 + int(random.poisson(OBJECTS)), random)
    sides, middles = objects[:, 2:] - objects[:, :2], (objects[:, 2:] + objects[:, :2]) / 2
    distance = np.abs(centres[:, None] - middles) / (sides / 2 + strides[:, None])  # (A, objects, 2), in half sides
    level = np.log2(strides * 6 / sides.max(axis=1))  # (A, objects): how far from the level that suits
    falling = 6 * (distance**2).sum(axis=2) + level**2
    nearest = falling.argmin(axis=1)
    strength = random.beta(0.5, 1, len(objects))[nearest] * np.exp(-falling.min(axis=1))

    output = np.empty((len(cells), 5 + CLASSES), np.float32)
    belongs = (strength > 1e-4)[:, None]
    wobble = random.normal(0, 0.12, (len(cells), 2))
    output[:, :2] = np.where(belongs, middles[nearest] + wobble * sides[nearest], centres)
    output[:, 2:4] = np.where(belongs, sides[nearest], 4 * strides) * np.exp(random.normal(0, 0.15, (len(cells), 2)))
    output[:, 4] = strength + np.exp(random.normal(-12, 1.5, len(cells)))
    output[:, 5:] = np.exp(random.normal(-6, 1, (len(cells), CLASSES)))
    class_ids = random.integers(CLASSES, size=len(objects))[nearest]
    output[np.arange(len(cells)), 5 + class_ids] = random.uniform(0.3, 1, len(cells))
    output[:, 4:] = output[:, 4:].clip(0, 1)
    return output

"""Small labelled data sets, the same in three formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

Object = tuple[str, float, float, float, float]  # class, left, top, right, bottom
Splits = Mapping[str, Sequence[tuple[tuple[int, int], Sequence[Object]]]]  # of each image: (height, width), objects

SPLITS: Splits = {
    "train": [((60, 80), [("cat", 8, 6, 40, 36), ("owl", 16, 12, 24, 30)]), ((40, 40), [("dog", 0, 0, 40, 20)])],
    "val": [((50, 100), [("cat", 10, 5, 90, 45)]), ((32, 64), [])],
}
NAMES = ["cat", "dog", "owl"]


def image(path: Path, size: tuple[int, int]) -> None:
    """Of noise, so that no two are the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(list(path.as_posix().encode())).integers(256, size=(*size, 3), dtype=np.uint8)
    cv2.imwrite(str(path), noise)


def write_coco(root: Path, splits: Splits = SPLITS) -> Path:
    (root / "annotations").mkdir(parents=True)
    for split, images in splits.items():
        entries, annotations = [], []
        for index, (size, objects) in enumerate(images):
            image(root / split / f"{index}.png", size)
            entries.append({"id": index, "file_name": f"{index}.png", "height": size[0], "width": size[1]})
            for name, left, top, right, bottom in objects:
                box = [left, top, right - left, bottom - top]
                entry = {"image_id": index, "category_id": 10 + NAMES.index(name), "bbox": box}
                annotations.append({"id": len(annotations) + 1, **entry})
        categories = [{"id": 10 + number, "name": name} for number, name in enumerate(NAMES)]
        content = {"images": entries, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def write_voc(root: Path, splits: Splits = SPLITS) -> Path:
    for folder in ("ImageSets/Main", "Annotations"):
        (root / folder).mkdir(parents=True)
    for split, images in splits.items():
        (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"{split}{n}\n" for n in range(len(images))))
        for index, (size, objects) in enumerate(images):
            image(root / "JPEGImages" / f"{split}{index}.png", size)
            rows = "".join(
                f"<object><name>{name}</name><bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin>"
                f"<xmax>{right + 1}</xmax><ymax>{bottom + 1}</ymax></bndbox></object>"
                for name, left, top, right, bottom in objects
            )
            text = f"<annotation><size><width>{size[1]}</width><height>{size[0]}</height></size>{rows}</annotation>"
            (root / "Annotations" / f"{split}{index}.xml").write_text(text)
    return root


def write_yolo(root: Path, splits: Splits = SPLITS) -> Path:
    for split, images in splits.items():
        (root / "labels" / split).mkdir(parents=True)
        for index, (size, objects) in enumerate(images):
            image(root / "images" / split / f"{index}.png", size)
            lines = [
                f"{NAMES.index(name)} {(left + right) / 2 / size[1]} {(top + bottom) / 2 / size[0]}"
                f" {(right - left) / size[1]} {(bottom - top) / size[0]}\n"
                for name, left, top, right, bottom in objects
            ]
            if lines:
                (root / "labels" / split / f"{index}.txt").write_text("".join(lines))
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(NAMES))
    (root / "data.yaml").write_text(f"path: .\ntrain: images/train\nval: images/val\nnames:\n{names}")
    return root


WRITERS: dict[str, Callable[..., Path]] = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo}

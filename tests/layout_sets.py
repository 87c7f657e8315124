"""The labelled images of data_sets.py as labelling tools export them, file by file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.data_sets import NAMES, SPLITS, Object, image

Images = Sequence[tuple[tuple[int, int], Sequence[Object]]]  # of each: (height, width), objects
TRAIN, VAL = SPLITS["train"], SPLITS["val"]
ALL = [*TRAIN, *VAL]
BOTH = {"train": TRAIN, "valid": VAL}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def coco(file: Path, images: Images, folder: Path, prefix: str = "", group: bool = False) -> None:
    """A file of boxes, and its images in a folder. prefix: of their names in the file. group: with Roboflow's
    supercategory."""
    entries, annotations = [], []
    for number, (size, objects) in enumerate(images):
        name = f"{file.parent.name}{number}.png"
        image(folder / name, size)
        entries.append({"id": number, "file_name": prefix + name, "height": size[0], "width": size[1]})
        for label, left, top, right, bottom in objects:
            box = [left, top, right - left, bottom - top]
            entry = {"id": len(annotations), "image_id": number, "category_id": 1 + NAMES.index(label), "bbox": box}
            annotations.append({**entry, "area": box[2] * box[3], "segmentation": [], "iscrowd": 0})
    categories = [{"id": 1 + number, "name": name, "supercategory": "animals"} for number, name in enumerate(NAMES)]
    if group:
        categories.insert(0, {"id": 0, "name": "animals", "supercategory": "none"})
    write(file, json.dumps({"info": {}, "images": entries, "categories": categories, "annotations": annotations}))


def xml(folder: Path, labels: Path, images: Images, name: str = "a") -> None:
    for number, (size, objects) in enumerate(images):
        image(folder / f"{name}{number}.png", size)
        rows = "".join(
            f"<object><name>{label}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult><bndbox>"
            f"<xmin>{left + 1}</xmin><ymin>{top + 1}</ymin><xmax>{right + 1}</xmax><ymax>{bottom + 1}</ymax></bndbox>"
            "</object>"
            for label, left, top, right, bottom in objects
        )
        side = f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
        text = f"<annotation><filename>{name}{number}.png</filename>{side}<segmented>0</segmented>{rows}</annotation>"
        write(labels / f"{name}{number}.xml", text)


def txt(folder: Path, labels: Path, images: Images, name: str = "a") -> list[str]:
    """Returns the names of the images. One without objects has an empty file, as most tools write it."""
    for number, (size, objects) in enumerate(images):
        image(folder / f"{name}{number}.png", size)
        rows = [
            f"{NAMES.index(label)} {(left + right) / 2 / size[1]} {(top + bottom) / 2 / size[0]}"
            f" {(right - left) / size[1]} {(bottom - top) / size[0]}\n"
            for label, left, top, right, bottom in objects
        ]
        write(labels / f"{name}{number}.txt", "".join(rows))
    return [f"{name}{number}.png" for number in range(len(images))]


CLASSES = "\n".join(NAMES) + "\n"


def roboflow_coco(root: Path) -> Path:
    for split, images in BOTH.items():
        coco(root / split / "_annotations.coco.json", images, root / split, group=True)
    for name in ("README.dataset.txt", "README.roboflow.txt"):
        write(root / name, "https://universe.roboflow.com\n")
    return root


def roboflow_voc(root: Path) -> Path:
    for split, images in BOTH.items():
        xml(root / split, root / split, images)
    write(root / "README.roboflow.txt", "")
    return root


def roboflow_darknet(root: Path) -> Path:
    for split, images in BOTH.items():
        txt(root / split, root / split, images)
        write(root / split / "_darknet.labels", CLASSES)
    return root


def labelimg_voc(root: Path) -> Path:
    xml(root, root, ALL)
    return root


def labelimg_yolo(root: Path) -> Path:
    txt(root, root, ALL)
    write(root / "classes.txt", CLASSES)
    return root


def voc_without_lists(root: Path) -> Path:
    xml(root / "JPEGImages", root / "Annotations", ALL)
    return root


def voc_images_at_the_top(root: Path) -> Path:
    xml(root, root / "Annotations", ALL)
    return root


def yolo_images_at_the_top(root: Path) -> Path:
    txt(root, root / "labels", ALL)
    write(root / "labels" / "classes.txt", CLASSES)
    return root


def label_studio_voc(root: Path) -> Path:
    xml(root / "images", root / "Annotations", ALL)
    return root


def voc_split_folders(root: Path) -> Path:
    for split, images in BOTH.items():
        xml(root / "images" / split, root / "annotations" / split, images)
    return root


def voc_flat_annotations(root: Path) -> Path:
    for split, images in BOTH.items():
        xml(root / "images" / split, root / "annotations", images, name=split)
    return root


def cvat_coco(root: Path) -> Path:
    coco(root / "annotations" / "instances_default.json", ALL, root / "images" / "default")
    return root


def cvat_yolo(root: Path) -> Path:
    """YOLO 1.1. Its paths start from Darknet's own folder."""
    for split, images in BOTH.items():
        names = txt(root / f"obj_{split}_data", root / f"obj_{split}_data", images, name=split)
        write(root / f"{split}.txt", "".join(f"data/obj_{split}_data/{name}\n" for name in names))
    write(root / "obj.names", CLASSES)
    lines = "classes = 3\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\nbackup = backup/\n"
    write(root / "obj.data", lines)
    return root


def cvat_ultralytics(root: Path) -> Path:
    for split, images in BOTH.items():
        names = txt(root / "images" / split, root / "labels" / split, images)
        write(root / f"{split}.txt", "".join(f"data/images/{split}/{name}\n" for name in names))
    write(root / "data.yaml", "path: ./\ntrain: train.txt\nval: valid.txt\nnames:\n  0: cat\n  1: dog\n  2: owl\n")
    return root


def darknet_lists(root: Path) -> Path:
    """Without a .data file, and with the paths of another machine."""
    for split, images in {"train": TRAIN, "test": VAL}.items():
        names = txt(root / "img", root / "img", images, name=split)
        write(root / f"{split}.txt", "".join(f"/home/me/darknet/img/{name}\n" for name in names))
    write(root / "animals.names", CLASSES)
    return root


def label_studio_coco(root: Path) -> Path:
    coco(root / "result.json", ALL, root / "images", prefix="images/")
    return root


def label_studio_local_files(root: Path) -> Path:
    coco(root / "result.json", ALL, root / "images", prefix="../../label-studio/data/media/upload/1/")
    return root


def label_studio_yolo(root: Path) -> Path:
    txt(root / "images", root / "labels", ALL)
    write(root / "classes.txt", CLASSES)
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES)]
    write(root / "notes.json", json.dumps({"categories": categories, "info": {"contributor": "Label Studio"}}))
    return root


def fiftyone_coco(root: Path) -> Path:
    coco(root / "labels.json", ALL, root / "data")
    return root


def coco_of_any_name(root: Path) -> Path:
    coco(root / "annotations" / "my labels.json", ALL, root / "images")
    return root


def coco_file(root: Path) -> Path:
    coco(root / "some" / "labels.json", ALL, root / "some")
    write(root / "some" / "other.json", "{}")
    return root / "some" / "labels.json"


def coco_file_in_annotations(root: Path) -> Path:
    coco(root / "annotations" / "x.json", ALL, root / "images")
    write(root / "annotations" / "other.json", "{}")
    return root / "annotations" / "x.json"


def coco_files_beside(root: Path) -> Path:
    for split, images in BOTH.items():
        coco(root / f"{split}.json", images, root / "images" / split)
    return root


def yolo_split_folders(root: Path) -> Path:
    for split, images in BOTH.items():
        txt(root / "images" / split, root / "labels" / split, images)
    write(root / "labels" / "classes.txt", CLASSES)
    return root


def yolo_folders_of_splits(root: Path) -> Path:
    for split, images in BOTH.items():
        txt(root / split / "images", root / split / "labels", images)
    write(root / "classes.txt", CLASSES)
    return root


def one_split_alone(root: Path) -> Path:
    return roboflow_voc(root) / "valid"


@dataclass(frozen=True)
class Case:
    """write: returns the path of the data set. splits: what is in each."""

    write: Callable[[Path], Path]
    splits: dict[str, Images]


def one(name: str) -> dict[str, Images]:
    return {name: ALL}


CASES = [
    Case(roboflow_coco, {**BOTH}),
    Case(roboflow_voc, {**BOTH}),
    Case(roboflow_darknet, {**BOTH}),
    Case(labelimg_voc, one("all")),
    Case(labelimg_yolo, one("all")),
    Case(voc_without_lists, one("all")),
    Case(voc_images_at_the_top, one("all")),
    Case(yolo_images_at_the_top, one("all")),
    Case(label_studio_voc, one("all")),
    Case(voc_split_folders, {**BOTH}),
    Case(voc_flat_annotations, {**BOTH}),
    Case(cvat_coco, one("default")),
    Case(cvat_yolo, {**BOTH}),
    Case(cvat_ultralytics, {"train": TRAIN, "val": VAL}),
    Case(darknet_lists, {"train": TRAIN, "test": VAL}),
    Case(label_studio_coco, one("result")),
    Case(label_studio_local_files, one("result")),
    Case(label_studio_yolo, one("all")),
    Case(fiftyone_coco, one("labels")),
    Case(coco_of_any_name, one("my labels")),
    Case(coco_file, one("labels")),
    Case(coco_file_in_annotations, one("x")),
    Case(coco_files_beside, {**BOTH}),
    Case(yolo_split_folders, {**BOTH}),
    Case(yolo_folders_of_splits, {**BOTH}),
    Case(one_split_alone, {"all": VAL}),
]

"""Layouts of other tools that are not read: what each is called, and how to come to one that is."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolox_deploy.files import read_text

MOST_EXAMINED = 16  # files of one kind in one folder: layouts with a file for each image have thousands alike
EXAMINED_BYTES = 4096
COCO_PARTS = ("images", "annotations", "categories")


@dataclass(frozen=True)
class Unread:
    """A layout that is not read. advice: what to do, as the second half of a sentence."""

    name: str
    advice: str

    def sentence(self, path: Path) -> str:
        advice = self.advice.format(path=shlex.quote(str(path)), root=shlex.quote(str(path.parent.parent)))
        return f"{path} is {self.name}, which is not read: {advice}."


def _convertible(token: str) -> str:
    """By panlabel, tried with each layout that says so. Its result lies beside the images, and is named itself."""
    return (
        f"`pip install panlabel`, then `panlabel convert --from {token} --to coco --allow-lossy -i {{path}} -o"
        " labels.json`; put labels.json beside the images, and give its path as the data set"
    )


EXPORT = "export it as COCO, Pascal VOC or YOLO from the tool that wrote it"

LABEL_STUDIO = Unread("Label Studio's own JSON", "export it there as COCO or YOLO, with images")
CVAT = Unread("CVAT's own XML", "export it there as COCO 1.0, PASCAL VOC 1.1 or YOLO 1.1, with images")
LABELME = Unread("LabelMe's JSON, a file for each image", _convertible("labelme"))
CREATEML = Unread("CreateML's JSON", _convertible("create-ml"))
SUPERVISELY = Unread("Supervisely's JSON", "export it there with the app `Export to COCO`")
VIA = Unread("VGG Image Annotator's JSON", "export it there as COCO; or " + _convertible("via"))
DATUMARO = Unread(
    "Datumaro's JSON",
    "`pip install 'datumaro[cli]'`, then `datum convert -if datumaro -i {root} -f coco_instances -o mine --"
    " --save-media`, and mine is the data set",
)
BDD = Unread("BDD100K's JSON", _convertible("bdd100k"))
RESULTS = Unread("a file of detections in COCO's format", "it holds no labels; give the file of images and categories")
OPEN_IMAGES = Unread("Open Images' CSV", "export it as COCO with FiftyOne or Datumaro, which know its classes")
PASCAL_CSV = Unread("a CSV file with a box a line", EXPORT)
OTHER_CSV = Unread("a CSV file", EXPORT)
TFRECORD = Unread("TFRecord", EXPORT)
KITTI = Unread("KITTI's layout", _convertible("kitti"))
HUGGING_FACE = Unread("a table of Hugging Face", EXPORT)
MANIFEST = Unread("a manifest of SageMaker", EXPORT)
LINES = Unread("JSON by lines", EXPORT)
ARCHIVE = Unread("an archive", "unpack it, and give the path of the folder")

FOR_EACH_IMAGE = (LABELME, SUPERVISELY)  # their folder is converted, not one of the files
SUFFIXES = {
    ".tfrecord": TFRECORD,
    ".tfrecords": TFRECORD,
    ".record": TFRECORD,
    ".parquet": HUGGING_FACE,
    ".arrow": HUGGING_FACE,
    ".manifest": MANIFEST,
    ".ndjson": LINES,
    ".jsonl": LINES,
    ".zip": ARCHIVE,
    ".tar": ARCHIVE,
    ".gz": ARCHIVE,
    ".tgz": ARCHIVE,
    ".7z": ARCHIVE,
    ".rar": ARCHIVE,
}


def load_json(path: Path) -> Any:
    """What a JSON file holds, None where it cannot be read: who needs it says why."""
    try:
        return json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):  # InvalidInput is a ValueError
        return None


def is_coco(content: Any) -> bool:
    """Whether a JSON file holds the three lists of COCO's format."""
    return isinstance(content, dict) and all(isinstance(content.get(part), list) for part in COCO_PARTS)


def is_meant_as_coco(content: Any) -> bool:
    """Whether a JSON file, by whose name it may be COCO's, is: it has a part of the format, or is damaged or empty."""
    return not content or (isinstance(content, dict) and not content.keys().isdisjoint(COCO_PARTS))


def recognise_json(content: Any) -> Unread | None:
    """Which other tool's JSON this is, by the keys that its documentation names."""
    if isinstance(content, list) and content and isinstance(content[0], dict):
        return next((unread for keys, unread in LISTS if keys <= content[0].keys()), None)
    if not isinstance(content, dict):
        return None
    if found := next((unread for keys, unread in OBJECTS if keys <= content.keys()), None):
        return found
    first = next(iter(content.values()), None)  # VIA's annotations alone: {name and size of a file: its regions}
    return VIA if isinstance(first, dict) and {"filename", "regions"} <= first.keys() else None


# Keys of the first entry of a list, and of an object. From each tool's documentation of its export.
LISTS: list[tuple[set[str], Unread]] = [
    ({"data", "annotations"}, LABEL_STUDIO),
    ({"data", "predictions"}, LABEL_STUDIO),
    ({"data", "completions"}, LABEL_STUDIO),
    ({"annotation_id", "annotator"}, LABEL_STUDIO),  # JSON-MIN
    ({"image", "annotations"}, CREATEML),
    ({"image_id", "category_id", "score"}, RESULTS),
    ({"name", "labels"}, BDD),
]
OBJECTS: list[tuple[set[str], Unread]] = [
    ({"shapes", "imagePath"}, LABELME),
    ({"_via_img_metadata"}, VIA),
    ({"objects", "size", "tags"}, SUPERVISELY),
    ({"classes", "tags", "projectType"}, SUPERVISELY),
    ({"items", "categories"}, DATUMARO),
    ({"data", "annotations"}, LABEL_STUDIO),  # of one task
]


def recognise_file(path: Path) -> Unread | None:
    """Which layout that is not read a file belongs to, by its name or how it begins."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if ".tfrecord-" in path.name.lower():  # x.tfrecord-00000-of-00010
        return TFRECORD
    if suffix == ".json":
        return recognise_json(load_json(path))
    if suffix == ".csv":
        return _recognise_csv(_beginning(path))
    if suffix == ".xml":
        return CVAT if "<annotations>" in _beginning(path) else None
    return None


def _recognise_csv(text: str) -> Unread:
    columns = {column.strip().lower() for column in (text.splitlines() or [""])[0].split(",")}
    if {"imageid", "labelname", "xmin"} <= columns:
        return OPEN_IMAGES
    return PASCAL_CSV if {"filename", "xmin", "ymin"} <= columns else OTHER_CSV


def _beginning(path: Path) -> str:
    if not path.is_file():  # a pipe has no end
        return ""
    try:
        with path.open("rb") as file:
            return file.read(EXAMINED_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def recognise_folder(folder: Path) -> str | None:
    """A sentence that names the layout of a folder and says how to convert it; None where it is not known.

    Looks at a few files of each kind in the folder and the folders in it.
    """
    folders = _folders_in(folder)
    nested = [path for parent in folders for path in _folders_in(parent)][:MOST_EXAMINED]
    if kitti := next((path for path in [*folders, *nested] if path.name == "label_2"), None):
        return KITTI.sentence(kitti.parent)
    found = [
        (unread, path)
        for place in (folder, *folders, *nested)
        for path in _few_of_each_kind(place)
        if (unread := recognise_file(path))
    ]
    surest = sorted(found, key=lambda pair: pair[0] in (ARCHIVE, OTHER_CSV))  # which may lie beside anything
    return next((unread.sentence(folder if unread in FOR_EACH_IMAGE else path) for unread, path in surest), None)


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))[:MOST_EXAMINED]


def _few_of_each_kind(folder: Path) -> list[Path]:
    """Files, at most `MOST_EXAMINED` of one suffix."""
    counts: Counter[str] = Counter()
    files = []
    for path in sorted(folder.iterdir()):
        counts[path.suffix] += 1
        if counts[path.suffix] <= MOST_EXAMINED and path.is_file():
            files.append(path)
    return files

"""Layouts as labelling tools export them: read alike, or refused with what to do instead; two are never mixed up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtimes.errors import InvalidInput
from tests.data_sets import image
from tests.layout_sets import (
    ALL,
    CASES,
    CLASSES,
    TRAIN,
    VAL,
    Case,
    coco,
    cvat_ultralytics,
    cvat_yolo,
    label_studio_coco,
    label_studio_local_files,
    label_studio_yolo,
    labelimg_voc,
    labelimg_yolo,
    roboflow_coco,
    roboflow_darknet,
    roboflow_voc,
    txt,
    voc_split_folders,
    voc_without_lists,
    write,
    xml,
    yolo_split_folders,
)
from yolox_deploy.data.__main__ import main as data_check
from yolox_deploy.data.open import find_splits, open_dataset
from yolox_deploy.data.yolo_yaml import read_yaml


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.write.__name__)
def test_every_layout_says_the_same(case: Case, tmp_path: Path) -> None:
    path = case.write(tmp_path / "data")
    assert find_splits(path).keys() == case.splits.keys()
    for split, images in case.splits.items():
        dataset = open_dataset(path, [split])
        assert set(dataset.class_names) <= {"cat", "dog", "owl"}
        assert [found.size for found in dataset.images] == [size for size, _ in images]
        for found, (_, objects) in zip(dataset.images, images, strict=True):
            np.testing.assert_allclose(found.boxes, np.array([box for _, *box in objects]).reshape(-1, 4), atol=1e-3)
            assert [dataset.class_names[index] for index in found.class_ids] == [name for name, *_ in objects]
            assert found.path.is_file()


def splits_of(path: Path) -> set[str]:
    return set(find_splits(path))


def edit_json(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_a_supercategory_is_no_class_unless_it_has_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = roboflow_coco(tmp_path / "data")
    assert open_dataset(root, ["train"]).categories == {1: "cat", 2: "dog", 3: "owl"}
    assert "supercategory without boxes: 'animals' (id 0); left out" in capsys.readouterr().err
    boxed = {"id": 99, "image_id": 0, "category_id": 0, "bbox": [1, 1, 9, 9]}
    edit_json(root / "valid/_annotations.coco.json", lambda content: content["annotations"].append(boxed))
    for split in ("train", "valid"):  # in one split, so in none is it left out
        assert open_dataset(root, [split]).categories == {0: "animals", 1: "cat", 2: "dog", 3: "owl"}


def name_owls_as_the_group(content: dict[str, Any]) -> None:
    """Of a project with one class: the group and the class have one name."""
    content["categories"] = [
        {"id": 0, "name": "owl", "supercategory": "none"},
        {"id": 3, "name": "owl", "supercategory": "owl"},
    ]
    content["annotations"] = [entry for entry in content["annotations"] if entry["category_id"] == 3]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (name_owls_as_the_group, ("owl",)),
        (lambda content: content["categories"][1].update(supercategory="pets"), ("animals", "cat", "dog", "owl")),
        (lambda content: content["categories"][1].pop("supercategory"), ("animals", "cat", "dog", "owl")),
        (lambda content: content["categories"][0].update(supercategory="animals"), ("animals", "cat", "dog", "owl")),
    ],
    ids=["one class", "of another group", "of no group", "of its own group"],
)
def test_only_the_group_of_all_others_is_left_out(
    change: Callable[[dict[str, Any]], object], names: tuple[str, ...], tmp_path: Path
) -> None:
    root = roboflow_coco(tmp_path / "data")
    edit_json(root / "train/_annotations.coco.json", change)
    assert open_dataset(root, ["train"]).class_names == names


def test_the_categories_of_coco_itself_stay(shared: Path) -> None:
    """Person is of the supercategory person, and the only one of it."""
    assert len(open_dataset(shared / "data" / "coco-val2017-206").categories) == 80


LABELME = {"version": "5.4.1", "flags": {}, "shapes": [], "imagePath": "a.png", "imageHeight": 60, "imageWidth": 80}
BOX = {"label": "cat", "coordinates": {"x": 24, "y": 21, "width": 32, "height": 30}}
SUPERVISELY = {"description": "", "tags": [], "size": {"height": 60, "width": 80}, "objects": []}
VIA = {"a.png123": {"filename": "a.png", "size": 123, "regions": [], "file_attributes": {}}}
MINIMAL = {"image": "/data/upload/a.png", "id": 1, "label": [], "annotator": 1, "annotation_id": 1}
UNREAD = {
    "labelme": ({"a.json": LABELME}, "LabelMe", "--from labelme"),
    "labelme in a folder": ({"images/a.png": b"", "annotations/a.json": LABELME}, "LabelMe", "--from labelme"),
    "createml": (
        {"train/_annotations.createml.json": [{"image": "a.png", "annotations": [BOX]}]},
        "CreateML",
        "--from create-ml",
    ),
    "supervisely": (
        {"meta.json": {"classes": [], "tags": [], "projectType": "images"}, "ds/ann/a.png.json": SUPERVISELY},
        "Supervisely",
        "Export to COCO",
    ),
    "via": ({"via.json": VIA}, "VGG", "COCO"),
    "via project": ({"project.json": {"_via_settings": {}, "_via_img_metadata": VIA}}, "VGG", "COCO"),
    "label studio": (
        {"project-1.json": [{"id": 1, "annotations": [{"result": []}], "data": {"image": "/data/upload/a.png"}}]},
        "Label Studio",
        "COCO or YOLO",
    ),
    "label studio, minimal": ({"project-1.json": [MINIMAL]}, "Label Studio", "COCO or YOLO"),
    "cvat": (
        {"annotations.xml": "<?xml version='1.0'?>\n<annotations>\n<version>1.1</version></annotations>", "a.png": b""},
        "CVAT",
        "COCO 1.0",
    ),
    "datumaro": (
        {"annotations/default.json": {"info": {}, "categories": {}, "items": []}},
        "Datumaro",
        "datum convert",
    ),
    "bdd": ({"labels/det_train.json": [{"name": "a.jpg", "labels": []}]}, "BDD100K", "--from bdd100k"),
    "detections": (
        {"detections.json": [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "score": 0.5}]},
        "detections",
        "no labels",
    ),
    "open images": (
        {"train-annotations-bbox.csv": "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\n"},
        "Open Images",
        "FiftyOne or Datumaro",
    ),
    "csv": ({"train/_annotations.csv": "filename,width,height,class,xmin,ymin,xmax,ymax\n"}, "a box a line", "COCO"),
    "tfrecord": ({"train/animals.tfrecord": b"\0", "train/animals_label_map.pbtxt": "item {}"}, "TFRecord", "COCO"),
    "tfrecord in parts": ({"train.tfrecord-00000-of-00002": b"\0"}, "TFRecord", "COCO"),
    "kitti": (
        {"training/image_2/0.png": b"", "training/label_2/0.txt": "Car 0 0 0 1 1 9 9 0 0 0 0 0 0 0"},
        "KITTI",
        "kitti",
    ),
    "hugging face": ({"data/train-00000.parquet": b"PAR1"}, "Hugging Face", "COCO"),
    "sagemaker": ({"output.manifest": "{}"}, "SageMaker", "COCO"),
    "archive": ({"export.zip": b"PK"}, "archive", "unpack"),
    "classes missing": (
        {"images/a.png": b"", "labels/a.txt": "0 0.5 0.5 0.1 0.1\n"},
        "labels in YOLO's form",
        "classes.txt",
    ),
    "images alone": ({"a.png": b"", "b.png": b""}, "2 images", "no labels"),
    "nothing": ({}, "empty", "annotations/instances_SPLIT.json"),
    "anything": ({"notes.md": "", "scripts/x.py": ""}, "notes.md, scripts/", "obj.data"),
    "one folder too high": (
        {"x/labels/a.txt": "", "x/images/a.png": b"", "x/classes.txt": "cat"},
        "data/x",
        "give the path of that",
    ),
}


@pytest.mark.parametrize("case", UNREAD)
def test_what_is_not_read_is_named_with_the_way_out(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, name, advice = UNREAD[case]
    root = tmp_path / "data"
    root.mkdir()
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, (str, bytes)) else json.dumps(content)
        (root / path).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert data_check([str(root)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and name in error and advice in error
    with pytest.raises(InvalidInput):
        open_dataset(root)


def test_a_file_of_another_tool_is_named_when_it_is_the_path(tmp_path: Path) -> None:
    write(tmp_path / "project.json", json.dumps([MINIMAL]))
    write(tmp_path / "export.zip", "PK")
    write(tmp_path / "x.bin", "")
    for name, says in (("project.json", "Label Studio"), ("export.zip", "unpack"), ("x.bin", "is not a data set")):
        with pytest.raises(InvalidInput, match=says):
            open_dataset(tmp_path / name)


def test_two_layouts_are_never_chosen_between(tmp_path: Path) -> None:
    root = cvat_ultralytics(tmp_path / "data")
    coco(root / "annotations" / "instances_train.json", TRAIN, root / "images" / "train")
    with pytest.raises(InvalidInput, match=r"more than one layout, .*annotations.* and .*data\.yaml") as error:
        open_dataset(root, ["train"])
    for path in (root / "annotations", root / "data.yaml"):  # which the sentence names
        assert str(path) in str(error.value)
        assert len(open_dataset(path, ["train"])) == 2


def in_splits_with_one_folder_of_labels(root: Path) -> None:
    """train/1.png and val/1.png, whose labels would both be labels/1.txt."""
    shutil.rmtree(root / "images")
    for split in ("train", "val"):
        image(root / "images" / split / "1.png", (40, 40))
    write(root / "labels" / "1.txt", "0 0.5 0.5 0.2 0.2\n")


MIXED: list[tuple[Callable[[Path], Path], Callable[[Path], object], tuple[str, ...]]] = [
    (labelimg_voc, lambda root: txt(root, root, ALL) and write(root / "classes.txt", CLASSES), ("classes.txt",)),
    (labelimg_voc, lambda root: xml(root / "images", root / "annotations", VAL), ("data/images", "move one away")),
    (roboflow_coco, lambda root: xml(root / "train", root / "train", TRAIN), ("Roboflow", "Pascal VOC")),
    (label_studio_coco, lambda root: coco(root / "annotations/x.json", VAL, root / "images"), ("result.json",)),
    (cvat_yolo, lambda root: write(root / "data.yaml", "train: train.txt\nnames: [cat, dog, owl]"), ("obj.data",)),
    (roboflow_coco, lambda root: coco(root / "train/b.json", VAL, root / "train"), ("b.json", "keep one")),
    (label_studio_yolo, in_splits_with_one_folder_of_labels, ("of one name", "labels/1.txt")),
    (yolo_split_folders, lambda root: image(root / "images/a.png", (9, 9)), ("images/a.png", "train and valid")),
    (yolo_split_folders, lambda root: image(root / "images/more/a.png", (9, 9)), ("more/a.png",)),
    (label_studio_yolo, lambda root: write(root / "labels/classes.txt", "owl\ndog\ncat\n"), ("labels/classes.txt",)),
    (label_studio_yolo, lambda root: write(root / "classes.txt", "owl\ndog\ncat\n"), ("notes.json", "'owl'")),
    (label_studio_yolo, lambda root: write(root / "classes.txt", "cat\n\nowl\n"), ("line 2",)),
    (labelimg_yolo, lambda root: write(root / "classes.txt", "cat\ncat\nowl\n"), ("'cat' twice",)),
    (cvat_yolo, lambda root: write(root / "obj.names", "cat\ndog\n"), ("3 classes", "2 names")),
    (
        cvat_ultralytics,
        lambda root: write(root / "data.yaml", "train: train.txt\nnames: [a]\nnc: 80"),
        ("80", "1 name:"),
    ),
    (cvat_yolo, lambda root: write(root / "obj.data", "names = obj.names\ntrain = gone.txt\n"), ("gone.txt",)),
    (
        cvat_yolo,
        lambda root: write(root / "obj.data", "names = obj.names\ntrain = train.txt\nvalid = data/train.txt\n"),
        ("remove the line valid",),
    ),
]


@pytest.mark.parametrize(("writer", "change", "says"), MIXED)
def test_what_contradicts_is_refused(
    writer: Callable[[Path], Path], change: Callable[[Path], object], says: tuple[str, ...], tmp_path: Path
) -> None:
    root = writer(tmp_path / "data")
    change(root)
    with pytest.raises(InvalidInput) as error:
        find_splits(root)
    assert all(part in str(error.value) for part in says) and "\n" not in str(error.value)


def test_what_is_beside_a_layout_changes_nothing(tmp_path: Path) -> None:
    root = roboflow_coco(tmp_path / "data")
    write(root / "docker-compose.yaml", "services: {}\n")
    write(root / "package.json", "{}")
    write(root / "notes.txt", "")
    assert splits_of(root) == {"train", "valid"}
    other = label_studio_yolo(tmp_path / "other")
    write(other / "config.yaml", "lr: 0.1\n")
    assert splits_of(other) == {"all"}


def test_missing_and_lone_files_are_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = voc_without_lists(tmp_path / "voc")
    xml(root / "JPEGImages", root / "Annotations", VAL[:1], name="lone")
    (root / "JPEGImages/lone0.png").unlink()
    assert len(open_dataset(root)) == 4
    assert "label file without image: lone0.xml" in capsys.readouterr().err
    (root / "Annotations/a1.xml").unlink()
    with pytest.raises(InvalidInput, match=r"a1\.xml"):
        open_dataset(root)
    image(root / "JPEGImages/a0.jpg", (60, 80))
    with pytest.raises(InvalidInput, match=r"a0\.jpg and a0\.png"):
        open_dataset(root)
    other = label_studio_yolo(tmp_path / "yolo")
    write(other / "labels/lone.txt", "")
    assert len(open_dataset(other)) == 4
    assert "label file without image: lone.txt" in capsys.readouterr().err
    (other / "labels/a1.txt").unlink()  # background, as in every layout of YOLO's
    assert len(open_dataset(other).images[1].boxes) == 0


def test_folders_above_do_not_decide_where_labels_are(tmp_path: Path) -> None:
    """A folder `images` above the data set is none of it."""
    assert sum(len(found.boxes) for found in open_dataset(labelimg_yolo(tmp_path / "images" / "mine")).images) == 4


def test_one_split_of_xml_numbers_classes_as_all_do(tmp_path: Path) -> None:
    root = roboflow_voc(tmp_path / "data")
    assert open_dataset(root, ["valid"]).class_names == ("cat", "dog", "owl")  # which has cats alone
    (root / "train/a1.xml").write_text("<annotation>")  # may hide a class
    with pytest.raises(InvalidInput, match="not XML"):
        open_dataset(root, ["valid"])


def test_a_yaml_counts_before_a_list_of_classes_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = cvat_ultralytics(tmp_path / "data")
    write(root / "labels/classes.txt", CLASSES)
    open_dataset(root, ["train"])
    assert capsys.readouterr().err == ""
    write(root / "labels/classes.txt", "dog\ncat\nowl\n")
    assert open_dataset(root, ["train"]).class_names == ("cat", "dog", "owl")
    assert capsys.readouterr().err.count(f"those of {root / 'labels/classes.txt'} are others") == 1


def test_a_path_that_leaves_the_folder_is_another_file_only_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An image that is missing is not replaced by one of another folder that has its name."""
    root = tmp_path / "data"
    coco(root / "labels.json", ALL, root / "images", prefix="b/")
    with pytest.raises(InvalidInput, match=r"b/data0\.png"):
        open_dataset(root)
    other = label_studio_local_files(tmp_path / "other")
    assert len(open_dataset(other)) == 4
    assert "file name spelled otherwise: 4, such as ../../label-studio" in capsys.readouterr().err


def test_names_of_splits_are_read_in_capitals_too(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for split, images in (("Train", TRAIN), ("Validation", VAL)):
        coco(root / "annotations" / f"instances_{split}.json", images, root / "images" / split)
    assert len(open_dataset(root, ["train"])) == len(open_dataset(root, ["val"])) == 2
    other = tmp_path / "other"
    for split, images in (("Train", TRAIN), ("Valid", VAL)):
        xml(other / split, other / split, images)
    assert len(open_dataset(other, ["train"])) == len(open_dataset(other, ["val"])) == 2


def test_a_split_without_labels_is_left_out_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for writer in (roboflow_voc, roboflow_darknet, voc_split_folders, yolo_split_folders):
        root = writer(tmp_path / writer.__name__)
        top = root / "images" if (root / "images").is_dir() else root
        image(top / "test" / "a.png", (9, 9))
        assert splits_of(root) == {"train", "valid"}
        assert len(open_dataset(root, ["train"])) == 2
        assert capsys.readouterr().err.count(f"{root}: left out: test (1 image), which has no labels.") == 1


def test_a_folder_of_a_yaml_leads_to_it(tmp_path: Path) -> None:
    root = tmp_path / "data"
    txt(root / "train/images", root / "train/labels", TRAIN)
    write(root / "data.yaml", "train: train/images\nnames: [cat, dog, owl]\n")
    with pytest.raises(InvalidInput, match=r"give the path of .*data\.yaml"):
        open_dataset(root / "train")


def test_lists_may_be_written_on_another_system(tmp_path: Path) -> None:
    root = cvat_yolo(tmp_path / "data")
    for name in ("obj.data", "train.txt", "obj.names"):
        text = (root / name).read_text().replace("\n", "\r\n")
        (root / name).write_bytes((text.replace("/", "\\") if name == "train.txt" else text).encode())
    assert open_dataset(root, ["train"]).class_names == ("cat", "dog", "owl")


def test_a_path_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for writer in (label_studio_yolo, yolo_split_folders, labelimg_voc, voc_split_folders):
        root = writer(tmp_path / writer.__name__)
        expected = {split: len(open_dataset(root, [split])) for split in splits_of(root)}
        monkeypatch.chdir(root)
        assert {split: len(open_dataset(Path(), [split])) for split in splits_of(Path())} == expected
        monkeypatch.chdir(tmp_path)
        assert {split: len(open_dataset(Path(root.name), [split])) for split in splits_of(Path(root.name))} == expected


def test_labels_of_all_splits_in_one_folder_belong_to_images(tmp_path: Path) -> None:
    for split, name in (("train", "a"), ("val", "b")):
        image(tmp_path / "images" / split / f"{name}.png", (40, 40))
        write(tmp_path / "labels" / f"{name}.txt", "0 0.5 0.5 0.2 0.2\n")
    write(tmp_path / "classes.txt", "cat\n")
    for split in ("train", "val"):
        dataset = open_dataset(tmp_path, [split])
        assert len(dataset) == 1 and not dataset.faults


def test_names_of_yaml_are_text_as_written(tmp_path: Path) -> None:
    root = yolo_split_folders(tmp_path / "data")
    for written in ("[yes, no, 010]", "{0: yes, 1: no, 2: 010}", "\n- yes\n- 'no'\n- 010"):
        write(root / "data.yaml", f"train: images/train\nval: images/valid\nnames: {written}\n")
        assert read_yaml(root / "data.yaml").names == ("yes", "no", "010")


def test_xml_that_is_no_annotation_is_not_taken_for_background(tmp_path: Path) -> None:
    root = labelimg_voc(tmp_path / "data")
    file = next(root.rglob("*.xml"))
    file.write_text(f"<root>{file.read_text()}</root>")
    with pytest.raises(InvalidInput, match="<root>"):
        open_dataset(root)


@pytest.mark.parametrize("name", ['["cat"]', "{}", "null", "1"])
def test_odd_names_in_notes_are_passed_over(name: str, tmp_path: Path) -> None:
    root = label_studio_yolo(tmp_path / "data")
    write(root / "notes.json", f'{{"categories": [{{"id": 0, "name": {name}}}]}}')
    assert len(open_dataset(root)) > 0

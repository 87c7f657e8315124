"""Files that labels spell otherwise than the disk, and texts in other encodings: found, named, or refused."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtimes.errors import InvalidInput
from tests.data_sets import WRITERS, image, write_coco, write_voc, write_yolo
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.data.open import open_dataset
from yolox_deploy.data.voc import read_annotation
from yolox_deploy.files import read_text

# How a label names a file, and how it is called on the disk.
SPELLINGS = [
    ("Zürich.png", unicodedata.normalize("NFD", "Zürich.png")),
    (unicodedata.normalize("NFD", "Ålesund.png"), "Ålesund.png"),
    ("IMG_1.PNG", "IMG_1.png"),
    ("img_1.png", "IMG_1.PNG"),
    ("a%20b%28c%29.png", "a b(c).png"),
    ("./a.png", "a.png"),
    ("sub\\a.png", "sub/a.png"),
    (".\\Sub\\A.PNG", "sub/a.png"),
    ("C:\\Users\\me\\set\\sub\\a.png", "sub/a.png"),
    ("/home/me/set/train/a.png", "a.png"),
    ("\\\\server\\share\\a.png", "a.png"),
    ("Smear (1).png", "Smear (1).png"),
    ("a.png ", "a.png"),
    ("100%.png", "100%.png"),
]


def renamed(layout: str, label: str, disk: str, root: Path) -> Path:
    """The first training image is called `disk`, and the labels call it `label`."""
    WRITERS[layout](root)
    if layout == "coco":
        place = root / "train" / disk
        place.parent.mkdir(exist_ok=True)
        (root / "train/0.png").rename(place)
        edit(root, lambda content: content["images"][0].update(file_name=label))
    if layout == "voc":
        for folder, suffix in (("JPEGImages", ""), ("Annotations", ".xml")):
            name = disk if not suffix else str(Path(disk).with_suffix(suffix))
            (root / folder / name).parent.mkdir(exist_ok=True)
            (root / folder / ("train0" + (suffix or ".png"))).rename(root / folder / name)
        (root / "ImageSets/Main/train.txt").write_text(f"{label}\ntrain1\n", encoding="utf-8")
    if layout == "yolo":
        for folder, suffix in (("images", ".png"), ("labels", ".txt")):
            place = (root / folder / "train" / disk).with_suffix(Path(disk).suffix if folder == "images" else suffix)
            place.parent.mkdir(exist_ok=True)
            (root / folder / "train" / f"0{suffix}").rename(place)
        (root / "images/train/train.txt").write_text(f"{label}\n1.png\n", encoding="utf-8")
        yaml = root / "data.yaml"
        yaml.write_text(yaml.read_text().replace("train: images/train", "train: images/train/train.txt"))
    return root


def edit(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = root / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def boxes_of_first(dataset: Dataset) -> int:
    return len(dataset.images[0].boxes)


@pytest.mark.parametrize(("label", "disk"), SPELLINGS)
@pytest.mark.parametrize("layout", WRITERS)
def test_a_file_is_found_by_another_spelling(layout: str, label: str, disk: str, tmp_path: Path) -> None:
    dataset = open_dataset(renamed(layout, label, disk, tmp_path / "data"), ["train"])
    assert len(dataset) == 2 and dataset.images[0].path.name == Path(disk).name
    assert boxes_of_first(dataset) == 2


def test_another_spelling_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_dataset(renamed("coco", "IMG.PNG", "img.png", tmp_path / "a"), ["train"])
    assert "file name spelled otherwise: IMG.PNG = img.png; taken" in capsys.readouterr().err
    open_dataset(renamed("coco", "sub\\a.png", "sub/a.png", tmp_path / "b"), ["train"])
    assert capsys.readouterr().err == ""  # a backslash is a slash


@pytest.mark.parametrize("layout", WRITERS)
def test_two_files_that_a_name_may_be_are_refused(layout: str, tmp_path: Path) -> None:
    root = renamed(layout, "x.png", "X.png", tmp_path / "data")
    (root / {"coco": "train", "voc": "JPEGImages", "yolo": "images/train"}[layout] / "x.PNG").write_bytes(b"")
    with pytest.raises(InvalidInput, match=r"X\.png and .*x\.PNG"):
        open_dataset(root, ["train"])


@pytest.mark.parametrize("layout", WRITERS)
def test_an_exact_name_is_taken_whatever_else_is_there(layout: str, tmp_path: Path) -> None:
    root = renamed(layout, "x.png", "x.png", tmp_path / "data")
    image(root / {"coco": "train", "voc": "JPEGImages", "yolo": "images/train"}[layout] / "X.png", (9, 9))
    first = open_dataset(root, ["train"]).images[0]
    assert first.path.name == "x.png" and first.size == (60, 80)


@pytest.mark.parametrize(
    ("label", "near"),
    [("0.jpg", "0.png"), ("other/0.png", "0.png"), ("img_7.png", "IMG 7.jpeg"), ("img_7", "img7.png")],
)
def test_a_similar_file_is_named(label: str, near: str, tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    image(root / "train" / near, (60, 80))
    edit(root, lambda content: content["images"][0].update(file_name=label))
    with pytest.raises(InvalidInput, match=rf"; there is .*{near}"):
        open_dataset(root, ["train"])


@pytest.mark.parametrize("label", ["IMG_20210403.png", "000000000802.jpg", "a.1.png", "b.png"])
def test_another_image_is_not_named_for_one_that_is_missing(label: str, tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    for name in ("IMG_20210404.png", "000000022892.jpg", "a.png", "bb.png"):
        image(root / "train" / name, (60, 80))
    edit(root, lambda content: content["images"][0].update(file_name=label))
    with pytest.raises(InvalidInput, match=f"lacks {label}") as error:
        open_dataset(root, ["train"])
    assert "there is" not in str(error.value)


def yaml_of_another_machine(tmp_path: Path, train: str, val: str = "images/val", path: str = ".") -> Path:
    root = write_yolo(tmp_path / "data")
    (root / "data.yaml").write_text(f"path: {path}\ntrain: {train}\nval: {val}\nnames: [cat, dog, owl]\n")
    return root


@pytest.mark.parametrize(
    ("train", "path"),
    [
        ("/home/me/ul/images/train", "."),
        (r"C:\ul\images\train", "."),
        ("../../other/images/train", "."),
        ("data/images/train", "/home/me/ul"),
        ("data/images/train", "'C:\\ul'"),
    ],
)
def test_folders_of_another_machine_are_found_by_their_end(
    train: str, path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = yaml_of_another_machine(tmp_path, train, path=path)
    assert open_dataset(root, ["train"]).images[0].path == root / "images/train/0.png"
    said = capsys.readouterr().err
    assert "file name spelled otherwise: " in said and "images/train = train; taken" in said


def test_one_folder_is_not_found_for_two_splits(tmp_path: Path) -> None:
    for train, val in (("/a/images", "/b/images"), ("/a/images", "/b/images/val"), ("/a/images/val", "/b/images")):
        root = yaml_of_another_machine(tmp_path / train[1:] / val[1:], train, val)
        for split in ("train", "val"):
            with pytest.raises(InvalidInput, match=f"{train} and {val}|{val} and {train}"):
                open_dataset(root, [split])


def test_a_folder_that_is_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no .*nowhere"):
        open_dataset(yaml_of_another_machine(tmp_path, "/home/me/nowhere"), ["train"])


def test_voc_lists_with_spaces_and_with_flags(tmp_path: Path) -> None:
    """A class list has 1, 0 or -1 after each name; a name may end so itself."""
    root = write_voc(tmp_path / "data")
    names = ["Smear (1)", "Smear 1", "Smear"]
    for name in names:
        image(root / "JPEGImages" / f"{name}.png", (60, 80))
        (root / "Annotations" / f"{name}.xml").write_bytes((root / "Annotations/train0.xml").read_bytes())
    plain, flagged = root / "ImageSets/Main/train.txt", root / "ImageSets/Main/flags.txt"
    plain.write_text("".join(f"{name}\n" for name in [*names, "train0"]))
    flagged.write_text("Smear (1) 1\r\nSmear 1 -1\r\ntrain0  0\r\n")
    found = {split: open_dataset(root, [split]).images for split in ("train", "flags")}
    assert [one.path.stem for one in found["train"]] == [*names, "train0"]
    assert [one.path.stem for one in found["flags"]] == ["Smear (1)", "Smear 1", "train0"]
    flagged.write_text("Smear 1\ntrain0 1\n")  # of Smear, or of Smear 1?
    with pytest.raises(InvalidInput, match="Smear with a flag"):
        open_dataset(root, ["flags"])


@pytest.mark.parametrize(
    "encoding", ["gbk", "gb2312", "utf-16", "utf-16-le", "big5", "iso-8859-1", "utf-8", "shift_jis"]
)
@pytest.mark.parametrize("quote", ['"', "'"])
def test_xml_in_the_encoding_that_it_declares(encoding: str, quote: str, tmp_path: Path) -> None:
    name = "Möwe" if encoding == "iso-8859-1" else "小犬"
    root = write_voc(tmp_path / "data")
    file = root / "Annotations/train0.xml"
    text = f"<?xml version={quote}1.0{quote} encoding={quote}{encoding.upper()}{quote}?>\n" + file.read_text()
    file.write_bytes(text.replace(">cat<", f">{name}<").encode(encoding))
    assert name in open_dataset(root, ["train"]).class_names


def test_xml_that_says_two_bytes_and_has_one(tmp_path: Path) -> None:
    """As .NET writes it; and encodings that are none, or do not fit."""
    file = tmp_path / "a.xml"
    file.write_text('<?xml version="1.0" encoding="utf-16"?><annotation/>')
    assert read_annotation(file).names == []
    file.write_text('<?xml version="1.0" encoding="klingon"?><annotation/>')
    with pytest.raises(InvalidInput, match="klingon"):
        read_annotation(file)
    file.write_bytes("<annotation><name>Möwe</name></annotation>".encode("latin-1"))
    with pytest.raises(InvalidInput, match=r"not text in UTF-8 \(line 1\): save it in UTF-8"):
        read_annotation(file)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("layout", WRITERS)
def test_text_with_a_byte_order_mark_and_line_ends_of_windows(layout: str, encoding: str, tmp_path: Path) -> None:
    """As Windows' editors and PowerShell write."""
    root = WRITERS[layout](tmp_path / "data")
    expected = [found.boxes.tolist() for found in open_dataset(root, ["train"]).images]
    for file in root.rglob("*"):
        if file.suffix in (".txt", ".xml", ".json", ".yaml"):
            file.write_bytes(file.read_text().replace("\n", "\r\n").encode(encoding))
    dataset = open_dataset(root, ["train"])
    assert [found.boxes.tolist() for found in dataset.images] == expected and dataset.class_names == (
        "cat",
        "dog",
        "owl",
    )


def test_text_in_another_encoding_is_refused_with_its_line(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    (root / "data.yaml").write_bytes((root / "data.yaml").read_bytes().replace(b"owl", "Möwe".encode("latin-1")))
    with pytest.raises(InvalidInput, match=r"data\.yaml is not text in UTF-8 \(line 7\): save it in UTF-8"):
        open_dataset(root)
    (root / "binary.txt").write_bytes(b"\xff\0\1")
    with pytest.raises(InvalidInput, match="not a text file"):
        read_text(root / "binary.txt")


def test_labels_of_yolo_beside_images_spelled_otherwise(tmp_path: Path) -> None:
    """Decomposed on one side, composed on the other: no background by mistake."""
    root = write_yolo(tmp_path)
    (root / "images/train/0.png").rename(root / "images/train" / unicodedata.normalize("NFD", "Möwe.png"))
    (root / "labels/train/0.txt").rename(root / "labels/train" / unicodedata.normalize("NFC", "Möwe.txt"))
    dataset = open_dataset(root, ["train"])
    assert sorted(len(found.boxes) for found in dataset.images) == [1, 2]
    assert "label file without image" not in {fault.kind for fault in dataset.faults}


@pytest.mark.parametrize("labels", ["Labels", "labels"])
@pytest.mark.parametrize("images", ["Images", "IMAGES", "images"])
def test_folders_of_images_in_capitals_have_their_labels(images: str, labels: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    WRITERS["yolo"](root)
    for name, other in (("images", images), ("labels", labels)):
        (root / name).rename(root / other)
    yaml = root / "data.yaml"
    yaml.write_text(yaml.read_text().replace(": images/", f": {images}/"))
    assert boxes_of_first(open_dataset(root, ["train"])) == 2

"""Names of classes that may be misspelt are told from those that are two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data_sets import write_coco
from yolox_deploy import train
from yolox_deploy.data.__main__ import main as data_check
from yolox_deploy.data.class_names import class_difference, differ_by_one_slip, misspelt
from yolox_deploy.data.inspection import inspect
from yolox_deploy.data.open import open_dataset

SIZE = (64, 64)
# Names of Objects365, Pascal VOC and others that are near to one another.
NEAR = """car cart card cat bat rat bear pear boat goat coat boot foot fork pork lamb lamp fan van pan pen hen
truck duck crab crane plane plate plant airplane bowl bow bowling tie pie ring king ping rice dice lime lion ship chip
class 1;class 2;class 11;class_a;class_b;person a;person b;2 door;4 door;type i;type ii;大型汽车;大型货车
glasses;helmet;no helmet;goggles;cell phone;telephone;microphone;train;brain;bread;orange;grape;mango;melon;lemon
wheel chair;wheelchair"""


@pytest.mark.parametrize(
    "slip", ["pesron", "peron", "persson", "persom", "Pesron", "prson", "pers0n", "persons", "erson", "aperson"]
)
def test_one_slip_is_seen(slip: str) -> None:
    assert differ_by_one_slip(slip, "person") == differ_by_one_slip("person", slip) == (slip != "pers0n")


@pytest.mark.parametrize("name", ["person", "Person", "per son", "per-son", "nerson", "pesorn2", "persnoo", "pe", ""])
def test_more_or_less_than_one_slip_is_none(name: str) -> None:
    assert not differ_by_one_slip(name, "person")


def test_names_that_are_near_are_two(shared: Path) -> None:
    lines = NEAR.splitlines()
    names = [name for line in lines for name in (line.split(";") if ";" in line else line.split())]
    names += open_dataset(shared / "data" / "coco-val2017-206").class_names
    boxes = {name: 4**n for n, name in enumerate(dict.fromkeys(names))}
    assert [fault.place for fault in misspelt(boxes)] == []


def test_the_rarer_name_is_named_where_it_is_much_rarer() -> None:
    assert [fault.place for fault in misspelt({"person": 4, "pesron": 1})] == ["pesron (1 box), person (4)"]
    assert [fault.place for fault in misspelt({"pesron": 2, "person": 6})] == ["pesron (2 boxes), person (6)"]
    assert misspelt({"pesron": 2, "person": 5}) == misspelt({"pesron": 0, "person": 5}) == []


def test_the_difference_of_two_splits_names_the_classes() -> None:
    assert class_difference("val", ["a", "b"], "train", ["b", "c", "d"]) == "only val has a, only train has c, d"
    assert class_difference("val", ["a", "b"], "train", ["a"]) == "only val has b"
    assert class_difference("val", ["a", "b"], "train", ["b", "a"]) == "in another order"
    assert class_difference("val", list("abcdefg"), "train", []) == "only val has a, b, c, d, e and others"


def test_other_classes_are_named_by_every_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_coco(tmp_path / "data")
    file = root / "annotations" / "instances_val.json"
    file.write_text(file.read_text().replace('"owl"', '"elk"'))
    assert data_check([str(root)]) == 1
    assert "only val has elk, only train has owl" in " ".join(capsys.readouterr().out.split())
    assert train.main(["--data", str(root), "--output", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "elk" in said and "owl" in said


def test_the_report_says_what_training_says_of_the_first_place(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "data")
    file = root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    for entry in content["annotations"][1:]:
        del entry["bbox"]
    file.write_text(json.dumps(content))
    report = inspect(root, SIZE).report
    found = next(finding for finding in report.splits[0].findings if finding.kind == "broken annotation")
    assert found.count == 2 and found.sentence in str(found).replace("\n" + " " * 11, " ")
    assert "annotations[1] does not fit: bbox is empty" in found.sentence


def test_a_split_that_cannot_be_read_has_no_source(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "data")
    (root / "annotations" / "instances_val.json").write_text("")
    first, second = inspect(root, SIZE).report.splits
    assert str(first).startswith(f"train ({root}") and str(second).splitlines()[0] == "val"

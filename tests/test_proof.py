"""What is loaded has to be what was proven."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from exporters.artifact import Artifact
from runtimes import InvalidInput, load


@pytest.fixture(params=["onnx", "openvino", "ncnn"])
def folder(request: pytest.FixtureRequest, little: Callable[[str], Artifact], tmp_path: Path) -> Path:
    """A copy, which a test may damage."""
    return Path(shutil.copytree(little(request.param).folder, tmp_path / "artifact"))


def test_weights_that_changed_are_noticed(folder: Path) -> None:
    """A few bytes in the middle: every backend would load the file, and detect something else."""
    weights = max(folder.iterdir(), key=lambda file: file.stat().st_size)
    content = bytearray(weights.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    with load(folder):
        pass
    weights.write_bytes(content)
    with pytest.raises(InvalidInput, match=f"{weights.name} is not the file that was proven"):
        load(folder)
    (folder / "parity.json").unlink()
    with load(folder):  # whoever changed it on purpose can
        pass


@pytest.mark.parametrize("text", ["", "[]", '{"files": 3}'])
def test_a_damaged_record_is_one_sentence(text: str, artifact: Artifact, tmp_path: Path) -> None:
    shutil.copytree(artifact.folder, tmp_path / "copy")
    (tmp_path / "copy" / "parity.json").write_text(text)
    with pytest.raises(InvalidInput, match=r"parity\.json (is damaged|is not JSON|holds no JSON object)"):
        load(tmp_path / "copy")


def test_a_record_of_another_model_is_refused(folder: Path) -> None:
    (folder / "parity.json").write_text('{"files": {}}')
    with pytest.raises(InvalidInput, match=r"parity\.json does not name model"):
        load(folder)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev/zero and pipes")
@pytest.mark.parametrize("kind", ["endless", "pipe"])
def test_what_is_no_file_is_not_opened(kind: str, folder: Path) -> None:
    """Each would never be read to its end: of the whole artifact, and of a model without a record."""
    for name in [path.name for path in folder.iterdir()]:
        if name == "spec.json" and not (folder / "model.param").exists():
            continue  # those of the others are inside
        whole = (folder / name).read_bytes()
        (folder / name).unlink()
        if kind == "pipe":
            os.mkfifo(folder / name)
        else:
            (folder / name).symlink_to("/dev/zero")
        with pytest.raises(InvalidInput, match=f"{name} is not a file: refused"):
            load(folder)
        if name != "parity.json":
            (folder / "parity.json").rename(folder / "aside.json")
            with pytest.raises(InvalidInput, match=f"{name} is not a file: refused"):
                load(folder)
            (folder / "aside.json").rename(folder / "parity.json")
        (folder / name).unlink()
        (folder / name).write_bytes(whole)


def test_the_record_names_the_files(folder: Path) -> None:
    names = json.loads((folder / "parity.json").read_text())["files"].keys()
    assert set(names) == {file.name for file in folder.iterdir() if file.suffix != ".json"}

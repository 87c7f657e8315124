"""A folder in the place of another: killed before every single call that changes files, exhaustively."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.faults.fatal import Watch
from exporters.replacement import only_writer, replace_folder, settle, tidy, workshop
from runtimes import InvalidInput
from runtimes.load import aside, model_file

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and reads /proc")
FILES = ("model.bin", "model.param", "spec.json")


def write(folder: Path, text: str) -> None:
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text(text)


def read(folder: Path) -> str:
    """The text that all files hold; the folder has to be whole."""
    assert sorted(file.name for file in folder.iterdir()) == sorted(FILES)
    (text,) = {file.read_text() for file in folder.iterdir()}
    return text


def export(folder: Path) -> None:
    """What `write_artifact` does with files."""
    tidy(folder)
    with only_writer(folder):
        settle(folder)
        write(workshop(folder), "new")
        replace_folder(workshop(folder), folder)


def killed(change: int, work: Callable[[], None], watched: Path) -> bool:
    """Do it in a process that is killed before that change; whether it was."""
    process = os.fork()
    if process == 0:
        sys.addaudithook(Watch(str(watched), change=change))
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def test_whenever_it_is_killed_the_old_or_the_new_one_stands_and_the_next_run_mends_it(tmp_path: Path) -> None:
    """Also where the run that mends it is killed, at each of its own changes."""
    folder, found, deaths, change = tmp_path / "out" / "model-ncnn-fp32", [], 0, 0
    while True:
        change += 1
        shutil.rmtree(folder.parent, ignore_errors=True)
        write(folder, "old")
        if not killed(change, lambda: export(folder), folder.parent):
            break
        found.append(read(model_file(folder).parent))
        shutil.copytree(folder.parent, tmp_path / "left")
        again = 0
        while True:
            again += 1
            shutil.rmtree(folder.parent)
            shutil.copytree(tmp_path / "left", folder.parent)
            if not killed(again, lambda: tidy(folder), folder.parent):
                break
            deaths += 1
            assert read(model_file(folder).parent) == found[-1]
            tidy(folder)
            assert read(folder) == found[-1]
        shutil.rmtree(tmp_path / "left")
        export(folder)
        assert read(folder) == "new"
        assert list(folder.parent.iterdir()) == [folder]
    switch = found.index("new")
    assert found == ["old"] * switch + ["new"] * (len(found) - switch)
    assert switch >= 7 and len(found) - switch >= 6
    assert deaths > len(found)


def test_the_file_in_a_folder_that_stands_aside_is_found_too(tmp_path: Path) -> None:
    write(aside(tmp_path / "a"), "old")
    assert model_file(tmp_path / "a" / "model.param").read_text() == "old"
    write(tmp_path / "a", "new")
    assert model_file(tmp_path / "a").read_text() == "new"


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path: Path) -> None:
    write(tmp_path / "a", "old")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "nowhere", tmp_path / "a")
    assert read(tmp_path / "a") == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_link_to_a_folder_is_replaced_and_the_folder_stays(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "old")
    (tmp_path / "a").symlink_to(tmp_path / "elsewhere")
    export(tmp_path / "a")
    assert read(tmp_path / "a") == "new"
    assert read(tmp_path / "elsewhere") == "old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "elsewhere"]


def test_a_second_export_is_refused_while_the_first_is_at_work(tmp_path: Path) -> None:
    """And touches nothing of it."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        with only_writer(tmp_path / "a"):
            write(workshop(tmp_path / "a"), "new")
            os.write(writer, b"x")
            signal.pause()
    os.read(reader, 1)
    with pytest.raises(InvalidInput, match="another process is writing"):
        export(tmp_path / "a")
    assert read(workshop(tmp_path / "a")) == "new"
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    export(tmp_path / "a")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]

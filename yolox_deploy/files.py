"""Files that are complete or not there."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from runtimes.errors import InvalidInput
from runtimes.json_file import check_regular


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name to write to, beside `path`; it takes the place of `path` if the block ends well, else it goes."""
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(folder: Path, option: str) -> Iterator[Path]:
    """Give a folder to fill, beside `folder`; it becomes `folder` if the block ends well, else it goes.

    Raises `InvalidInput`, before any work, where `folder` holds something, or cannot be made.
    """
    check_new_folder(folder, option)
    folder = folder.absolute()
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        yield part
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read_text(path: Path) -> str:
    """Without the mark that Windows puts first. Raises `InvalidInput` for what is not a text file."""
    check_regular(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not a text file.") from None


def write_text(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def check_output_folder(path: Path, option: str) -> None:
    """Raise `InvalidInput`, before any work, where there cannot be a folder at `path`."""
    nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        raise InvalidInput(f"{option} {path}: {nearest} is not a folder.")
    if not os.access(nearest, os.W_OK):
        raise InvalidInput(f"{option} {path}: nothing can be written in {nearest}.")


def check_new_folder(path: Path, option: str) -> None:
    """Raise `InvalidInput`, before any work, where a folder at `path` cannot be made, or holds something."""
    check_output_folder(path, option)
    if path.exists() and any(path.iterdir()):
        raise InvalidInput(f"{option} {path} is not empty: name a new folder.")


def check_output_file(path: Path, option: str) -> None:
    """Raise `InvalidInput`, before any work, where no file can be written at `path`."""
    if path.is_dir():
        raise InvalidInput(f"{option} {path} is a folder, not a file.")
    check_output_folder(path.absolute().parent, option)

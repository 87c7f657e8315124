"""Files that are complete or not there."""

from __future__ import annotations

import codecs
import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from runtimes.errors import InvalidInput
from runtimes.json_file import check_regular

# Byte order marks, which Windows puts first, and what they say; UTF-32's begins with UTF-16's.
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
MARKS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


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
        if folder.exists():
            folder.rmdir()  # which is empty; not every system replaces it
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read_text(path: Path) -> str:
    """A text file in UTF-8, or in what its byte order mark says, with line ends as \\n.

    Raises `InvalidInput` for what is not a text file, or in another encoding.
    """
    check_regular(path)
    return decode_text(path.read_bytes(), path)


def decode_text(content: bytes, path: Path, encoding: str = "utf-8") -> str:
    """The same of a file's content. encoding: of text without a byte order mark. `path` names it in the error."""
    mark = next((mark for mark in MARKS if content.startswith(mark)), b"")
    try:
        text = content.decode(MARKS.get(mark, encoding))
    except UnicodeDecodeError as error:
        if b"\0" in content[:1024] or mark:
            raise InvalidInput(f"{path} is not a text file.") from None
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidInput(f"{path} is not text in {error.encoding.upper()} (line {line}): save it in UTF-8.") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


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

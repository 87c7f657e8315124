"""`torch.save` that leaves a whole file or none, and tells whole files from damaged ones."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

from yolox_deploy.files import replacing


def safe_save(content: Any, path: Path) -> None:
    """Write `content` in the place of `path`, once it is on the disk. Raises `OSError` where that is full."""
    with replacing(path) as part:
        save(content, part)


def save(content: Any, path: Path) -> None:
    """As the file itself, once it is on the disk. Raises `OSError` where that is full.

    PyTorch says "unexpected pos" where it means that: of a path nothing else, of a file after the file's own error.
    """
    import torch  # here, since whoever only looks whether a file is whole has no need of it

    with path.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
        file.flush()
        os.fsync(file.fileno())


def is_whole(path: Path) -> bool:
    """Whether a checkpoint is there, and is what was written: its archive has a checksum of every part.

    PyTorch itself does not look at them. Nothing is known of archives without them (`set_crc32_options(False)`).
    """
    if not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            unchecked = not any(entry.CRC for entry in archive.infolist())
            return unchecked or archive.testzip() is None
    except Exception:  # a damaged archive can end in almost any of Python's errors
        return False

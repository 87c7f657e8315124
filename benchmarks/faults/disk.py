"""A disk that is soon full."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from runtimes.errors import UserError


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount a disk of `size` bytes, in memory, at a new folder. Raises `UserError` where that is not allowed."""
    folder.mkdir(parents=True)
    mount(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)])
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def enlarge(folder: Path, size: int) -> None:
    mount(["mount", "-o", f"remount,size={size}", str(folder)])


def mount(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError(f"a small disk cannot be mounted here: {error}") from None
    if done.returncode:
        raise UserError(f"a small disk cannot be mounted here: {done.stderr.strip()}")

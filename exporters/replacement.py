"""A folder in the place of another, at whatever moment the process is killed.

No folder replaces another in one step, so names say what is whole:

    NAME          the artifact
    .NAME.part    work under way, or being thrown away: never looked at, always to be removed
    .NAME.old     the artifact, whole, while a new one takes its place; where there is no NAME, it is the artifact
    .NAME.lock    held by the process that writes
"""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from runtimes.load import aside

from .lock import only_here


def workshop(folder: Path) -> Path:
    """Where what will be `folder` is made."""
    return folder.with_name(f".{folder.name}.part")


def only_writer(folder: Path) -> AbstractContextManager[None]:
    """A block that alone writes `folder`; entering raises `InvalidInput` where another process is in one."""
    busy = f"another process is writing {folder}: wait for it, or choose another --name or --output."
    return only_here(folder.with_name(f".{folder.name}.lock"), busy)


def present(folder: Path) -> Path | None:
    """Where the artifact is that was written last, whole; None where there is none."""
    return next((path for path in (folder, aside(folder)) if path.exists()), None)


def tidy(folder: Path) -> None:
    """After a process that was killed: the artifact is in its place, and nothing is beside it.

    Raises `InvalidInput` where that process is not dead, but at work.
    """
    if workshop(folder).exists() or aside(folder).exists():
        with only_writer(folder):
            settle(folder)


def settle(folder: Path) -> None:
    """`tidy`, for the only writer."""
    remove(workshop(folder))
    if aside(folder).exists():
        if folder.exists():
            _discard(aside(folder), folder)
        else:
            aside(folder).rename(folder)


def files_below(folder: Path) -> set[str]:
    """Their paths; without what Python keeps beside modules it ran."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return {path.as_posix() for path in files if "__pycache__" not in path.parts}


def replace_folder(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`, which is settled."""
    if folder.exists():
        folder.rename(aside(folder))
    try:
        new.rename(folder)
    except BaseException:
        if aside(folder).exists():
            aside(folder).rename(folder)
        raise
    if aside(folder).exists():
        _discard(aside(folder), folder)


def _discard(old: Path, folder: Path) -> None:
    """Under its name it has to be whole, so it gets another one first."""
    old.rename(workshop(folder))
    remove(workshop(folder))


def remove(folder: Path) -> None:
    """Also where it is a link to one, which stays as it is."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder, ignore_errors=True)

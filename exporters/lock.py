"""One process at a time."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from runtimes.errors import InvalidInput


@contextlib.contextmanager
def only_here(file: Path, busy: str) -> Iterator[None]:
    """No other process is in such a block; where one is, raises `InvalidInput(busy)`.

    The file is made, and removed at the end. What counts is the lock on it, which ends with the process however that
    ends, so a file that was left behind bars nobody. Forked processes, such as those that load data and may outlive a
    killed training by seconds, do not hold it: this is `lockf`, not `flock`. A second block in one process is not
    noticed, and its end ends the first one's lock. Where the system has no such locks, nothing is held.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as handle:
        # Who held the lock may have removed the file since it was opened, and another may hold a new one.
        if not (_locked(handle) and _is_named(handle, file)):
            raise InvalidInput(busy)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows removes no open file
                file.unlink()


def _is_named(handle: IO[str], file: Path) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), file.stat())
    except OSError:
        return False


def _locked(handle: IO[str]) -> bool:
    """Whether nobody else holds it."""
    try:
        import fcntl

        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows
        return True
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True

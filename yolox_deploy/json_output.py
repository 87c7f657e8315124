"""`--json FILE`: what a command found, for programs; "-" is standard output, which then holds nothing else."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runtimes.errors import UserError
from runtimes.json_file import json_text

from .files import check_output_file, write_text

STANDARD_OUTPUT = Path("-")


class NotPassed(UserError):
    """All was done, and the answer is no: exit code 1, after `result` was written like any other."""

    def __init__(self, message: str, result: dict[str, Any]) -> None:
        super().__init__(message)
        self.result = result


class DryRunEnd(Exception):
    """A dry run comes to what only the real one can know. All before it is sound: exit code 0."""


@contextlib.contextmanager
def json_output(path: Path | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Give what takes the result; it is written where `path` says when the block ends, also by an error.

    For "-", all that is printed in the block goes to standard error: by us, by libraries and by other processes. Raises
    `InvalidInput`, before the block, where no file can be written.
    """
    if path is not None and path != STANDARD_OUTPUT:
        check_output_file(path, "--json")
    taken: list[dict[str, Any]] = []
    try:
        with _standard_output_to_error() if path == STANDARD_OUTPUT else contextlib.nullcontext():
            yield taken.append
    finally:
        for result in taken:
            text = json_text(result, indent=2, default=str) + "\n"
            if path == STANDARD_OUTPUT:
                print(text, end="", flush=True)
            elif path is not None:
                write_text(path, text)


@contextlib.contextmanager
def _standard_output_to_error() -> Iterator[None]:
    _flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _flush()
        os.dup2(kept, 1)
        os.close(kept)


def _flush() -> None:
    """Also what C libraries hold back, which would come after our JSON."""
    sys.stdout.flush()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # Windows has no such handle
        ctypes.CDLL(None).fflush(None)

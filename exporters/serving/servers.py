"""Which servers there are, and how a folder for one comes to be: made beside, then moved into place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runtimes.errors import InvalidInput

from ..replacement import files_below, only_writer, remove, replace_folder, settle, workshop
from .contract import Served
from .deepstream import check_deepstream, write_deepstream
from .ovms import check_ovms, write_ovms
from .triton import check_triton, write_triton


@dataclass(frozen=True)
class Server:
    """check: raises `InvalidInput` for an artifact that the server cannot run. write: fills an empty folder."""

    check: Callable[[Served], None]
    write: Callable[[Served, Path], None]


SERVERS = {
    "triton": Server(check_triton, write_triton),
    "deepstream": Server(check_deepstream, write_deepstream),
    "ovms": Server(check_ovms, write_ovms),
}


def write_serving(served: Served, server: str, folder: Path) -> None:
    """Write what a server loads; an older one of the same files is replaced.

    Raises `InvalidInput` where the folder holds anything that would be lost, or another process is writing it.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder: choose another --output.")
    part = workshop(folder)
    with only_writer(folder):
        settle(folder)
        part.mkdir(parents=True)
        try:
            SERVERS[server].write(served, part)
            lost = sorted(files_below(folder) - files_below(part))
            if lost:
                raise InvalidInput(f"{folder} holds {lost[0]}, which would be lost: choose another --output.")
            replace_folder(part, folder)
        finally:
            remove(part)

"""Run a command of ours that is killed at a chosen change to a folder.

    python -m benchmarks.faults.fatal '{"folder": "artifacts", "change": 7}' export --seeded ...

Python announces each call that changes files before it makes it (`sys.addaudithook`). What compiled code writes by
itself is not seen: it happens between two changes.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolox_deploy import console

WRITING = os.O_WRONLY | os.O_RDWR


@dataclass
class Watch:
    """Counts the changes to what lies in `folder`, and notes each in `log`. Sends SIGKILL before number `change`.

    size: let that change happen, which opens a file, and die when a file has so many bytes: by SIGXFSZ, the kernel's
    own signal for files that grow too large, in the middle of a write.
    """

    folder: str
    log: str | None = None
    change: int | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        self.count, self.process = 0, os.getpid()
        self.notes = os.open(self.log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC) if self.log else None

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        path = changed(event, arguments)
        if path is None or not path.startswith(self.folder) or os.getpid() != self.process:
            return
        self.count += 1
        if self.notes is not None:
            os.write(self.notes, f"{event} {path[len(self.folder) :]}\n".encode())
        if self.count == self.change:
            self.die()

    def die(self) -> None:
        if self.size is None:
            os.kill(os.getpid(), signal.SIGKILL)
            return
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))


def changed(event: str, arguments: tuple[Any, ...]) -> str | None:
    """The absolute path of what an announced call changes; None where it changes nothing."""
    if event == "open":
        path, _, flags = arguments
        return absolute(path, -1) if flags & WRITING else None
    if event in ("os.rename", "os.link", "os.symlink"):
        return absolute(arguments[1], -1)
    if event in ("os.mkdir", "os.remove", "os.rmdir"):
        path = absolute(arguments[0], arguments[-1])
        # What is made or removed to be on the safe side changes nothing.
        return path if path and os.path.lexists(path) != (event == "os.mkdir") else None
    return None


def absolute(path: Any, folder: int) -> str | None:
    """folder: an open one that the path is relative to, or -1."""
    if isinstance(path, int):
        return None
    start = Path(f"/proc/self/fd/{folder}").readlink() if folder >= 0 else Path.cwd()
    return os.path.normpath(os.path.join(start, os.fsdecode(path)))  # noqa: PTH118 - Path keeps the dots


def main() -> int:
    plan, *sys.argv[1:] = sys.argv[1:]
    sys.addaudithook(Watch(**json.loads(plan)))
    return console.main()


if __name__ == "__main__":
    sys.exit(main())

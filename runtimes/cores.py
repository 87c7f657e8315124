"""How many threads fit: the cores that this process may really use."""

from __future__ import annotations

import os
from pathlib import Path

MEMBERSHIP = Path("/proc/self/cgroup")
CGROUPS, CPUS = Path("/sys/fs/cgroup"), Path("/sys/devices/system/cpu")


def usable_cores() -> int:
    """Cores for this process, at least one: those it may run on, and no more than its container may use at a time.

    Two hardware threads of one core count as one core, where the system tells (Linux): the second adds little to matrix
    multiplication.
    """
    cores = _cores_of(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min(cores, int(_quota(MEMBERSHIP) or cores)), 1)


def threads_of(threads: int | None, streams: int) -> int | None:
    """Threads for each of so many streams; where the user does not say, an equal share of the cores.

    None: the backend's own choice, which knows more of a processor's kinds of cores, where there is one stream and
    nothing keeps this process from using the whole machine.
    """
    if threads is not None:
        return threads
    if streams == 1 and not _is_limited():
        return None
    return max(usable_cores() // streams, 1)


def _is_limited() -> bool:
    """Whether this process may use less than the machine's processors."""
    everything = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else everything
    return min(allowed, _quota(MEMBERSHIP) or everything) < everything


def _cores_of(cpus: set[int]) -> int:
    """How many cores these hardware threads belong to."""
    siblings = {_read(CPUS / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in cpus}
    return len(siblings)


def _quota(membership: Path) -> float | None:
    """Cores' worth of time that the container's limit allows, version 1 or 2 of Linux' control groups; None: no limit.

    membership: the file that says which groups this process is in. A limit may stand in any group above as well.
    """
    limits = []
    for line in (_read(membership) or "0::/").splitlines():
        number, controllers, name = line.split(":", 2)
        if number == "0":
            root = CGROUPS
        elif "cpu" in controllers.split(","):
            root = CGROUPS / "cpu"
        else:
            continue
        group = root / name.lstrip("/")
        for folder in (group, *group.parents):
            limits += [limit for limit in (_version_2(folder), _version_1(folder)) if limit is not None]
            if folder == root:
                break
    return min(limits, default=None)


def _version_2(folder: Path) -> float | None:
    """Of "200000 100000": microseconds of processor time a period, and the period; "max" for no limit."""
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _version_1(folder: Path) -> float | None:
    quota, period = (_read(folder / f"cpu.cfs_{what}_us") for what in ("quota", "period"))
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None  # -1 for no limit


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""

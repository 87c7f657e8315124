"""How much memory a process has taken."""

from __future__ import annotations

from pathlib import Path


def peak_memory() -> float:
    """MiB that this process has taken at most."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):  # not Linux. There, getrusage would count what the parent had before
        import psutil

        info = psutil.Process().memory_info()
        return float(getattr(info, "peak_wset", info.rss)) / 2**20

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtimes import cores
from yolox_deploy.options import streams_for


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight hardware threads, two a core, and no limits; files below `cgroup` set some."""
    monkeypatch.setattr(cores, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "CPUS", tmp_path / "cpu")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for cpu in range(8):
        topology = tmp_path / "cpu" / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_two_hardware_threads_are_one_core(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores.usable_cores() == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 4})
    assert cores.usable_cores() == 1


def test_where_the_system_says_nothing_of_cores(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "CPUS", machine / "nothing")
    assert cores.usable_cores() == 8


@pytest.mark.parametrize(
    ("limits", "membership", "expected"),
    [
        ({"cpu.max": "max 100000\n"}, "0::/\n", None),
        ({"cpu.max": "250000 100000\n"}, "0::/\n", 2.5),
        ({"app/cpu.max": "max 100000\n", "cpu.max": "100000 100000\n"}, "0::/app\n", 1.0),
        ({"app/cpu.max": "50000 100000\n", "cpu.max": "300000 100000\n"}, "0::/app\n", 0.5),
        ({"cpu/app/cpu.cfs_quota_us": "200000", "cpu/app/cpu.cfs_period_us": "100000"}, "3:cpu,cpuacct:/app\n", 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu:/\n2:memory:/x\n", None),
        ({}, "", None),
    ],
    ids=["no limit", "limit", "limit above", "tightest", "version 1", "version 1, none", "no groups"],
)
def test_limits_of_a_container(machine: Path, limits: dict[str, str], membership: str, expected: float | None) -> None:
    for name, text in limits.items():
        write(machine / "cgroup" / name, text)
    write(machine / "membership", membership)
    assert cores._quota(machine / "membership") == expected


def test_a_small_container(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for quota, expected in ((0.5, 1), (1.9, 1), (2.0, 2), (64.0, 4)):
        monkeypatch.setattr(cores, "_quota", lambda membership, quota=quota: quota)
        assert cores.usable_cores() == expected


def test_streams_share_the_cores(machine: Path) -> None:
    assert [cores.threads_of(None, streams) for streams in (2, 3, 9)] == [2, 1, 1]
    assert cores.threads_of(7, 2) == 7


def test_the_whole_machine_is_the_backends_to_share_out(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(cores, "MEMBERSHIP", machine / "membership")
    assert cores.threads_of(None, 1) is None
    write(machine / "cgroup" / "cpu.max", "200000 100000")
    assert cores.threads_of(None, 1) == 2
    (machine / "cgroup" / "cpu.max").unlink()
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    assert cores.threads_of(None, 1) == 3


def test_streams_for_many_images() -> None:
    for count in range(1, 200):
        streams = streams_for(count)
        assert 1 <= streams <= 8
        assert count // streams * streams > 0.75 * count  # few cores are left idle
    assert [streams_for(count) for count in (1, 2, 8, 12, 16, 64)] == [1, 2, 8, 6, 8, 8]

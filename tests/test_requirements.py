"""The lock of CI names files by their hashes, at the versions that people get by constraints.txt."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENTRY = re.compile(r"^([\w.-]+)(?:\[[^\]]*\])?==([\w.+!]+)", re.MULTILINE)
OLDER_PYTHON = re.compile(r'python_version < "3\.11"')  # the lock is of 3.11


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(file: str) -> dict[str, tuple[str, int]]:
    """Version, and number of hashes, of each package."""
    text = (ROOT / "requirements" / file).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[\w.-]+(?:\[|==))", text, flags=re.MULTILINE)[1:]
    found = {}
    for entry in entries:
        match = ENTRY.match(entry)
        assert match, entry[:80]
        found[plain(match[1])] = (match[2], entry.count("--hash=sha256:"))
    return found


@pytest.mark.parametrize("file", ["ci.txt", "docs.txt", "build.txt", "tools.txt"])
def test_every_package_has_a_version_and_hashes(file: str) -> None:
    packages = locked(file)
    assert packages
    assert [name for name, (_, hashes) in packages.items() if hashes == 0] == []


def test_the_lock_has_the_versions_of_the_constraints() -> None:
    packages = locked("ci.txt")
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {
        plain(match[1]): match[2] for line in lines if not OLDER_PYTHON.search(line) and (match := ENTRY.match(line))
    }
    assert len(pinned) > 20
    # torch's CPU wheel has a local version, 2.13.0+cpu.
    differ = {
        name: packages.get(name)
        for name, version in pinned.items()
        if name in packages and packages[name][0].split("+")[0] != version
    }
    assert differ == {}
    assert set(pinned) <= set(packages)


def test_the_site_is_made_with_the_versions_that_are_tested() -> None:
    """What both locks name is installed once: the second must not replace the first."""
    tested, site = locked("ci.txt"), locked("docs.txt")
    assert {"sphinx", "furo", "myst-parser"} <= set(site)
    assert {name: tested[name][0] for name in site if name in tested} == {
        name: site[name][0] for name in site if name in tested
    }

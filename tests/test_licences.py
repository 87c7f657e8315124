from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from benchmarks import licences
from benchmarks.licences import brought_along, kind_of, package_of, refused, requirements, run_time_packages, table

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "licences.md"
LOCK = ROOT / "requirements" / "ci.txt"


def locked() -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", LOCK.read_text(), re.MULTILINE))


def test_nothing_under_the_gpl_is_needed_to_run() -> None:
    packages = run_time_packages()
    names = {package.name for package in packages}
    assert {"numpy", "opencv-python-headless", "torch", "markupsafe"} <= names
    assert not names & {"pytest", "ruff", "yolox-deploy"}
    assert refused(packages) == []


def test_what_has_strings_attached_is_known() -> None:
    """docs/licences.md says what follows from them."""
    attached = {
        kind: {package.name for package in run_time_packages() if kind in package.kinds}
        for kind in ("LGPL", "MPL-2.0", "proprietary")
    }
    assert attached["LGPL"] == set()
    assert attached["MPL-2.0"] <= {"tqdm", "certifi"}
    assert all(name.startswith("tensorrt") for name in attached["proprietary"])


def test_a_refused_licence_is_found_however_deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in (("outer", "License: MIT\nRequires-Dist: inner"), ("inner", "License: GPLv3+")):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{content}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = dict(brought_along([Requirement("outer")]))
    assert found == {"outer": "", "inner": "outer"}
    monkeypatch.setitem(licences.PURPOSES, "outer", "a test")
    assert refused([package_of(name, ("train",), parent) for name, parent in found.items()]) == ["inner"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("GPL-3.0-or-later", "GPL"),
        ("GNU General Public License v2 (GPLv2)", "GPL"),
        ("GNU Affero General Public License v3", "AGPL"),
        ("GNU Lesser General Public License v2 or later (LGPLv2+)", "LGPL"),
        ("OSI Approved :: Apache Software License", "Apache-2.0"),
        ("FreeBSD", "BSD"),
        ("free for academic use", "unknown"),
        ("Limited", "unknown"),
    ],
)
def test_names_of_licences(text: str, kind: str) -> None:
    assert kind_of(text) == kind


def test_every_package_that_is_asked_for_has_a_purpose() -> None:
    asked = {one.name for wanted in requirements().values() for one in wanted} - {licences.PROJECT}
    assert asked <= licences.PURPOSES.keys()


def test_the_document_is_up_to_date() -> None:
    packages, pins = run_time_packages(), locked()
    differing = [one.name for one in packages if Version(version(one.name)) != Version(pins.get(one.name, "0"))]
    if differing:
        pytest.skip(f"it is of the versions in {LOCK.name}; here, others are installed: {', '.join(differing)}")
    assert DOCUMENT.read_text(encoding="utf-8").endswith(table(packages)), "make licences writes it anew"

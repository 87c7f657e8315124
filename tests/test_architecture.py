"""The floors of the house: imports point down only, and runtimes stay light."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from yolox_deploy.console import COMMANDS

ROOT = Path(__file__).parents[1]
FLOORS = ("runtimes", "exporters", "yolox_deploy", "benchmarks")
SOURCES = sorted(file for floor in FLOORS for file in (ROOT / floor).rglob("*.py"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def imported_modules(path: Path) -> set[str]:
    """Every module that a file imports anywhere, as written; relative imports with their leading dots."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add("." * node.level + (node.module or ""))
    return modules


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_point_down(path: Path) -> None:
    own = FLOORS.index(path.relative_to(ROOT).parts[0])
    above = {module for module in imported_modules(path) if module.split(".")[0] in FLOORS[own + 1 :]}
    assert not above, f"{name(path)} imports from a floor above: {above}"


def test_the_console_names_commands_of_its_floor_and_the_one_above() -> None:
    """By strings, which are imported when the command is given: the one way up."""
    assert {module.split(".")[0] for module, _ in COMMANDS.values()} == {"yolox_deploy", "benchmarks"}


@pytest.mark.parametrize("path", sorted((ROOT / "runtimes").glob("*.py")), ids=name)
def test_runtimes_import_only_numpy_opencv_and_themselves(path: Path) -> None:
    """Relative imports only, so that the folder also works as the package `yolox_runtimes`."""
    backends = {"cuda", "ncnn", "onnx", "onnxruntime", "openvino"}  # imported where they are used, inside functions
    for module in imported_modules(path):
        top = module.split(".")[0]
        allowed = module.startswith(".") or top in {"numpy", "cv2"} | backends or top in sys.stdlib_module_names
        assert allowed, f"{name(path)} imports {module}"


def test_importing_runtimes_imports_no_backend() -> None:
    code = "import runtimes, sys; print([m for m in ('torch', 'onnxruntime', 'onnx') if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_the_face_of_runtimes_is_complete() -> None:
    face = importlib.import_module("runtimes")
    public = {key for key, value in vars(face).items() if not key.startswith("_") and not hasattr(value, "__path__")}
    modules = {path.stem for path in (ROOT / "runtimes").glob("*.py")}
    assert public - modules | {"load"} == set(face.__all__)
    assert all(getattr(face, key).__doc__ or isinstance(getattr(face, key), tuple) for key in face.__all__)


@pytest.mark.parametrize("path", [*SOURCES, *EXAMPLES], ids=name)
def test_every_file_says_what_it_is_and_is_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), f"{name(path)} has no docstring"
    assert len(text.splitlines()) <= 250


def test_tests_are_flat() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))
    assert all(path.parent == ROOT / "tests" for path in (ROOT / "tests").rglob("test_*.py"))

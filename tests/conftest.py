"""What several tests need: the data beside the checkout, where it is there, and one exported model."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from exporters.artifact import Artifact, write_artifact
from runtimes import COCO_CATEGORY_IDS, COCO_CLASS_NAMES, ModelSpec
from runtimes.cuda import find_gpu
from runtimes.errors import UserError
from runtimes.preprocess import Image
from yolox_deploy.data.shapes import shapes_images
from yolox_deploy.model.checkpoint import Checkpoint, read_checkpoint
from yolox_deploy.model.seeded import seeded_model
from yolox_deploy.model.yolox import YOLOX

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

NANO_SPEC = ModelSpec("yolox-nano", (416, 416), COCO_CLASS_NAMES, COCO_CATEGORY_IDS, batch=None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        try:
            find_gpu()
        except UserError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real weights, images and golden numbers, which is not part of the project for its licences."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (real weights and images, which cannot be distributed with the project)")
    return SHARED


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    return shared / "reference" / "golden"


@pytest.fixture(scope="session")
def nano_checkpoint(shared: Path) -> Checkpoint:
    return read_checkpoint(shared / "weights" / "yolox_nano.pth")


@pytest.fixture(scope="session")
def seeded_nano() -> YOLOX:
    return seeded_model("yolox-nano")


@pytest.fixture(scope="session")
def images() -> list[Image]:
    return shapes_images(5, seed=7)


@pytest.fixture(scope="session")
def small_spec() -> ModelSpec:
    """Not square, and small, so that tests are quick."""
    return replace(NANO_SPEC, input_size=(256, 320))


@pytest.fixture(scope="session")
def exported(
    seeded_nano: YOLOX, images: list[Image], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, ModelSpec], Artifact]:
    """Export the seeded Nano to a target, once for all tests of a run and all of its processes. Tests only read it."""
    root = tmp_path_factory.getbasetemp()
    root = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "exported"

    def export(target: str, spec: ModelSpec) -> Artifact:
        folder = root / f"{target}-{hashlib.sha256(spec.to_json().encode()).hexdigest()[:16]}"
        folder.mkdir(parents=True, exist_ok=True)
        record = folder / "artifact.pickle"
        with FileLock(folder / "lock"):
            if not record.exists():
                record.write_bytes(pickle.dumps(write_artifact(seeded_nano, spec, target, folder, images)))
        artifact = pickle.loads(record.read_bytes())
        assert isinstance(artifact, Artifact)
        return artifact

    return export


@pytest.fixture(scope="session")
def artifact(exported: Callable[[str, ModelSpec], Artifact], small_spec: ModelSpec) -> Artifact:
    """A seeded Nano as ONNX with any batch. Tests only read it."""
    return exported("onnx", small_spec)


@pytest.fixture(scope="session")
def single(exported: Callable[[str, ModelSpec], Artifact], small_spec: ModelSpec) -> Callable[[str], Artifact]:
    """The seeded Nano for a target in the form that `export` writes by default: batch 1, bytes, decoded."""

    def export(target: str) -> Artifact:
        able = target != "ncnn"
        return exported(target, replace(small_spec, batch=1, uint8_input=able, decoded=able))

    return export


@pytest.fixture(scope="session")
def little(exported: Callable[[str, ModelSpec], Artifact], small_spec: ModelSpec) -> Callable[[str], Artifact]:
    """The same at 64x96, where it is quick and what it detects does not matter."""

    def export(target: str) -> Artifact:
        able = target != "ncnn"
        return exported(target, replace(small_spec, input_size=(64, 96), batch=1, uint8_input=able, decoded=able))

    return export


@pytest.fixture(scope="session")
def run_without() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command of ours in a process where the named packages cannot be imported, as if they were not installed."""

    def run(packages: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
        code = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {packages}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
from yolox_deploy.console import main
sys.exit(main())
"""
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)

"""What several tests need: the data beside the checkout, where it is there, and one exported model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exporters.artifact import Artifact, write_artifact
from exporters.options import ExportOptions
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
def artifact(
    seeded_nano: YOLOX, small_spec: ModelSpec, images: list[Image], tmp_path_factory: pytest.TempPathFactory
) -> Artifact:
    """A seeded Nano as ONNX with any batch. Tests only read it."""
    return write_artifact(seeded_nano, small_spec, "onnx", tmp_path_factory.mktemp("artifact"), images, ExportOptions())


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

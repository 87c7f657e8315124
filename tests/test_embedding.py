"""The small wheel in an empty environment: what an app that embeds the runtime gets."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from exporters.artifact import write_artifact
from exporters.torch_runtime import TorchRuntime
from runtimes import Detector
from yolox_deploy.model.checkpoint import Checkpoint
from yolox_deploy.model.open import describe

ROOT = Path(__file__).parents[1]

APP = """
import json, sys
import cv2
import yolox_runtimes

with yolox_runtimes.load(sys.argv[1], threads=1) as detector:
    found = detector(cv2.imread(sys.argv[2]))
loaded = [name for name in ("torch", "onnx", "runtimes", "yolox_deploy") if name in sys.modules]
print(json.dumps([found.xyxy.tolist(), found.confidence.tolist(), found.class_id.tolist(), loaded]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that no build folder appears in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(
        ROOT / "runtimes", folder / "source", ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    )
    pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", str(folder), str(folder / "source"))
    return next(folder.glob("yolox_runtimes-*.whl"))


def pip(python: str | Path, *arguments: str) -> None:
    done = subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_the_floor_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    modules = {f"yolox_runtimes/{path.name}" for path in (ROOT / "runtimes").glob("*.py")}
    assert modules | {"yolox_runtimes/py.typed"} == {name for name in names if ".dist-info/" not in name}


def test_an_app_in_an_empty_environment_detects_what_pytorch_detects(
    wheel: Path, shared: Path, nano_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    trained = describe(nano_checkpoint.build(), nano_checkpoint)
    image = shared / "data" / "coco-val2017-206" / "val2017" / "000000000139.jpg"
    pixels = cv2.imread(str(image))
    assert pixels is not None
    artifact = write_artifact(trained.model, replace(trained.spec, batch=1, decoded=True), "onnx", tmp_path, [pixels])  # type: ignore[list-item]
    expected = Detector(TorchRuntime(trained.model, trained.spec))(pixels)  # type: ignore[call-overload]

    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip(python, "install", "--constraint", str(ROOT / "constraints.txt"), f"{wheel}[onnx]")
    (tmp_path / "app.py").write_text(APP)
    done = subprocess.run(
        [python, "app.py", str(artifact.folder), str(image)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    xyxy, confidence, class_id, loaded = json.loads(done.stdout)
    assert loaded == []
    assert class_id == expected.class_id.tolist()
    assert len(class_id) > 5
    assert np.abs(np.array(xyxy) - expected.xyxy).max() < 0.01
    assert np.abs(np.array(confidence) - expected.confidence).max() < 1e-4

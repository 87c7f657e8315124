"""load: from a path to a Detector. Adding a backend is one file and one line in `RUNTIMES`."""

from __future__ import annotations

import inspect
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .detector import Detector
from .errors import InvalidInput
from .ncnn import NcnnRuntime
from .onnx import OnnxRuntime
from .openvino import OpenVINORuntime
from .proof import check_proven
from .runtime import Runtime
from .spec import ModelSpec
from .trt import TensorRTRuntime
from .trt_rtx import TensorRTRTXRuntime

# The suffix of a model file, and the class that runs it: called with the path, a spec or None, and backend options.
RUNTIMES: dict[str, Callable[..., Runtime]] = {
    ".onnx": OnnxRuntime,
    ".xml": OpenVINORuntime,
    ".param": NcnnRuntime,
    ".engine": TensorRTRuntime,
    ".rtx": TensorRTRTXRuntime,
}

# What checkpoints are called; others are known by their content (see `is_checkpoint`).
CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors", ".pth.tar", ".pt.tar")
# How PyTorch's files begin that are no archive, and any other of Python's pickles.
PICKLE_STARTS = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
# Model files of other tools, which no runtime here reads, by their suffix.
OTHER_TOOLS = {
    ".rknn": "Rockchip's RKNN toolkit",
    ".tflite": "TensorFlow Lite",
    ".mlmodel": "Core ML",
    ".mlpackage": "Core ML",
    ".mnn": "MNN",
    ".pt2": "torch.export",
    ".torchscript": "TorchScript",
    ".ptl": "TorchScript",
    ".plan": "TensorRT",
    ".trt": "TensorRT",
    ".ort": "ONNX Runtime's own format",
    ".pb": "TensorFlow",
    ".keras": "Keras",
    ".h5": "Keras",
    ".pdmodel": "PaddlePaddle",
    ".hef": "Hailo",
    ".om": "Huawei Ascend",
}


def load(
    artifact: str | Path,
    spec: ModelSpec | None = None,
    score_threshold: float | None = None,
    nms_threshold: float | None = None,
    streams: int = 1,
    clip: bool = True,
    **backend_options: Any,
) -> Detector:
    """Load an artifact: the folder that `export` wrote, or the model file in it.

    spec: only for files that carry none (see `foreign_spec`). Thresholds default to 0.25 and 0.65.
    streams: 1 for each image as soon as possible, with all cores; more for as many images a second as possible: so many
    are worked on at a time, and share the cores. See `Detector.detect_stream`. clip: see `Detector`.
    backend_options: those of the backend's class, such as `threads` and `providers` of `OnnxRuntime`.

    Raises `InvalidInput` for a path that is no artifact, for files that are not those that were proven, and for an
    option that the backend has not, `MissingBackend` where the backend's package is missing.
    """
    path = model_file(artifact)
    runtime = RUNTIMES[path.suffix.lower()]
    known = [name for name in inspect.signature(runtime).parameters if name not in ("path", "spec", "streams")]
    unknown = sorted(set(backend_options) - set(known))
    if unknown:
        theirs = ", ".join(["score_threshold", "nms_threshold", "streams", "clip", *known])
        raise InvalidInput(f"{path.suffix} files have no option {unknown[0]!r}; theirs are {theirs}.")
    check_proven(path)
    opened = runtime(path, spec, streams=streams, **backend_options)
    return Detector(opened, score_threshold, nms_threshold, streams, clip)


def is_artifact(path: Path) -> bool:
    """Whether a path may be an artifact, as not everything is that `export` writes into its folder: a map, say."""
    return path.suffix.lower() not in (".json", ".log")


def is_checkpoint(path: Path) -> bool:
    """Whether a path is the checkpoint of a training: by its name in any case, else by how the file begins.

    It may be missing or damaged; whoever reads it says so.
    """
    if path.name.lower().endswith(CHECKPOINT_SUFFIXES):
        return True
    if path.suffix.lower() in RUNTIMES or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            start = file.read(2)
        if start in PICKLE_STARTS:
            return True
        if start != b"PK":
            return False
        with zipfile.ZipFile(path) as archive:
            return any(name.split("/")[-1] == "data.pkl" for name in archive.namelist())
    except Exception:  # a damaged archive can end in almost any of Python's errors
        return False


def aside(folder: Path) -> Path:
    """Where an artifact stands, whole, while a new one takes its place (see `exporters.replacement`)."""
    return folder.with_name(f".{folder.name}.old")


def _standing(path: Path) -> Path:
    """Where an artifact, or a file in it, is to be found: aside, if whatever replaced it was killed halfway."""
    for folder in (path, path.parent):
        if not folder.exists() and aside(folder).is_dir():
            return aside(folder) / path.relative_to(folder)
    return path


def model_file(artifact: str | Path) -> Path:
    """The model file of an artifact. Raises `InvalidInput` where there is none."""
    path = _standing(Path(artifact))
    known = ", ".join(RUNTIMES)
    if path.suffix.lower() in OTHER_TOOLS and path.exists():
        tool = OTHER_TOOLS[path.suffix.lower()]
        raise InvalidInput(
            f"{path} is a model file of {tool}, which no runtime here reads ({known}): export the checkpoint that it"
            " was made from (yolox-deploy export --weights FILE), or give the ONNX file."
        )
    if path.suffix.lower() == ".bin" and path.exists() and not is_checkpoint(path):
        raise InvalidInput(f"{path} holds weights alone: give the .xml or .param file beside it.")
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in RUNTIMES)
        # An engine lies beside what it was built from.
        found = [file for file in found if file.suffix.lower() != ".onnx"] or found
        if len(found) != 1:
            inside = sorted(file.parent.name for file in path.glob("*/spec.json")) if not found else []
            what = (
                f"name one of the artifacts in it: {', '.join(inside)}" if inside else f"name the file itself ({known})"
            )
            raise InvalidInput(f"{path} holds {len(found)} model files, not one; {what}.")
        return found[0]
    if not path.exists():
        raise InvalidInput(f"{path} does not exist.")
    if is_checkpoint(path):
        raise InvalidInput(f"{path} is a checkpoint: yolox-deploy export {path} makes artifacts of it.")
    if path.suffix.lower() not in RUNTIMES:
        raise InvalidInput(f"{path} is not a model file that a runtime reads ({known}).")
    return path

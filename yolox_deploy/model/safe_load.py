"""`torch.load` for files of strangers: builds tensors and plain values, runs nothing."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from runtimes.errors import InvalidInput, UserError

from .safe_save import is_whole

# What official and mmdetection checkpoints hold beside tensors: NumPy scalars (best_ap) and arrays, under the module
# names of NumPy 1 and 2.
_SCALAR, _ARRAY = np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0]
SAFE_GLOBALS: list[Any] = [
    np.dtype,
    np.ndarray,
    *(type(np.dtype(kind)) for kind in "?bhilqBHILQefd"),
    *((_SCALAR, f"{module}.scalar") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
    *((_ARRAY, f"{module}._reconstruct") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
]

# Training frameworks leave their own objects (message hubs, history buffers) in checkpoints. We need none of them.
INERT_MODULES = ("mmengine.", "mmcv.", "mmdet.", "lightning.", "pytorch_lightning.", "lightning_fabric.", "omegaconf.")
DICT_CLASS = "AttributeDict"  # Lightning's, of hyperparameters, in which there may be class names
INERT_CLASSES = ("argparse.Namespace", "pathlib.PosixPath", "pathlib.WindowsPath", "pathlib._local.PosixPath")


class Inert:
    """Stands in for an object of a training framework: takes whatever the file gives it, and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


# mmengine's history buffers hold methods of their class, which pickle writes as calls of getattr. The name leads to
# `Inert` here, never to getattr itself. Named, and not only found in the file, since torch lists no names of a file in
# its old format; the same holds for the others.
HISTORY_BUFFER: list[Any] = [
    (Inert, "mmengine.logging.history_buffer.HistoryBuffer"),
    (Inert, "builtins.getattr"),
    *((Inert, name) for name in INERT_CLASSES),
]


# The largest YOLOX with averaged weights and AdamW's moments takes 1.6 GB.
LARGEST = 4 * 2**30  # bytes


ARCHIVE_START = b"PK"


class Damaged(InvalidInput):
    """A file that is not whole, or was never a checkpoint."""


def check_size(path: Path) -> None:
    """Raise `InvalidInput` for a file that is larger than any checkpoint, or cannot be read."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from None
    if size > LARGEST:
        raise InvalidInput(f"{path} has {size / 2**30:.0f} GiB, more than any YOLOX checkpoint: refused.")


# How other files begin that are given as checkpoints, and what they are.
BEGINNINGS: dict[bytes, str] = {
    rb"\x08[\x01-\x20](\x12.{1,40}|[\x1a\x22\x3a])": "is an ONNX file, not a checkpoint: name it MODEL.onnx",
    rb"[pf]trt": "is a TensorRT engine, not a checkpoint: give the checkpoint that it was made from",
    rb"7767517\s": "is an NCNN param file, not a checkpoint: give the checkpoint that it was made from",
    rb"\s*<\?xml": "is an XML file, not a checkpoint; an OpenVINO model is given as the artifact, MODEL.xml",
    rb"\s*<(!DOCTYPE|!doctype|html|HTML)": "is a web page, not a checkpoint: download the file itself",
    rb"version https://git-lfs": "is a pointer of Git LFS, not the file itself: git lfs pull",
    rb"\x1f\x8b": "is compressed by gzip: unpack it first",
    rb"\x89HDF": "is an HDF5 file, such as Keras writes, not a PyTorch checkpoint",
    rb".{4}TFL3": "is a TensorFlow Lite model, not a checkpoint",
    rb".{8}\{\s*\"": "holds safetensors: rename it to end in .safetensors",
}

# Entries of archives that PyTorch writes besides checkpoints.
PROGRAMS = {
    "constants.pkl": "TorchScript",
    "archive_format": "torch.export",
    "serialized_exported_program.json": "torch.export",
}


def check_kind(path: Path) -> None:
    """Raise `InvalidInput`, which says what it is, for a file of another kind under a checkpoint's name."""
    with path.open("rb") as file:
        start = file.read(64)
    for pattern, kind in BEGINNINGS.items():
        if re.match(pattern, start, re.DOTALL):
            raise InvalidInput(f"{path} {kind}.")


def check_archive(path: Path) -> bool:
    """Whether a file is an archive, as PyTorch sees it. Raises `InvalidInput` before anything in it is unpacked.

    PyTorch stores tensors as they are: an archive that unpacks to more than its size was made by something else, maybe
    as a trap. One that has something before or after it is refused, since PyTorch might find another archive in it.
    """
    with path.open("rb") as file:
        if file.read(len(ARCHIVE_START)) != ARCHIVE_START:
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception:  # a damaged archive can end in almost any of Python's errors
        raise Damaged(f"{path} is damaged or cut short.") from None
    program = next(
        (kind for entry in entries for end, kind in PROGRAMS.items() if entry.filename.endswith(f"/{end}")), None
    )
    if program is not None:
        raise InvalidInput(
            f"{path} is a {program} program, not a checkpoint: give the checkpoint that it was made from, or save its"
            " weights where it was made, torch.save(model.state_dict(), FILE)."
        )
    size, unpacked = path.stat().st_size, sum(entry.file_size for entry in entries)
    if unpacked > size:
        raise InvalidInput(f"{path} has {size} bytes and would unpack to {unpacked}: refused.")
    if min((entry.header_offset for entry in entries), default=1) != 0 or not is_whole(path):
        raise Damaged(f"{path} is damaged or cut short.")
    return True


def safe_load(path: Path) -> Any:
    """`torch.load` that builds only tensors and plain values. Raises `InvalidInput` for everything else."""
    check_size(path)
    check_kind(path)
    in_archive = check_archive(path)
    names: list[str] = []
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path) if in_archive else []
        inert: list[Any] = [
            (OrderedDict if name.endswith(f".{DICT_CLASS}") else Inert, name)
            for name in names
            if name.startswith(INERT_MODULES) or name in INERT_CLASSES
        ]
        with torch.serialization.safe_globals(SAFE_GLOBALS + HISTORY_BUFFER + inert), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the pickle's version
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise UserError(f"{path} does not fit into memory.") from None
    except Exception as error:  # a damaged file can end in almost any of Python's errors
        refused = re.search(r"GLOBAL (\S+)", str(error))
        module = next((name for name in names if name.startswith("torch.nn.modules.")), None)
        if refused and module is not None:
            raise InvalidInput(
                f"{path} holds a whole pickled model ({refused[1]}), whose code would run while it is read: refused."
                " Load it where it was made, and save its weights: torch.save(model.state_dict(), FILE)."
            ) from None
        if refused:
            raise InvalidInput(
                f"{path} asks to run {refused[1]} while it is read: refused."
                " If you trust it, load it where it was made and save its state_dict alone."
            ) from None
        fault = "is damaged or cut short" if in_archive else "is not a PyTorch checkpoint"
        raise Damaged(f"{path} {fault}.") from None

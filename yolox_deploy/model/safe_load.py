"""`torch.load` for files of strangers: builds tensors and plain values, runs nothing."""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from runtimes.errors import InvalidInput

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
INERT_MODULES = ("mmengine.", "mmcv.", "mmdet.")


class Inert:
    """Stands in for an object of a training framework: takes whatever the file gives it, and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


# mmengine's history buffers hold methods of their class, which pickle writes as calls of getattr. The name leads to
# `Inert` here, never to getattr itself. Named, and not only found in the file, since torch lists no names of a file in
# its old format.
HISTORY_BUFFER: list[Any] = [
    (Inert, "mmengine.logging.history_buffer.HistoryBuffer"),
    (Inert, "builtins.getattr"),
]


def safe_load(path: Path) -> Any:
    """`torch.load` that builds only tensors and plain values. Raises `InvalidInput` for everything else."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else []
        inert: list[Any] = [(Inert, name) for name in names if name.startswith(INERT_MODULES)]
        with torch.serialization.safe_globals(SAFE_GLOBALS + HISTORY_BUFFER + inert), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the pickle's version
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can end in almost any of Python's errors
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            raise InvalidInput(
                f"{path} asks to run {refused[1]} while it is read: refused."
                " If you trust it, load it where it was made and save its state_dict alone."
            ) from None
        with path.open("rb") as file:
            is_archive = file.read(2) == b"PK"
        fault = "is damaged or cut short" if is_archive else "is not a PyTorch checkpoint"
        raise InvalidInput(f"{path} {fault}.") from None

"""What can be exported to. Adding a target is one file and one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from torch import nn

from runtimes.spec import ModelSpec

from .options import ExportOptions
from .parity import StageCheck


class Exporter(Protocol):
    """Writes the model into a directory and returns the model file.

    `check.record` is called after each step, so that a fault is found where it arises.
    """

    def __call__(
        self, model: nn.Module, spec: ModelSpec, directory: Path, options: ExportOptions, check: StageCheck
    ) -> Path: ...


def _onnx() -> Exporter:
    from .onnx import export_onnx

    return export_onnx


# Looked up when asked for, since each needs a toolchain of its own.
EXPORTERS: dict[str, Callable[[], Exporter]] = {"onnx": _onnx}

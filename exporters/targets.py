"""What can be exported to. Adding a target is one file and one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    ) -> Path:
        """Write into `directory`, which exists. Raises `UserError` for what cannot be written."""
        ...


def _anything(spec: ModelSpec, options: ExportOptions) -> None:
    """A target that can write every spec."""


@dataclass(frozen=True)
class Target:
    """An exporter, and what it says before any work: `check` raises a `UserError` for what it cannot write here."""

    export: Exporter
    check: Callable[[ModelSpec, ExportOptions], None] = _anything


def _onnx() -> Target:
    from .onnx import export_onnx

    return Target(export_onnx)


def _openvino() -> Target:
    from .openvino import check_openvino, export_openvino

    return Target(export_openvino, check_openvino)


def _ncnn() -> Target:
    from .ncnn import check_ncnn, export_ncnn

    return Target(export_ncnn, check_ncnn)


def _trt() -> Target:
    from .trt import check_can_build, export_trt

    return Target(export_trt, check_can_build)


def _trt_rtx() -> Target:
    from .trt_rtx import check_can_build, export_trt_rtx

    return Target(export_trt_rtx, check_can_build)


def _web() -> Target:
    from .web import check_web, export_web

    return Target(export_web, check_web)


# Looked up when asked for, since each needs a toolchain of its own; what is missing is said then.
EXPORTERS: dict[str, Callable[[], Target]] = {
    "onnx": _onnx,
    "openvino": _openvino,
    "ncnn": _ncnn,
    "trt": _trt,
    "trt-rtx": _trt_rtx,
    "web": _web,
}

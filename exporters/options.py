"""What an exporter may be told beyond the spec."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExportOptions:
    """opset: of the ONNX file, 17 to 22 (17 is what TensorRT 8 and most tools of the last years read)."""

    opset: int = 17

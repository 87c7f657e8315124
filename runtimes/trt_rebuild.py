"""Build an engine for this machine from the `model.onnx` beside it: `python -m runtimes.trt_rebuild FILE.engine`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import UserError
from .trt_engine import rebuild


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 after one sentence on what to do."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.trt_rebuild", description=__doc__)
    parser.add_argument("engine", type=Path, help="model.engine (TensorRT) or model.rtx (TensorRT-RTX); may not exist")
    parser.add_argument("--device", type=int, default=0, help="index of the GPU")
    options = parser.parse_args(arguments)
    try:
        info = rebuild(options.engine, options.device)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.engine}: {info.library} {info.version}, compute capability {info.compute_capability}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

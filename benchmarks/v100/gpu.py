"""The GPU that `benchmarks.v100` runs on: what it may be called, what it was set to, and what a V100 needs."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from typing import Any

# The last versions that know the V100 (compute capability 7.0).
V100_PINS = (
    'on a V100, with Python 3.10: pip install torch==2.7.1 tensorrt-cu12==10.4.0 "cuda-bindings==12.8.*",'
    " or, where NVIDIA's package index is out of reach, tensorrt==8.6.0 from PyPI in the place of tensorrt-cu12, with"
    ' "nvidia-cudnn-cu12==8.9.*" "nvidia-cublas-cu12==12.1.*" (see --help)'
)

# What nvidia-smi is asked for. Nothing is set.
QUERY = (
    "driver_version", "pstate", "clocks.sm", "clocks.max.sm", "clocks.mem", "clocks.max.mem", "power.limit",
    "temperature.gpu",
)  # fmt: skip


@dataclass(frozen=True)
class Card:
    """A GPU. name and compute_capability as CUDA tells them: "Tesla V100-SXM2-16GB", "7.0".

    uuid: as nvidia-smi takes it, "" where it is not known. versions: of the libraries that drive it, by name.
    """

    name: str
    compute_capability: str
    uuid: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """ "V100" where it is one, by its name and its compute capability both; else the GPU's own name."""
        named = re.search(r"\bV100\b", self.name) is not None  # not "V1000", and not the faster V100S
        return "V100" if named and self.compute_capability == "7.0" else self.name

    def manifest(self) -> dict[str, Any]:
        """For JSON, with the clocks of this moment where the driver tells them."""
        return {
            "label": self.label,
            "name": self.name,
            "compute_capability": self.compute_capability,
            "versions": self.versions,
            "state": ask_driver(self.uuid) if self.uuid else {},
        }


def ask_driver(uuid: str) -> dict[str, str]:
    """Driver, clocks and power limit of a GPU by nvidia-smi, which only reads; {} where it cannot be asked."""
    command = ["nvidia-smi", "-i", uuid, f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return read_answer(answer)


def read_answer(answer: str) -> dict[str, str]:
    """One line of comma-separated values, by the names in `QUERY`; {} for anything else."""
    values = [value.strip() for value in answer.strip().split(",")]
    return dict(zip(QUERY, values, strict=True)) if len(values) == len(QUERY) else {}

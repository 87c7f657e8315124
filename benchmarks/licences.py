"""python -m benchmarks.licences: the licences of everything that is installed to run this project.

    python -m benchmarks.licences docs/licences.md

Reads the packages' own metadata, of each run-time extra with all that it brings along; tools for developers are left
out. Writes the table into the file, below its marker, or prints it. Ends with one JSON line. Exit code 1 where a
licence is not allowed at run time or cannot be told.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from configparser import ConfigParser
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Annotated

import tyro
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from runtimes.errors import InvalidInput, UserError
from yolox_deploy.console import run
from yolox_deploy.files import read_text, write_text

PROJECT = "yolox-deploy"
SETUP = Path(__file__).parents[1] / "setup.cfg"
MARKER = "<!-- Below: written by `make licences`. -->\n"
ALWAYS, NOT_AT_RUN_TIME = "always", ("dev", "fuzz", "docs", "all")  # `all` holds other extras

# What each package that setup.cfg names is for.
PURPOSES = {
    "aiohttp": "asks examples/service.py, in load_test.py",
    "cuda-bindings": "memory and streams on NVIDIA GPUs",
    "fastapi": "examples/service.py",
    "hotcoco": "COCO's figures",
    "lightning-fabric": "devices and processes in training",
    "matplotlib": "curves",
    "mlflow": "a training's figures, there",
    "ncnn": "runs NCNN files",
    "nncf": "int8 for OpenVINO",
    "norfair-enough": "tracks, in examples/track_video.py",
    "numpy": "arrays",
    "onnx": "reads and writes ONNX graphs",
    "onnx-ir": "ONNX graphs, for onnxscript",
    "onnxruntime": "runs ONNX files",
    "onnxscript": "PyTorch's ONNX exporter",
    "onnxsim": "simplifies ONNX graphs",
    "opencv-python-headless": "images, resizing, NMS, video",
    "openvino": "runs and writes OpenVINO files",
    "pillow": "sizes of images",
    "pnnx": "converts for NCNN",
    "prometheus-client": "metrics of examples/service.py",
    "psutil": "memory, in training and benchmarks",
    "pyyaml": "YOLO's data files",
    "ray": "processes, in examples/batch_ray.py",
    "safetensors": "checkpoints without code in them",
    "tensorboard": "a training's figures",
    "tensorrt-cu12": "runs engines on CUDA 12",
    "tensorrt-cu13": "runs engines on CUDA 13",
    "tensorrt-rtx-cu13": "runs engines on RTX cards",
    "torch": "the model; training; export",
    "tqdm": "progress bars",
    "tyro": "command lines",
    "uvicorn": "serves examples/service.py",
    "wandb": "a training's figures, there",
}

# What packages call their licences, as patterns, and what we call them. The first that fits counts.
KNOWN = {
    r"AGPL|Affero": "AGPL",
    r"LGPL|Lesser General|Library General": "LGPL",
    r"GPL|General Public": "GPL",
    r"Proprietary": "proprietary",
    r"MPL|Mozilla": "MPL-2.0",
    r"Apache": "Apache-2.0",
    r"MIT-CMU|HPND": "MIT-CMU",
    r"\bMIT\b": "MIT",
    r"BSD": "BSD",
    r"PSF|Python Software Foundation|matplotlib": "PSF-2.0",
    r"\bBSL-1.0": "BSL-1.0",
    r"CC0|Zlib": "Zlib",
}
UNKNOWN = "unknown"
REFUSED = {"GPL", "AGPL", UNKNOWN}


@dataclass(frozen=True)
class LicencesConfig:
    """The licences of everything that is installed to run this project."""

    document: Annotated[Path | None, tyro.conf.Positional] = None
    """File to write the table into, below its marker; unset, it is printed."""


@dataclass(frozen=True)
class Package:
    """licence: as the package says it. kinds: what of `KNOWN` it is. extras: which bring it. why: what it is for."""

    name: str
    licence: str
    kinds: frozenset[str]
    extras: tuple[str, ...]
    why: str

    def __str__(self) -> str:
        return f"| {self.name} | {self.licence} | {', '.join(self.extras)} | {self.why} |"


def requirements() -> dict[str, list[Requirement]]:
    """What setup.cfg asks for at run time, by extra."""
    setup = ConfigParser()
    setup.read(SETUP, encoding="utf-8")
    extras = {ALWAYS: setup["options"]["install_requires"], **setup["options.extras_require"]}
    return {
        extra: [Requirement(line) for line in text.strip().splitlines() if not line.startswith("#")]
        for extra, text in extras.items()
        if extra not in NOT_AT_RUN_TIME
    }


def installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def brought_along(wanted: Sequence[Requirement], by: str = "") -> Iterator[tuple[str, str]]:
    """Name of each package that is installed for these, with all that it needs; and what needs it, "" for us."""
    seen: set[tuple[str, str]] = set()
    waiting = [(one, by, extra) for one in wanted for extra in ("", *one.extras)]
    declared = requirements()
    while waiting:
        one, parent, extra = waiting.pop(0)
        name = canonicalize_name(one.name)
        if (name, extra) in seen or (one.marker and not one.marker.evaluate({"extra": ""})):
            continue
        seen.add((name, extra))
        if name == PROJECT:  # an extra that holds another
            waiting += [(inner, "", part) for inner in declared.get(extra, []) for part in ("", *inner.extras)]
            continue
        found = installed(name)
        if found is None:
            continue
        yield name, parent
        for inner in map(Requirement, found.requires or []):
            if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                bare = Requirement(str(inner).split(";")[0])
                waiting += [(bare, name, part) for part in ("", *inner.extras)]


def run_time_packages() -> list[Package]:
    """Every package that is installed for one of our run-time extras, by name."""
    extras: dict[str, list[str]] = {}
    parents: dict[str, str] = {}
    for extra, wanted in requirements().items():
        for name, parent in brought_along(wanted):
            if extra not in extras.setdefault(name, []):
                extras[name].append(extra)
            if not parents.setdefault(name, parent) or not parent:
                parents[name] = ""
    return [package_of(name, extras[name], parents[name]) for name in sorted(extras)]


def package_of(name: str, extras: Sequence[str], parent: str) -> Package:
    text = licence_of(distribution(name))
    kinds = frozenset(map(kind_of, re.split(r" AND | OR |, ", text)))
    shown = (ALWAYS,) if ALWAYS in extras else tuple(extras)
    return Package(name, text, kinds, shown, PURPOSES[name] if not parent else f"{parent} needs it")


def licence_of(found: Distribution) -> str:
    """The expression, the field where it is a name and not a whole text, or the classifiers."""

    def first(name: str) -> str:
        return str((found.metadata.get_all(name) or [""])[0]).strip()

    text = first("License")
    if expression := first("License-Expression"):
        return expression
    if text and len(text) <= 60 and "\n" not in text and "Copyright" not in text:
        return text.removeprefix("OSI Approved :: ")
    classified = [str(one) for one in found.metadata.get_all("Classifier") or [] if str(one).startswith("License ::")]
    return ", ".join(one.split(" :: ")[-1] for one in classified) or UNKNOWN


def kind_of(licence: str) -> str:
    return next((kind for pattern, kind in KNOWN.items() if re.search(pattern, licence, re.IGNORECASE)), UNKNOWN)


def refused(packages: Sequence[Package]) -> list[str]:
    return [package.name for package in packages if package.kinds & REFUSED]


def table(packages: Sequence[Package]) -> str:
    rows = ["| package | licence | extra | what it is for |", "|---|---|---|---|", *map(str, packages)]
    return "\n".join(rows) + "\n"


def command(config: LicencesConfig) -> None:
    packages = run_time_packages()
    if config.document is None:
        print(table(packages), end="")
    else:
        before, marker, _ = read_text(config.document).partition(MARKER)
        if not marker:
            raise InvalidInput(f"{config.document} has no line {MARKER.strip()}")
        write_text(config.document, before + marker + "\n" + table(packages))
    print(json.dumps({package.name: package.licence for package in packages}))
    if found := refused(packages):
        raise UserError(f"not allowed at run time, or not known: the licences of {', '.join(found)}.")


def main(arguments: Sequence[str] | None = None) -> int:
    return run("python -m benchmarks.licences", LicencesConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

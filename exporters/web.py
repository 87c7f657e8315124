"""The browser: the ONNX model, onnxruntime-web and a page that shows what it finds, all in one folder."""

from __future__ import annotations

import base64
import hashlib
import tarfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from torch import nn

from runtimes.errors import InvalidInput
from runtimes.spec import ModelSpec

from .kit.steps import Settings
from .kit.writing import write_kit
from .onnx import export_onnx
from .options import ExportOptions
from .parity import NMS_THRESHOLD, StageCheck

KIT_SCORE = 0.01  # candidates of the kit; the page itself begins at 0.25

LICENCE = """onnxruntime-web {version}, https://github.com/microsoft/onnxruntime, unchanged files of its npm package.
The notices of what is compiled into it: ThirdPartyNotices.txt there.

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


@dataclass(frozen=True)
class NpmPackage:
    """One version of a package. integrity: as npm writes it, "sha512-" and the hash in base64."""

    name: str
    version: str
    integrity: str

    @property
    def address(self) -> str:
        """Below a registry."""
        return f"{self.name}/-/{self.name}-{self.version}.tgz"

    def check(self, archive: Path) -> None:
        """Raise `InvalidInput` where a file is not this package's."""
        digest = hashlib.sha512(archive.read_bytes()).digest()
        if self.integrity != f"sha512-{base64.b64encode(digest).decode()}":
            raise InvalidInput(f"{archive} is not {self.name} {self.version}: its hash is another.")


ONNXRUNTIME_WEB = NpmPackage(
    "onnxruntime-web",
    "1.30.0",
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
)

# What the page loads for WASM, and for WebGPU.
RUNTIME_FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)


def check_web(spec: ModelSpec, options: ExportOptions) -> None:
    """Raise `InvalidInput`, before any work, for what the page cannot run."""
    if spec.batch != 1:
        raise InvalidInput("the page runs one image at a time: leave out --batch, or leave out web.")
    if spec.nms or spec.topk:
        raise InvalidInput("the page does the NMS itself: leave out --nms and --topk, or leave out web.")


def export_web(model: nn.Module, spec: ModelSpec, directory: Path, options: ExportOptions, check: StageCheck) -> Path:
    """Write the page and all that it needs into `directory`. Returns the ONNX file. `check_web` is to be asked first.

    The conformance kit comes from the reference, so that the page can prove the model in any visitor's browser.
    """
    if options.web is None:
        raise InvalidInput("web needs the onnxruntime-web package: ExportOptions(web=WebOptions(PACKAGE, IMAGES)).")
    ONNXRUNTIME_WEB.check(options.web.package)
    path = export_onnx(model, spec, directory, options, check)
    for file in files("exporters").joinpath("web_page").iterdir():
        if file.is_file():
            (directory / file.name).write_bytes(file.read_bytes())
    unpack(options.web.package, directory / "ort")
    kit = directory / "kit"
    kit.mkdir()
    settings = Settings(check.reference.spec, KIT_SCORE, NMS_THRESHOLD)
    kept = (
        "letterbox",
        settings.network_step,
        "detections",
    )  # what it takes to prove a model that detects nothing here
    write_kit(check.reference, settings, options.web.images, kit, only=kept)
    return path


def unpack(archive: Path, folder: Path) -> None:
    """The files of onnxruntime-web that the page loads, and their licence."""
    folder.mkdir()
    with tarfile.open(archive) as package:
        for name in RUNTIME_FILES:
            member = package.extractfile(f"package/dist/{name}")
            assert member is not None  # by its hash
            (folder / name).write_bytes(member.read())
    (folder / "LICENSE").write_text(LICENCE.format(version=ONNXRUNTIME_WEB.version), encoding="utf-8")

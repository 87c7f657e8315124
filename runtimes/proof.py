"""parity.json names the files that were proven, by their hashes: what is loaded has to be what was proven."""

from __future__ import annotations

import hashlib
from pathlib import Path

from .errors import InvalidInput
from .json_file import check_regular, read_json_object

RECORD = "parity.json"
PROVEN_SUFFIXES = (".onnx", ".xml", ".bin", ".param")  # an engine can be built anew, and has its hash in engine.json


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def weights_beside(model: Path) -> Path:
    """The weights of an OpenVINO or NCNN model: `.bin`, or `.BIN` where that is what is there."""
    lower, upper = model.with_suffix(".bin"), model.with_suffix(".BIN")
    return upper if upper.exists() and not lower.exists() else lower


def proven_files(folder: Path) -> dict[str, str]:
    """Name and hash of each model file in an artifact's folder."""
    return {file.name: sha256_file(file) for file in sorted(folder.iterdir()) if file.suffix.lower() in PROVEN_SUFFIXES}


def check_proven(model: Path) -> None:
    """Raise `InvalidInput` where a model file, or the weights beside it, is not the one that was proven.

    Files without a record, such as those of other exporters, pass.
    """
    record = model.with_name(RECORD)
    if not record.exists():
        return
    files = read_json_object(record).get("files")
    if not isinstance(files, dict):
        raise InvalidInput(f"{record} is damaged: its files are no names with hashes. Export again.")
    for file in (model, weights_beside(model)):
        check_regular(file)
        if file.suffix.lower() not in PROVEN_SUFFIXES or not file.exists():
            continue
        if file.name not in files:
            raise InvalidInput(f"{record} does not name {file.name}: it is of another model. Export again.")
        if sha256_file(file) != str(files[file.name]):
            raise InvalidInput(
                f"{file} is not the file that was proven: it is damaged, or was changed. Export it again, or delete"
                f" {RECORD} beside it if it was you who changed it."
            )

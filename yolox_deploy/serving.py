"""python -m yolox_deploy.serving: what inference servers load, around an artifact. Runs without torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from exporters.serving.contract import open_served
from exporters.serving.servers import SERVERS, write_serving
from runtimes.errors import InvalidInput

from .console import run
from .files import check_output_folder
from .model_argument import FirstModel, ModelOption, find_artifact, one_model
from .options import Json

ServerName = Literal["triton", "deepstream", "ovms"]


TYPE_NEXT = "yolox-deploy serving ARTIFACT --server triton, with the folder that export wrote"


@dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """Lay out an artifact for inference servers, each in a folder OUTPUT/<server>/ with a README.md.

    triton: NVIDIA Triton's model repository; its model takes an image file and gives detections. deepstream: an nvinfer
    configuration and the C++ source that reads the boxes. ovms: OpenVINO Model Server's config.json and model.
    """

    artifact: FirstModel = ""
    """Artifact: its folder, or the model file in it."""
    weights: ModelOption = ()
    """The same as ARTIFACT."""
    server: tuple[ServerName, ...]
    """Which servers."""
    output: Path = Path("serving")
    """Folder to write the servers' folders into."""
    overwrite: bool = False
    """Replace what an earlier call wrote there."""
    json: Json = None
    """File for JSON, {"folders": {SERVER: FOLDER}}; "-" is standard output, which then holds nothing else."""


def command(config: ServingConfig) -> dict[str, Any]:
    artifact = one_model(config.artifact, *config.weights, type_next=TYPE_NEXT)
    check_output_folder(config.output, "--output")
    folders = {server: config.output / server for server in config.server}
    if not folders:
        raise InvalidInput(f"--server names no server: give some of {', '.join(SERVERS)}.")
    for folder in folders.values():
        if folder.exists() and not config.overwrite:
            raise InvalidInput(f"{folder} exists: choose another --output, or replace it with --overwrite.")
    served = open_served(find_artifact(artifact))
    for server in folders:
        SERVERS[server].check(served)
    for server, folder in folders.items():
        write_serving(served, server, folder)
        print(f"{folder}: {folder / 'README.md'} says how to start it")
    return {"folders": {server: str(folder) for server, folder in folders.items()}}


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy serving", ServingConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

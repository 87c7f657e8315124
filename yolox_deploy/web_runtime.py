"""onnxruntime-web from npm, for `export --target web`: one version, checked by its hash, kept in the cache folder."""

from __future__ import annotations

import os
from pathlib import Path

from exporters.kit.writing import IMAGES, SEED
from exporters.options import WebOptions
from exporters.web import ONNXRUNTIME_WEB
from runtimes.errors import InvalidInput

from .data.shapes import shapes_images
from .json_output import DryRunEnd
from .model.download import DownloadError, cache_folder, check_address, fetch_beside

# YOLOX_DEPLOY_NPM replaces it.
REGISTRY, REGISTRY_VARIABLE = "https://registry.npmjs.org", "YOLOX_DEPLOY_NPM"


def web_options(dry_run: bool) -> WebOptions:
    """With generated images, since whoever opens the page can see them."""
    return WebOptions(onnxruntime_web(dry_run), shapes_images(IMAGES, SEED))


def onnxruntime_web(dry_run: bool = False) -> Path:
    """The archive of `ONNXRUNTIME_WEB`: from the cache, or downloaded into it.

    Raises `DownloadError` where that fails, or where it is not that version; in a dry run, which downloads nothing,
    `DryRunEnd` where there is none.
    """
    path = cache_folder() / Path(ONNXRUNTIME_WEB.address).name
    if not path.exists():
        if dry_run:
            raise DryRunEnd("onnxruntime-web would be downloaded first; what needs it is not checked.")
        url = f"{os.environ.get(REGISTRY_VARIABLE, REGISTRY).rstrip('/')}/{ONNXRUNTIME_WEB.address}"
        check_address(url, REGISTRY_VARIABLE)
        part = fetch_beside(url, path, f"name a mirror of npm in {REGISTRY_VARIABLE}, or put the file at {path}.")
        try:
            ONNXRUNTIME_WEB.check(part)
        except InvalidInput:
            part.unlink()
            raise DownloadError(f"{url} is not what it was when this was written; it was removed.") from None
        part.replace(path)
    try:
        ONNXRUNTIME_WEB.check(path)
    except InvalidInput:
        raise DownloadError(f"{path} has changed since it was downloaded; remove it and run this again.") from None
    return path

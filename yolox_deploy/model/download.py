"""Official weights by name, into a cache folder."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO

from runtimes.errors import InvalidInput, UserError
from runtimes.proof import sha256_file
from yolox_deploy.json_output import DryRunEnd
from yolox_deploy.progress import progress_bar

from .safe_save import is_whole
from .variants import VariantName

# The official release. YOLOX_DEPLOY_MIRROR replaces it, YOLOX_DEPLOY_CACHE the cache folder.
RELEASE = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0"
MIRROR_VARIABLE, CACHE_VARIABLE = "YOLOX_DEPLOY_MIRROR", "YOLOX_DEPLOY_CACHE"

FILES: dict[VariantName, str] = {
    "yolox-nano": "yolox_nano.pth",
    "yolox-tiny": "yolox_tiny.pth",
    "yolox-s": "yolox_s.pth",
    "yolox-m": "yolox_m.pth",
    "yolox-l": "yolox_l.pth",
    "yolox-x": "yolox_x.pth",
    "yolox-darknet53": "yolox_darknet.pth",
}
TIMEOUT = 30  # seconds without a byte
LARGEST = 2 * 2**30  # bytes; the largest official file has 0.8 GB


class DownloadError(UserError):
    """A file could not be fetched; the message says how to do without."""


def cache_folder() -> Path:
    configured = os.environ.get(CACHE_VARIABLE)
    if configured:
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yolox-deploy"


def official_weights(variant: VariantName, dry_run: bool = False) -> Path:
    """The official checkpoint of a variant: from the cache, or downloaded into it, with resume and a check.

    Raises `DownloadError` where that fails, and in a dry run, which downloads nothing, `DryRunEnd` where there is none.
    """
    name = FILES[variant]
    path = cache_folder() / name
    if path.exists():
        verify(path)
        return path
    if dry_run:
        raise DryRunEnd(f"the official weights of {variant} would be downloaded first; what needs them is not checked.")
    url = f"{os.environ.get(MIRROR_VARIABLE, RELEASE).rstrip('/')}/{name}"
    check_address(url, MIRROR_VARIABLE)
    part = fetch_beside(
        url, path, f"get the file elsewhere and give --weights FILE, or name a mirror in {MIRROR_VARIABLE}."
    )
    _record(part, path)
    return path


def check_address(url: str, variable: str) -> None:
    """Raise `InvalidInput` where a variable of the environment holds no address."""
    if not url.startswith(("https://", "http://")):
        raise InvalidInput(f"{variable} must start with https:// (or http:// on your own network), not be {url!r}.")


def fetch_beside(url: str, path: Path, otherwise: str) -> Path:
    """Download what is to become `path` into a file beside it, which is returned.

    Raises `DownloadError` where that fails, which says what else to do without a connection.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fetch(url, part)
    except (OSError, EOFError, HTTPException, ValueError) as error:  # URLError and HTTPError are OSErrors
        raise DownloadError(f"cannot download {url} ({error}). Without a connection, {otherwise}") from None
    return part


class StayEncrypted(urllib.request.HTTPRedirectHandler):
    """Follows the server to another address, but not from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if req.full_url.startswith("https://") and not newurl.startswith("https://"):
            raise urllib.error.URLError(f"the server sends on to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(url: str, part: Path) -> None:
    """Download into `part`, going on from what is there. Raises `OSError` or `EOFError` where it does not complete."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.build_opener(StayEncrypted).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: nothing is left of the range, or the file has changed; start anew
            raise
        part.unlink()
        fetch(url, part)
        return
    with response:
        if response.status != 206:  # the server sends the whole file
            done = 0
        remaining = response.headers.get("Content-Length")
        total = done + int(remaining) if remaining else None
        if (total or 0) > LARGEST:
            raise EOFError(f"the server offers {total} bytes, more than any official file has")
        progress = progress_bar(
            total=total, initial=done, unit="B", unit_scale=True, desc=part.name.removesuffix(".part")
        )
        with part.open("ab" if done else "wb") as file, progress:
            while block := response.read(1 << 16):
                file.write(block)
                progress.update(len(block))
                if file.tell() > LARGEST:
                    part.unlink()
                    raise EOFError(f"the server sends more than {LARGEST} bytes, more than any official file has")
    size = part.stat().st_size
    if total is not None and size != total:
        raise EOFError(f"the connection broke at {size} of {total} bytes; run it again to go on from there")


def _record(part: Path, path: Path) -> None:
    """Check a finished download, note its hash beside it, and give it its name."""
    if not is_whole(part):
        part.unlink()
        raise DownloadError(f"the download of {path.name} is damaged and was removed; run it again.")
    _hash_file(path).write_text(sha256_file(part), encoding="ascii")
    part.replace(path)


def verify(path: Path) -> None:
    """Raise `DownloadError` where a cached file is not what was downloaded."""
    noted = _hash_file(path)
    if noted.exists() and noted.read_text(encoding="ascii") != sha256_file(path):
        raise DownloadError(f"{path} has changed since it was downloaded; remove it and run this again.")


def _hash_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")

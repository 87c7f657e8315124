"""Reading images, and finding them."""

from __future__ import annotations

import glob
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import cv2
import numpy as np

from runtimes.cores import usable_cores
from runtimes.errors import InvalidInput, MissingBackend, first_line
from runtimes.json_file import check_regular
from runtimes.preprocess import Image
from yolox_deploy.console import warn
from yolox_deploy.progress import progress_bar

from .jpeg import START as JPEG_START
from .jpeg import decode_jpeg

# What every OpenCV reads that this project runs with: a file of such a name is an image, if maybe a damaged one. Of
# others the first bytes decide, which differ between builds (AVIF, GIF, Radiance HDR, PFM, Sun raster, OpenEXR).
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".jp2"}
IMAGE_SUFFIXES |= {".pgm", ".ppm", ".pbm", ".pnm"}
# What lies beside images and is none by intention.
BESIDE_SUFFIXES = {".txt", ".xml", ".json", ".csv", ".tsv", ".yaml", ".yml", ".md", ".html", ".log", ".cache", ".db"}
BESIDE_SUFFIXES |= {".ini", ".names", ".data", ".npy", ".npz", ".sh", ".py", ".ipynb", ".toml", ".zip", ".gz", ".tar"}
# Photos as the sensor gave them, which begin like a TIFF of their small preview; previews of video.
PREVIEW_SUFFIXES = {".dng", ".nef", ".nrw", ".cr2", ".arw", ".sr2", ".srf", ".srw", ".pef", ".orf", ".rw2", ".raw"}
PREVIEW_SUFFIXES |= {".3fr", ".iiq", ".dcr", ".kdc", ".mrw", ".erf", ".mef", ".mos", ".raf", ".x3f", ".thm"}
UNKNOWN_SIZE = (0, 0)
EXIF_ORIENTATION, TIFF_WIDTH, TIFF_HEIGHT = 0x0112, 0x0100, 0x0101
AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
UPRIGHT, LYING = 1, {5, 6, 7, 8}  # orientations: as it is stored; those that swap width and height
TURNED = {"JPEG", "MPO", "PNG", "TIFF"}  # by every OpenCV; WebP by newer ones alone, and AVIF by none so far
HEADERS_AT_ONCE = 64  # read by one thread before it takes the next


@dataclass(frozen=True)
class Header:
    """What a file says of its image without being decoded. size: (height, width) that `read_image` would give, unknown
    where it is no image. orientation: by EXIF, 1 to 8, where `read_image` turns it upright by that, else 1. identity:
    the same for all names of one file, also by links."""

    size: tuple[int, int]
    orientation: int = UPRIGHT
    identity: tuple[int, int] = (0, 0)


def read_image(path: Path) -> Image:
    """An image file as BGR uint8 (H, W, 3), memory of its own. Training, evaluation and detection all read by this.

    It is turned upright by its EXIF orientation. Grey becomes three equal channels, 16 bits become 8, alpha is dropped,
    CMYK is converted: as OpenCV's IMREAD_COLOR does. Raises `InvalidInput` for what is no image, or not whole.
    """
    check_regular(path)
    try:
        content = path.read_bytes()  # imread cannot open every path on every system
    except OSError as error:
        raise InvalidInput(f"cannot read the image {path}: {error.strerror or error}.") from None
    return decode_image(content, str(path))


def decode_image(content: bytes, source: str) -> Image:
    """The same of a file's content; `source` names it in the error."""
    is_jpeg = content.startswith(JPEG_START)
    try:
        image = decode_jpeg(content) if is_jpeg else _decode(content)
    except cv2.error:  # of a header that asks for more pixels than OpenCV takes
        image, is_jpeg = None, False
    if image is None and is_jpeg:
        raise InvalidInput(f"{source} is not an image that OpenCV reads whole: the file is cut short, or damaged.")
    if image is None:
        raise InvalidInput(f"{source} is not an image that OpenCV reads.")
    return image


def _decode(content: bytes) -> Image | None:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    return None if image is None else image.astype(np.uint8, copy=False)


def read_header(path: Path) -> Header:
    """Size and orientation from the file's first bytes; by decoding it where Pillow does not know the format.

    Raises `InvalidInput` if it is no image.
    """
    try:
        from PIL import Image as Pillow
        from PIL import UnidentifiedImageError
    except ImportError:
        raise MissingBackend("reading the sizes of images needs Pillow: pip install pillow") from None
    check_regular(path)
    try:
        stat = path.stat()
        identity = (stat.st_dev, stat.st_ino)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tags that do not matter here, and of very large images
            with Pillow.open(path) as image:
                orientation = image.getexif().get(EXIF_ORIENTATION, UPRIGHT)
                # Newer Pillows turn the size of a TIFF, and only of a TIFF, themselves: its tags are what is stored.
                tags = getattr(image, "tag_v2", None)
                width, height = (tags[TIFF_WIDTH], tags[TIFF_HEIGHT]) if tags else image.size
                turned = image.format in TURNED or orientation == UPRIGHT
        if not turned and not _is_turned(path):
            orientation = UPRIGHT
    except UnidentifiedImageError as error:
        try:
            return Header(read_image(path).shape[:2], UPRIGHT, identity)
        except InvalidInput:
            raise InvalidInput(f"{path} is not an image that Pillow or OpenCV reads: {first_line(error)}.") from None
    except (OSError, ValueError, SyntaxError, cv2.error, Pillow.DecompressionBombError) as error:
        raise InvalidInput(f"{path} is not an image that Pillow reads: {first_line(error)}.") from None
    lying = orientation in LYING
    return Header((width, height) if lying else (height, width), orientation, identity)


def _is_turned(path: Path) -> bool:
    """Whether this OpenCV turns the image by its EXIF data."""
    content = np.frombuffer(path.read_bytes(), np.uint8)
    turned, stored = (cv2.imdecode(content, flags) for flags in (cv2.IMREAD_COLOR, AS_STORED))
    return turned is not None and stored is not None and not np.array_equal(turned, stored)


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) that `read_image` would give. Raises `InvalidInput` if it is no image."""
    return read_header(path).size


def known_size(path: Path) -> tuple[int, int]:
    """`image_size`, or `UNKNOWN_SIZE` for what is no image: whether that is an error is not for a reader to say."""
    return _known_header(path).size


def read_headers(paths: Sequence[Path]) -> list[Header]:
    """The header of each file, of unknown size where it is no image. Shows a progress bar on a terminal."""
    some = [paths[start : start + HEADERS_AT_ONCE] for start in range(0, len(paths), HEADERS_AT_ONCE)]
    with (
        ThreadPoolExecutor(usable_cores()) as pool,
        progress_bar(total=len(paths), unit="image", desc="sizes", delay=1) as bar,
    ):
        found = []
        for headers in pool.map(lambda part: [_known_header(path) for path in part], some):
            found += headers
            bar.update(len(headers))
    return found


def _known_header(path: Path) -> Header:
    try:
        return read_header(path)
    except InvalidInput:
        return Header(UNKNOWN_SIZE)


class ImageFiles(Sequence[Image]):
    """Image files as a sequence of images, each read when it is asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> ImageFiles: ...
    def __getitem__(self, index: int | slice) -> Image | ImageFiles:
        return ImageFiles(self.paths[index]) if isinstance(index, slice) else read_image(self.paths[index])


def is_image(path: Path) -> bool:
    """Whether OpenCV reads such files: by the suffix where that says it, else by the first bytes."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES or suffix in BESIDE_SUFFIXES or suffix in PREVIEW_SUFFIXES:
        return suffix in IMAGE_SUFFIXES
    return path.is_file() and is_text(path) and bool(cv2.haveImageReader(str(path)))


def is_text(path: Path) -> bool:
    """Whether its name is text. On Linux names may be any bytes, on which OpenCV's functions that take names crash."""
    return not any("\ud800" <= letter <= "\udfff" for letter in str(path))


def images_among(files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The images, sorted, and the files that one could take for images and that are none.

    Of hidden files, folders, and what usually lies beside images, such as labels, nothing is said.
    """
    images, others = [], []
    for file in files:
        if file.name.startswith(".") or "__MACOSX" in file.parts:
            continue
        if is_image(file):
            images.append(file)
        elif file.suffix.lower() not in BESIDE_SUFFIXES and file.suffix and file.is_file():
            others.append(file)
    return sorted(images), sorted(others)


def describe_left_out(files: Sequence[Path]) -> str:
    """Such as "3 files that are no images (.heic 2, .svg 1)"."""
    counts = Counter(file.suffix.lower() for file in files)
    each = ", ".join(f"{suffix} {count}" for suffix, count in counts.most_common())
    return f"1 file that is no image ({each})" if len(files) == 1 else f"{len(files)} files that are no images ({each})"


def find_images(source: str | Path) -> list[Path]:
    """The images that a file, a folder or a glob pattern names, sorted. Says how many other files are left out.

    Raises `InvalidInput` where there are none.
    """
    path = Path(source)
    if path.is_dir():
        found, others = images_among(path.iterdir())
    elif path.exists():
        found, others = ([path], []) if is_image(path) or not path.is_file() else ([], [path])
    else:
        found, others = images_among(map(Path, glob.glob(str(source), recursive=True)))
    but = f", but {describe_left_out(others)}" if others else ""
    if not found and path.is_file():
        raise InvalidInput(f"{source} is not an image that OpenCV reads.")
    if not found and path.is_dir():
        folders = [
            one for one in (*path.glob("*"), *path.glob("*/*")) if one.is_dir() and any(map(is_image, one.iterdir()))
        ]
        inside = f"; there are some in {min(folders)}" if folders else ""
        raise InvalidInput(f"{source} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}){but}{inside}.")
    if not found:
        why = f"nothing fits the pattern{but}" if others else "it does not exist, or nothing fits the pattern"
        raise InvalidInput(f"{source} names no image: {why}.")
    if others:
        warn(f"{source}: left out: {describe_left_out(others)}.")
    return found

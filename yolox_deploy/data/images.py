"""Reading images, and finding them."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import cv2
import numpy as np
import numpy.typing as npt

from runtimes.errors import InvalidInput, MissingBackend, first_line
from runtimes.json_file import check_regular
from runtimes.preprocess import Image

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
UNKNOWN_SIZE = (0, 0)
EXIF_ORIENTATION, TIFF_WIDTH, TIFF_HEIGHT = 0x0112, 0x0100, 0x0101
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
JPEG_TAIL = 4096  # bytes: some cameras write on after the end
LYING = {5, 6, 7, 8}  # orientations that swap width and height


def read_image(path: Path) -> Image:
    """An image file as BGR uint8 (H, W, 3), memory of its own. Training, evaluation and detection all read by this.

    It is turned upright by its EXIF orientation. Grey becomes three equal channels, 16 bits become 8, alpha is dropped,
    CMYK is converted: as OpenCV's IMREAD_COLOR does. Raises `InvalidInput` for what is no image, or not whole.
    """
    check_regular(path)
    try:
        content = np.fromfile(path, dtype=np.uint8)  # imread cannot open every path on every system
        image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    except OSError as error:
        raise InvalidInput(f"cannot read the image {path}: {error.strerror or error}.") from None
    except cv2.error:  # of a header that asks for more pixels than OpenCV takes
        image = None
    if image is None:
        raise InvalidInput(f"{path} is not an image that OpenCV reads.")
    if is_cut_short(content):
        raise InvalidInput(f"{path} is not an image that OpenCV reads whole: the file is cut short.")
    return image.astype(np.uint8, copy=False)


def is_cut_short(content: npt.NDArray[np.uint8]) -> bool:
    """Whether a JPEG lacks its end, which OpenCV before 5 fills with grey and takes for an image."""
    encoded = content.tobytes()
    return encoded.startswith(JPEG_START) and JPEG_END not in encoded[-JPEG_TAIL:]


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) that `read_image` would give, from the header alone. Raises `InvalidInput` if it is no image."""
    try:
        from PIL import Image as Pillow
    except ImportError:
        raise MissingBackend("reading the sizes of images needs Pillow: pip install pillow") from None
    check_regular(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tags that do not matter here, and of very large images
            with Pillow.open(path) as image:
                lying = image.getexif().get(EXIF_ORIENTATION) in LYING
                # Newer Pillows turn the size of a TIFF, and only of a TIFF, themselves: its tags are what is stored.
                tags = getattr(image, "tag_v2", None)
                width, height = (tags[TIFF_WIDTH], tags[TIFF_HEIGHT]) if tags else image.size
                return (width, height) if lying else (height, width)
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
        raise InvalidInput(f"{path} is not an image that Pillow reads: {first_line(error)}.") from None


def known_size(path: Path) -> tuple[int, int]:
    """`image_size`, or `UNKNOWN_SIZE` for what is no image: whether that is an error is not for a reader to say."""
    try:
        return image_size(path)
    except InvalidInput:
        return UNKNOWN_SIZE


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


def find_images(source: str | Path) -> list[Path]:
    """The images that a file, a folder or a glob pattern names, sorted. Raises `InvalidInput` where there are none."""
    path = Path(source)
    if path.is_dir():
        found = [file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES]
    elif path.exists():
        found = [path]
    else:
        found = [
            Path(name) for name in glob.glob(str(source), recursive=True) if Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    if not found and path.is_dir():
        raise InvalidInput(f"{source} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    if not found:
        raise InvalidInput(f"{source} names no image: it does not exist, or nothing fits the pattern.")
    return sorted(found)

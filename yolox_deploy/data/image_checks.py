"""What is odd about the image files of a data set: every one is read whole."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from runtimes.cores import usable_cores
from runtimes.errors import InvalidInput
from runtimes.json_file import check_regular
from yolox_deploy.progress import progress_bar

from .dataset import Dataset, LabelledImage, labels_differ
from .faults import Fault, counted
from .images import UNKNOWN_SIZE, UPRIGHT, decode_image
from .set_checks import size_fault

COARSEST_STRIDE = 32
MOST_LEVELS = 2**16
SHALLOW = (b"\xff\xd8", b"RIFF", b"BM", b"GIF8")  # JPEG, WebP, BMP and GIF: never 16 bits a channel
PNG_START, PNG_DEPTH = b"\x89PNG", 24


@dataclass(frozen=True)
class ImageFile:
    """What reading a file showed. size: (height, width), unknown where it is no image, or not whole. digest: of its
    content, empty where there is none to read. why: what is wrong, a sentence. highest: the largest value of an image
    of 16 bits, 0 for others."""

    size: tuple[int, int]
    digest: str
    why: str = ""
    highest: int = 0


def examine(paths: Sequence[Path]) -> dict[Path, ImageFile]:
    """Read every file, on all cores. Shows a progress bar."""
    unique = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(usable_cores()) as pool:
        found = progress_bar(pool.map(examine_file, unique), total=len(unique), unit="image", desc="reading")
        return dict(zip(unique, found, strict=True))


def examine_file(path: Path) -> ImageFile:
    try:
        check_regular(path)
        content = path.read_bytes()
    except OSError as error:
        return ImageFile(UNKNOWN_SIZE, "", f"cannot read {path}: {error.strerror}.")
    except InvalidInput as error:
        return ImageFile(UNKNOWN_SIZE, "", str(error))
    digest = hashlib.sha256(content).hexdigest()
    try:
        image = decode_image(content, str(path))
    except InvalidInput as error:
        return ImageFile(UNKNOWN_SIZE, digest, str(error))
    return ImageFile((image.shape[0], image.shape[1]), digest, highest=_highest(content))


def _highest(content: bytes) -> int:
    """The largest value of an image of 16 bits; 0 of others, of which most need not be decoded again to see that."""
    if content.startswith(SHALLOW) or (content.startswith(PNG_START) and content[PNG_DEPTH] != 16):
        return 0
    stored = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    return int(stored.max()) if stored is not None and stored.dtype == np.uint16 else 0


def image_faults(dataset: Dataset, files: Mapping[Path, ImageFile], size: tuple[int, int]) -> list[Fault]:
    """What is odd about each image, and which are the same. size: (height, width) of the network input."""
    faults: list[Fault] = []
    first: dict[str, LabelledImage] = {}
    for image in dataset.images:
        file, name = files[image.path], image.path.name
        faults += _file_faults(image, file, size)
        if (same := first.get(file.digest)) is not None:
            place = f"{name} = {same.path.name}"
            faults.append(Fault("same image twice", place))
            if labels_differ(image, same):
                faults.append(Fault("same image with different labels", place))
        elif file.digest:
            first[file.digest] = image
    return faults


def _file_faults(image: LabelledImage, file: ImageFile, size: tuple[int, int]) -> list[Fault]:
    name = image.path.name
    if file.size == UNKNOWN_SIZE:
        return [Fault("unreadable image", name, file.why)]
    faults = []
    if image.size not in (file.size, UNKNOWN_SIZE):
        orientation = image.header.orientation if image.header else UPRIGHT
        faults.append(size_fault(image, file.size, orientation))
    if file.highest and file.highest < MOST_LEVELS // 2:
        left = counted(file.highest // 256 + 1, "grey level")
        place = f"{name}: up to {file.highest} of {MOST_LEVELS - 1}; {left} left in 8 bits"
        faults.append(Fault("16-bit image of few levels", place))
    ratio = min(size[0] / file.size[0], size[1] / file.size[1])
    if min(file.size) * ratio < COARSEST_STRIDE:
        faults.append(Fault("extreme aspect ratio", f"{name} of {_sides(file.size)}"))
    return faults


def shared_images(
    dataset: Dataset, other: str, images: Sequence[LabelledImage], files: Mapping[Path, ImageFile]
) -> list[Fault]:
    """Images of a split that are also in another one, by what is in the files, not by their names."""
    there = {files[image.path].digest: image.path.name for image in images if files[image.path].digest}
    return [
        Fault("image in two splits", f"{image.path.name} = {there[files[image.path].digest]} of {other}")
        for image in dataset.images
        if files[image.path].digest in there
    ]


def _sides(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"

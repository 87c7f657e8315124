"""What is odd about the image files of a data set: every one is read whole."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from runtimes.cores import usable_cores
from runtimes.errors import InvalidInput
from runtimes.json_file import check_regular

from .dataset import Dataset, LabelledImage
from .faults import Fault
from .images import UNKNOWN_SIZE, read_image

COARSEST_STRIDE = 32


@dataclass(frozen=True)
class ImageFile:
    """What reading a file showed. size: (height, width), unknown where it is no image, or not whole. digest: of its
    content, empty where there is none to read. why: what is wrong, a sentence."""

    size: tuple[int, int]
    digest: str
    why: str = ""


def examine(paths: Sequence[Path]) -> dict[Path, ImageFile]:
    """Read every file, on all cores. Shows a progress bar."""
    unique = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(usable_cores()) as pool:
        found = tqdm(pool.map(examine_file, unique), total=len(unique), unit="image", desc="reading")
        return dict(zip(unique, found, strict=True))


def examine_file(path: Path) -> ImageFile:
    try:
        check_regular(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return ImageFile(UNKNOWN_SIZE, "", f"cannot read {path}: {error.strerror}.")
    except InvalidInput as error:
        return ImageFile(UNKNOWN_SIZE, "", str(error))
    try:
        image = read_image(path)
    except InvalidInput as error:
        return ImageFile(UNKNOWN_SIZE, digest, str(error))
    return ImageFile((image.shape[0], image.shape[1]), digest)


def image_faults(dataset: Dataset, files: Mapping[Path, ImageFile], size: tuple[int, int]) -> list[Fault]:
    """What is odd about each image, and which are the same. size: (height, width) of the network input."""
    faults: list[Fault] = []
    first: dict[str, str] = {}
    for image in dataset.images:
        file, name = files[image.path], image.path.name
        faults += _file_faults(image, file, size)
        if file.digest in first:
            faults.append(Fault("same image twice", f"{name} = {first[file.digest]}"))
        elif file.digest:
            first[file.digest] = name
    return faults


def _file_faults(image: LabelledImage, file: ImageFile, size: tuple[int, int]) -> list[Fault]:
    name = image.path.name
    if file.size == UNKNOWN_SIZE:
        return [Fault("unreadable image", name, file.why)]
    faults = []
    if image.size not in (file.size, UNKNOWN_SIZE):
        turned = ", which is turned by its EXIF data" if image.size == file.size[::-1] else ""
        place = f"{name} of {_sides(file.size)}{turned}, labelled as {_sides(image.size)}"
        faults.append(Fault("another size than labelled", place))
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

"""Image files of every kind: the right picture, or one sentence."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Pillow

from runtimes.errors import InvalidInput
from runtimes.preprocess import Image
from yolox_deploy.data.augment import Sample, fit
from yolox_deploy.data.dataset import Dataset, labelled_image
from yolox_deploy.data.images import find_images, image_size, known_size, read_header, read_image
from yolox_deploy.data.store import SampleStore

HEIGHT, WIDTH = 30, 40
# Each EXIF orientation, and what turns the stored rows and columns upright.
UPRIGHT: dict[int, Callable[[Image], Image]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda image: np.rot90(image),
}


def picture(height: int = HEIGHT, width: int = WIDTH) -> Image:
    """Smooth, so that it survives compression; each quarter another."""
    rows, columns = np.mgrid[:height, :width]
    planes = [60 + 180 * rows // height, 60 + 180 * columns // width, 200 - 90 * rows // height]
    return np.stack(planes, axis=2).astype(np.uint8)


def save(path: Path, array: npt.NDArray[np.generic]) -> Path:
    assert cv2.imwrite(str(path), array)
    return path


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_exif_turns_the_image_upright_and_its_size_with_it(suffix: str, orientation: int, tmp_path: Path) -> None:
    exif, path = Pillow.Exif(), tmp_path / f"turned.{suffix}"
    exif[0x0112] = orientation
    options = {"quality": 98, "subsampling": 0} if suffix == "jpg" else {"lossless": True} if suffix == "webp" else {}
    Pillow.fromarray(picture()[..., ::-1]).save(path, exif=exif, **options)
    found = read_image(path)
    expected = UPRIGHT[orientation](picture())
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= (6 if suffix == "jpg" else 0)
    assert image_size(path) == found.shape[:2]


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_the_header_knows_what_this_opencv_does_not_turn(orientation: int, tmp_path: Path) -> None:
    """AVIF, where it is read at all, and WebP, which older versions leave as it is stored."""
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    for suffix in ("avif", "webp"):
        path = tmp_path / f"turned.{suffix}"
        try:
            Pillow.fromarray(picture()).save(path, exif=exif)
        except (KeyError, OSError):  # this Pillow writes no AVIF
            continue
        if not cv2.haveImageReader(str(path)):
            continue
        stored = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        assert stored is not None
        header, found = read_header(path), read_image(path)
        assert header.size == found.shape[:2]
        assert (header.orientation == 1) == np.array_equal(found, stored)


def test_training_evaluation_and_detection_see_the_same_upright_image(tmp_path: Path) -> None:
    exif, path = Pillow.Exif(), tmp_path / "turned.png"
    exif[0x0112] = 6
    Pillow.fromarray(picture()[..., ::-1]).save(path, exif=exif)
    labelled = labelled_image(1, path, image_size(path), [[0, 0, 10, 20]], [0])
    seen_in_training = SampleStore([labelled], (96, 96))[0].image
    evaluated = Dataset(tmp_path, (labelled,), {1: "cat"}).read_images()[0]
    assert np.array_equal(evaluated, read_image(path))
    assert np.array_equal(seen_in_training, fit(Sample(evaluated, np.zeros((0, 5), np.float32)), (96, 96)).image)


def test_16_bits_grey_alpha_and_palette_are_as_opencv_reads_them(tmp_path: Path, random: np.random.Generator) -> None:
    grey, deep = random.integers(256, size=(9, 7), dtype=np.uint8), random.integers(65536, size=(9, 7, 3))
    colour = random.integers(256, size=(9, 7, 4), dtype=np.uint8)
    cases: dict[Path, Image] = {
        save(tmp_path / "grey.png", grey): np.stack([grey] * 3, axis=2),
        save(tmp_path / "deep.png", deep.astype(np.uint16)): (deep >> 8).astype(np.uint8),
        save(tmp_path / "deep.tif", deep.astype(np.uint16)): (deep >> 8).astype(np.uint8),
        save(tmp_path / "deep_grey.png", deep[..., 0].astype(np.uint16)): np.stack([deep[..., 0] >> 8] * 3, axis=2),
        save(tmp_path / "alpha.png", colour): colour[..., :3],
    }
    Pillow.fromarray(grey > 99).save(tmp_path / "one_bit.png")
    cases[tmp_path / "one_bit.png"] = np.stack([255 * (grey > 99).astype(np.uint8)] * 3, axis=2)
    Pillow.fromarray(picture()).quantize(16).save(tmp_path / "palette.png")
    with Pillow.open(tmp_path / "palette.png") as palette:
        cases[tmp_path / "palette.png"] = np.asarray(palette.convert("RGB"))[..., ::-1]
    for path, expected in cases.items():
        found = read_image(path)
        assert np.array_equal(found, cv2.imread(str(path), cv2.IMREAD_COLOR)), path.name
        assert np.abs(found.astype(int) - expected).max() <= (path.name.startswith("deep")), path.name
        assert found.dtype == np.uint8 and found.flags.writeable and image_size(path) == found.shape[:2]


def test_a_jpeg_in_cmyk_has_its_colours(tmp_path: Path) -> None:
    Pillow.fromarray(picture()[..., ::-1]).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=98, subsampling=0)
    found = read_image(tmp_path / "cmyk.jpg")
    assert np.abs(found.astype(int) - picture()).max() <= 8
    assert image_size(tmp_path / "cmyk.jpg") == (HEIGHT, WIDTH)


@pytest.mark.parametrize("shape", [(1, 1), (10, 20000), (20000, 10)])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_extreme_shapes(shape: tuple[int, int], suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"x.{suffix}", picture(*shape))
    assert read_image(path).shape == (*shape, 3) and image_size(path) == shape
    boxes = [[0, 0, shape[1], shape[0]]]
    sample = SampleStore([labelled_image(1, path, shape, boxes, [0])], (96, 64))[0]
    height, width = sample.image.shape[:2]
    assert 1 <= height <= 96 and 1 <= width <= 64 and max(height / 96, width / 64) > 0.98
    ratio = min(96 / shape[0], 64 / shape[1])
    assert sample.labels[0, :4] == pytest.approx([0, 0, shape[1] * ratio, shape[0] * ratio])


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp"])
def test_files_that_are_cut_short_are_refused(suffix: str, tmp_path: Path, random: np.random.Generator) -> None:
    whole = save(tmp_path / f"whole.{suffix}", random.integers(256, size=(64, 64, 3), dtype=np.uint8)).read_bytes()
    path = tmp_path / f"cut.{suffix}"
    for share in (0.0, 0.01, 0.3, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        assert problem(path).startswith(f"{path} is not an image that OpenCV reads"), share


def problem(path: Path) -> str:
    with pytest.raises(InvalidInput) as error:
        read_image(path)
    return str(error.value)


def test_what_is_no_image_is_one_sentence(tmp_path: Path, random: np.random.Generator) -> None:
    floats = random.random((9, 7, 3), dtype=np.float32)
    floats[0, 0] = np.nan
    save(tmp_path / "nan.tif", floats)
    (tmp_path / "text.jpg").write_text("no image")
    # A WebP header that asks for more pixels than OpenCV takes.
    (tmp_path / "vast.webp").write_bytes(b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f" + b"\xff" * 4 + b"\0" * 9)
    for name in ("nan.tif", "text.jpg", "vast.webp"):
        said = problem(tmp_path / name)
        assert said.startswith(f"{tmp_path / name} is not an image") and "\n" not in said and ".cpp" not in said
        assert name == "vast.webp" or known_size(tmp_path / name) == (0, 0)
    said = problem(tmp_path / "nowhere.png")
    assert said.startswith(f"cannot read the image {tmp_path / 'nowhere.png'}: ") and "Errno" not in said
    assert problem(tmp_path) == f"{tmp_path} is not a file: refused."
    (tmp_path / "link.png").symlink_to("a" * 300)  # a name that no file can have
    assert problem(tmp_path / "link.png").startswith(f"cannot read the image {tmp_path / 'link.png'}: ")


def test_damaged_files_end_in_a_sentence_or_an_image(tmp_path: Path, random: np.random.Generator) -> None:
    """Bytes change at random: nothing else is raised, nothing is warned, and both agree on the size."""
    for suffix in ("jpg", "png", "webp", "tif"):
        whole = save(tmp_path / f"whole.{suffix}", picture()).read_bytes()
        path, refused = tmp_path / f"damaged.{suffix}", 0
        for _ in range(60):
            content = bytearray(whole)
            # After a PNG's size: with another one, gigabytes are set apart before its checksum is looked at.
            for place in random.integers(33 if suffix == "png" else 0, len(content), 3):
                content[place] = random.integers(256)
            path.write_bytes(content)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                size = known_size(path)
            try:
                image = read_image(path)
            except InvalidInput as error:
                refused += 1
                assert "\n" not in str(error)
                continue
            assert image.dtype == np.uint8 and image.ndim == 3
            assert size in ((0, 0), image.shape[:2])
        assert refused > 5


def test_a_very_large_image_is_no_warning(tmp_path: Path) -> None:
    Pillow.new("1", (10000, 10000)).save(tmp_path / "large.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image_size(tmp_path / "large.png") == (10000, 10000)


SUFFIXES = ["jpg", "JPE", "jfif", "jp2", "pgm", "ppm", "pbm", "avif", "hdr", "webp", "gif", "sr", "ras", "tiff", "pfm"]


def folder_of_all_kinds(folder: Path) -> set[str]:
    """Images of every kind that this OpenCV writes; returns their names."""
    folder.mkdir()
    written = set()
    for suffix in SUFFIXES:
        array = picture()[..., 0] if suffix in ("pgm", "pbm", "pfm") else picture()
        pixels = array.astype(np.float32) / 255 if suffix in ("hdr", "pfm") else array
        encoding = {"JPE": "jpg", "jfif": "jpg"}.get(suffix, suffix)
        try:
            done, content = cv2.imencode(f".{encoding}", pixels)
        except cv2.error:  # of AVIF and GIF, in older versions
            continue
        if done:
            (folder / f"x.{suffix}").write_bytes(content.tobytes())
            written.add(f"x.{suffix}")
    return written


def test_a_folder_gives_all_that_opencv_reads(tmp_path: Path) -> None:
    written = folder_of_all_kinds(tmp_path / "images")
    assert {"x.jfif", "x.JPE", "x.pgm", "x.ppm", "x.hdr", "x.pfm", "x.ras", "x.tiff"} <= written
    found = find_images(tmp_path / "images")
    assert {path.name for path in found} == written
    for path in found:
        assert image_size(path) == read_image(path).shape[:2] == (HEIGHT, WIDTH), path.name
    (tmp_path / "images/x.pfm").rename(tmp_path / "images/without_suffix")
    assert tmp_path / "images/without_suffix" in find_images(tmp_path / "images")


def test_what_is_passed_over_is_counted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not what usually lies beside images, and hidden files. A photo as the sensor gave it begins like a TIFF."""
    save(tmp_path / "a.png", picture())
    save(tmp_path / "preview.tif", picture()).rename(tmp_path / "photo.NEF")
    save(tmp_path / ".part.png", picture())
    for name in ("a.heic", "b.HEIC", "c.svg", "a.txt", "a.json", "Thumbs.db", "._a.png", "labels.cache"):
        (tmp_path / name).write_bytes(b"no image")
    for source in (tmp_path, tmp_path, tmp_path / "*"):
        assert [path.name for path in find_images(source)] == ["a.png"]
    says = "left out: 4 files that are no images (.heic 2, .svg 1, .nef 1)."
    lines = capsys.readouterr().err.splitlines()
    assert sorted(lines) == sorted(f"warning: {source}: {says}" for source in (tmp_path, tmp_path / "*"))
    for name in ("a.heic", "photo.NEF"):
        with pytest.raises(InvalidInput, match="is not an image that OpenCV reads"):
            find_images(tmp_path / name)
    with pytest.raises(InvalidInput, match=r"nothing fits the pattern, but 1 file that is no image \(\.svg 1\)"):
        find_images(tmp_path / "*.svg")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/x.heic").write_bytes(b"no image")
    with pytest.raises(InvalidInput, match=r"holds no images .*, but 1 file that is no image \(\.heic 1\)"):
        find_images(tmp_path / "empty")


def test_folders_files_and_patterns(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "c.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in find_images(tmp_path)] == ["a.jpg", "b.PNG"]
    assert [path.name for path in find_images(tmp_path / "*.jpg")] == ["a.jpg"]
    with pytest.raises(InvalidInput, match="names no image"):
        find_images(tmp_path / "*.bmp")

"""JPEGs of every form: whole ones are read, whatever follows them; one that lacks a part is called cut short."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from runtimes.errors import InvalidInput
from runtimes.preprocess import Image
from yolox_deploy.data.images import decode_image, read_image
from yolox_deploy.data.jpeg import END, decode_jpeg, read_layout

FORMS = [(progressive, interval, grey) for progressive in (0, 1) for interval in (0, 5) for grey in (False, True)]


@pytest.fixture(params=FORMS, ids=str)
def encoded(request: pytest.FixtureRequest, random: np.random.Generator) -> bytes:
    """A photo-like picture, with a thumbnail that has an end marker of its own in the metadata."""
    progressive, interval, grey = request.param
    coarse = random.integers(256, size=(12, 17, 3), dtype=np.uint8)
    pixels = cv2.resize(coarse, (275, 190), interpolation=cv2.INTER_CUBIC)
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, interval]
    content = cv2.imencode(".jpg", pixels[..., 0] if grey else pixels, options)[1].tobytes()
    memory = io.BytesIO()
    Pillow.fromarray(pixels).resize((60, 40)).save(memory, "JPEG")
    thumbnail = memory.getvalue()
    return content[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + content[2:]


def plain(content: bytes) -> Image:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image.astype(np.uint8, copy=False)


def test_a_whole_picture_is_read_whatever_follows(encoded: bytes, random: np.random.Generator) -> None:
    noise = random.integers(256, size=10_000, dtype=np.uint8).tobytes()
    expected = plain(encoded)
    for name, content in {
        "as it is": encoded,
        "without its last marker": encoded[:-2],
        "with half of it": encoded[:-1],
        "10 kB of a camera": encoded + noise,
        "10 kB of FF": encoded + b"\xff" * 10_000,
        "zeros in place of the marker": encoded[:-2] + bytes(10_000),
        "a second picture (MPO)": encoded + encoded,
        "half of a second picture": encoded + encoded[: len(encoded) // 2],
        "a video (motion photo)": encoded + b"\0\0\0\x20ftypmp42" + noise,
        "fill bytes": encoded[:-2] + b"\xff\xff\xff" + END,
    }.items():
        found = decode_jpeg(content)
        assert found is not None and np.array_equal(found, expected), name


def test_a_picture_that_lacks_a_part_is_cut_short(encoded: bytes, tmp_path: Path) -> None:
    """The thumbnail's marker is near the end of some."""
    after_thumbnail = encoded.index(END) + 2
    half = (after_thumbnail + len(encoded)) // 2
    for name, content in {
        "half": encoded[:half],
        "half, and zeros": encoded[:half] + bytes(100_000),
        "half, and the marker of the end": encoded[:half] + END,
        "a tenth": encoded[: len(encoded) // 10],
        "the metadata alone": encoded[:after_thumbnail],
        "some bytes less": encoded[:-12],
    }.items():
        with pytest.raises(InvalidInput, match="cut short"):
            decode_image(content, name)
    (tmp_path / "half.jpg").write_bytes(encoded[:half])
    with pytest.raises(InvalidInput, match=r"half\.jpg is not an image that OpenCV reads whole: the file is cut short"):
        read_image(tmp_path / "half.jpg")


def test_a_picture_with_grey_corners_is_whole(random: np.random.Generator) -> None:
    """Grey is what fills a missing part: here it is the picture."""
    pixels = np.full((64, 64, 3), 128, np.uint8)
    pixels[20:40, 20:40] = random.integers(256, size=(20, 20, 3))
    for progressive in (0, 1):
        content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])[1].tobytes()
        found = decode_jpeg(content)
        assert found is not None and np.array_equal(found, plain(content)) and (found[-1, -1] == 128).all()


def test_photos_end_where_they_say(shared: Path) -> None:
    for path in sorted((shared / "data/coco-val2017-206/val2017").iterdir())[:60]:
        content = path.read_bytes()
        layout = read_layout(content)
        assert layout.end is not None and layout.sent
        if path.suffix == ".jpg":
            assert np.array_equal(read_image(path), plain(content))


def test_damaged_markers_end_in_an_answer(encoded: bytes, random: np.random.Generator) -> None:
    for _ in range(300):
        damaged = bytearray(encoded)
        for place in random.integers(2, 700, 4):
            damaged[place] = random.integers(256)
        read_layout(bytes(damaged))
        read_layout(bytes(damaged[: random.integers(len(damaged))]))

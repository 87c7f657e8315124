"""Arrays of every kind through a Detector, on each backend: the right detections, or one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from exporters.artifact import Artifact
from runtimes import Detections, Detector, InvalidInput, ModelSpec, load
from runtimes.preprocess import Image, check_image, letterbox

SHAPES = [(1, 1), (1, 300), (300, 1), (2, 3), (20000, 10), (10, 20000)]


class Camera(np.ndarray):
    """An array of another class, as some libraries give."""


def views(image: Image) -> dict[str, Image]:
    """Images whose memory does not lie row by row, or is not ours to write to."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    wide = np.concatenate([image, image[..., :1]], axis=2)
    locked = image.copy()
    locked.flags.writeable = False
    return {
        "upside down": image[::-1],
        "mirrored": image[:, ::-1],
        "RGB to BGR": image[..., ::-1],
        "all turned": image[::-1, ::-1, ::-1],
        "every second": image[::2, ::3],
        "crop": image[5:-7, 3:-11],
        "transposed": image.transpose(1, 0, 2),
        "planes": planes.transpose(1, 2, 0),
        "columns first": np.asfortranarray(image),
        "without alpha": wide[..., :3],
        "read-only": locked,
        "one row, broadcast": np.broadcast_to(image[:1], image.shape),
        "one pixel, broadcast": np.broadcast_to(image[40, 40], (50, 70, 3)),
        "a class of its own": image.view(Camera),
        "from bytes": np.frombuffer(image.tobytes(), np.uint8).reshape(image.shape),
    }


def bad_arrays(image: Image) -> list[Any]:
    floats = image.astype(np.float32)
    return [
        np.where(image > 99, np.nan, floats),
        floats / 255,
        image.astype(np.uint16),
        image.astype(np.int8),
        image > 99,
        image.astype(object),
        image[..., 0],
        image[..., :1],
        np.concatenate([image, image[..., :1]], axis=2),
        image.transpose(2, 0, 1),
        image[:0],
        image[:, :0],
        np.uint8(7),
        None,
        "street.jpg",
        Path("street.jpg"),
        5,
        Pillow.fromarray(image),
        (row for row in image),
    ]


@pytest.fixture(scope="module", params=["onnx", "openvino", "ncnn"])
def detector(
    request: pytest.FixtureRequest, exported: Callable[[str, ModelSpec], Artifact], small_spec: ModelSpec
) -> Iterator[Detector]:
    """Two streams, at a threshold that leaves the seeded model something to find."""
    artifact = exported(request.param, replace(small_spec, decoded=request.param != "ncnn"))
    with load(artifact.folder, score_threshold=0.009, streams=2, threads=1) as detector:
        yield detector


def same(left: Detections, right: Detections) -> bool:
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in ("xyxy", "confidence", "class_id"))


def test_any_view_gives_the_detections_of_its_copy(detector: Detector, images: list[Image]) -> None:
    """One by one, as a sequence, and as a stream of one image at a time; no image is written to."""
    given = views(images[0])
    copies = {name: np.array(view, order="C") for name, view in given.items()}
    expected = {name: detector(copy) for name, copy in copies.items()}
    assert sum(map(len, expected.values())) > 20
    for name, view in given.items():
        assert same(detector(view), expected[name]), name
    streamed = detector.detect_stream(given.values(), batch=1)
    assert all(same(found, one) for found, one in zip(streamed, expected.values(), strict=True))
    together, copied = detector(list(given.values())), detector(list(copies.values()))
    assert all(same(found, one) for found, one in zip(together, copied, strict=True))
    assert all(np.array_equal(view, copies[name]) for name, view in given.items())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_extreme_shapes_give_finite_boxes(detector: Detector, shape: tuple[int, int], random: Any) -> None:
    """On the image's scale: the input's sides divided by the ratio, with the room that a box has beyond them."""
    found = detector(random.integers(256, size=(*shape, 3), dtype=np.uint8))
    assert np.isfinite(found.xyxy).all() and np.isfinite(found.confidence).all()
    height, width = detector.spec.input_size
    reach = max(height, width) / min(height / shape[0], width / shape[1])
    assert np.abs(found.xyxy).max(initial=0) < 3 * reach


def test_what_is_no_image_is_one_sentence_wherever_it_comes(detector: Detector, images: list[Image]) -> None:
    expected = detector(images[1])
    for bad in bad_arrays(images[0]):
        for call, given in ((detector, bad), (detector, [images[1], bad]), (detector.infer, [bad])):
            with pytest.raises(InvalidInput, match=r"^an image must be a uint8 array of shape") as error:
                call(given)
            assert "\n" not in str(error.value) and len(str(error.value)) < 200
    stream = detector.detect_stream([images[1], images[2][..., 0], images[1]], batch=1)
    assert same(next(stream), expected)
    with pytest.raises(InvalidInput, match="an image must be"):
        next(stream)
    assert same(detector(images[1]), expected)  # and nothing is left of it


def test_an_array_of_images_is_a_sequence(detector: Detector, images: list[Image]) -> None:
    stack = np.stack([images[0][:100, :100], images[1][:100, :100]])
    for given in (stack, stack[::-1], stack[..., ::-1]):
        assert all(same(one, other) for one, other in zip(detector(given), detector(list(given)), strict=True))
    assert detector(stack[:0]) == detector([]) == []


def test_letterbox_paints_a_view_into_given_memory(images: list[Image]) -> None:
    for name, view in views(images[0]).items():
        canvas, ratio = letterbox(np.array(view, order="C"), (96, 128))
        memory = np.zeros((96, 128, 3), np.uint8)
        painted, found = letterbox(view, (96, 128), out=memory)
        assert painted is memory and np.array_equal(memory, canvas) and ratio == found, name


def test_a_refused_image_is_told_what_makes_one_of_it(images: list[Image]) -> None:
    grey, clear = images[0][..., 0], np.zeros((4, 4, 4), np.uint8)
    for image, says in ((grey, "COLOR_GRAY2BGR"), (grey[..., None], "COLOR_GRAY2BGR"), (clear, "COLOR_BGRA2BGR")):
        with pytest.raises(InvalidInput, match=says):
            check_image(image)
    with pytest.raises(InvalidInput, match=r"not NoneType, which cv2\.imread gives for a file that it cannot read"):
        check_image(None)

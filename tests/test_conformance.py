"""What every runtime does alike. A new backend is one more entry of `BACKENDS`."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from exporters.artifact import Artifact, write_artifact
from exporters.parity import compare
from exporters.torch_runtime import TorchRuntime
from runtimes import Detections, Detector, InvalidInput, ModelSpec, load
from runtimes.preprocess import Image, preprocess
from yolox_deploy.model.yolox import YOLOX

BACKENDS = ["torch", "onnx", "openvino", "ncnn", pytest.param("trt", marks=pytest.mark.gpu)]

Open = Callable[[], Detector]
Inputs = npt.NDArray[np.float32]


@pytest.fixture(scope="module", params=BACKENDS)
def open_detector(
    request: pytest.FixtureRequest,
    seeded_nano: YOLOX,
    small_spec: ModelSpec,
    exported: Callable[[str, ModelSpec], Artifact],
) -> Open:
    """Opens one more detector on the backend, at a threshold that leaves the seeded model something to find."""
    if request.param == "torch":
        return lambda: Detector(TorchRuntime(seeded_nano, small_spec), score_threshold=0.01)
    artifact = exported(request.param, replace(small_spec, decoded=request.param != "ncnn"))
    return lambda: load(artifact.folder, score_threshold=0.01)


@pytest.fixture(scope="module")
def detector(open_detector: Open) -> Iterator[Detector]:
    with open_detector() as detector:
        yield detector


@pytest.fixture(scope="module")
def inputs(images: list[Image], small_spec: ModelSpec) -> Inputs:
    return preprocess(images, small_spec)[0]


def same(left: Detections, right: Detections) -> bool:
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in ("xyxy", "confidence", "class_id"))


def nearly_same(left: Detections, right: Detections) -> bool:
    return bool(
        np.array_equal(left.class_id, right.class_id)
        and np.allclose(left.xyxy, right.xyxy, atol=1e-2)
        and np.allclose(left.confidence, right.confidence, atol=1e-5)
    )


def test_it_detects_what_the_model_detects(
    detector: Detector, seeded_nano: YOLOX, small_spec: ModelSpec, images: list[Image]
) -> None:
    report = compare(TorchRuntime(seeded_nano, small_spec), detector.runtime, images)
    assert report, report.problem()
    assert report.detections > 20


def test_detections_are_alike(detector: Detector, images: list[Image]) -> None:
    found = detector(images[0])
    assert (found.xyxy.dtype, found.confidence.dtype, found.class_id.dtype) == (np.float32, np.float32, np.int64)
    assert (np.diff(found.confidence) <= 0).all()
    assert len(found) > 0


def test_output_has_the_promised_shape(detector: Detector, inputs: Inputs) -> None:
    spec = detector.spec
    output = detector.runtime.infer(inputs)
    assert output.dtype == np.float32
    assert output.shape == (len(inputs), spec.num_anchors, 5 + spec.num_classes)
    assert ((output[..., 4:] >= 0) & (output[..., 4:] <= 1)).all()


def test_a_batch_is_what_its_images_are(detector: Detector, images: list[Image]) -> None:
    singles = [detector(image) for image in images]
    # Kernels may add up in another order where they are given several images at once.
    as_sequence = same if detector.spec.batch == 1 else nearly_same
    assert all(as_sequence(a, b) for a, b in zip(detector(images), singles, strict=True))
    assert all(same(a, b) for a, b in zip(detector.detect_stream(iter(images)), singles, strict=True))
    batched = list(detector.detect_stream(images, len(images)))
    assert [len(found) for found in batched] == [len(found) for found in singles]
    at_once, _ = detector.infer(images)
    one_by_one = np.concatenate([detector.infer([image])[0] for image in images])
    assert np.abs(at_once - one_by_one).max() < 1e-2


def test_a_stream_takes_no_more_images_than_needed(detector: Detector, images: list[Image]) -> None:
    taken = []

    def camera() -> Iterator[Image]:
        for index, image in enumerate(images):
            taken.append(index)
            yield image

    stream = detector.detect_stream(camera())
    next(stream)
    assert taken == [0]


def test_it_repeats_itself(detector: Detector, inputs: Inputs) -> None:
    assert np.array_equal(detector.runtime.infer(inputs), detector.runtime.infer(inputs))


def test_results_are_the_callers_own_memory(detector: Detector, inputs: Inputs) -> None:
    first = detector.runtime.infer(inputs[:1])
    before, kept_inputs = first.copy(), inputs.copy()
    second = detector.runtime.infer(inputs[1:2])
    assert np.array_equal(first, before)
    assert not np.shares_memory(first, second)
    first[:] = -1  # must be writable, and disturb nobody
    assert np.array_equal(detector.runtime.infer(inputs[:1]), before)
    assert np.array_equal(inputs, kept_inputs)


def test_memory_that_does_not_lie_in_order_is_read_right(detector: Detector, inputs: Inputs) -> None:
    strided = np.ascontiguousarray(inputs.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert not strided.flags.c_contiguous
    assert np.abs(detector.runtime.infer(strided) - detector.runtime.infer(inputs)).max() < 1e-2


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 3, 320, 256), np.float32),
        np.zeros((1, 3, 256, 320), np.uint8),
        np.zeros((1, 3, 256, 320), np.float64),
        np.zeros((3, 256, 320), np.float32),
        np.zeros((0, 3, 256, 320), np.float32),
    ],
    ids=["transposed", "uint8", "float64", "no batch", "empty batch"],
)
def test_wrong_input_is_refused(detector: Detector, wrong: npt.NDArray[Any]) -> None:
    with pytest.raises(InvalidInput, match=r"takes float32 of shape \(N, 3, 256, 320\)"):
        detector.runtime.infer(wrong)


def test_what_is_no_image_is_refused(detector: Detector) -> None:
    with pytest.raises(InvalidInput, match="not NoneType"):
        detector(None)  # type: ignore[call-overload]


def test_closed_is_closed(open_detector: Open, images: list[Image]) -> None:
    with open_detector() as detector:
        detector.warmup()
    detector.close()
    with pytest.raises(InvalidInput, match="closed"):
        detector(images[0])


def test_two_side_by_side(detector: Detector, open_detector: Open, images: list[Image]) -> None:
    expected = detector(images[0])
    with open_detector() as other:
        assert same(other(images[0]), expected)
    assert same(detector(images[0]), expected)


def test_threads_share_it(detector: Detector, images: list[Image]) -> None:
    expected = [detector(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(detector, images * 4))
    assert all(same(a, b) for a, b in zip(found, expected * 4, strict=True))


def test_streams_detect_the_same(open_detector: Open, images: list[Image]) -> None:
    with open_detector() as detector:
        expected = [detector(image) for image in images]
        side_by_side = Detector(detector.runtime, detector.score_threshold, streams=3)
        found = list(side_by_side.detect_stream(images * 4))
        assert all(same(a, b) for a, b in zip(found, expected * 4, strict=True))


@pytest.mark.parametrize("target", ["onnx", "openvino", "ncnn"])
def test_nothing_large_is_copied(
    target: str, seeded_nano: YOLOX, small_spec: ModelSpec, images: list[Image], tmp_path: Path
) -> None:
    """From the image to the boxes, the network's input and output are written once, to memory that is used again."""
    planar = target == "ncnn"
    spec = replace(small_spec, batch=1, uint8_input=not planar, decoded=not planar)
    artifact = write_artifact(seeded_nano, spec, target, tmp_path, images)
    canvas = 3 * 256 * 320  # bytes; the output has 0.6 MB, a float input 1 MB
    with load(artifact.folder, score_threshold=0.02) as detector:  # below, all anchors of the seeded model pass
        for image in images:  # makes what is kept
            detector(image)
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        found = [detector(image) for image in images]
        after, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert sum(map(len, found)) > 10
    # Float input is made from a canvas and its three planes.
    assert peak - before < (2.2 * canvas if planar else 0.5 * canvas)
    assert after - before < 0.2 * canvas


def test_warmup_needs_no_images(detector: Detector) -> None:
    calls = []

    class Counting:
        spec = replace(detector.spec, batch=2)

        def infer(self, images: npt.NDArray[Any]) -> Inputs:
            calls.append(images.shape)
            return detector.runtime.infer(images)

        def close(self) -> None: ...

    Detector(Counting()).warmup(3)
    assert calls == [(2, 3, 256, 320)] * 3

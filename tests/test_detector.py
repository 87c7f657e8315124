from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from runtimes import Detections, Detector, InvalidInput, ModelSpec
from runtimes.errors import UserError
from runtimes.preprocess import Image
from runtimes.runtime import CopyingRequest, RequestPool

SPEC = ModelSpec("m", (32, 32), ("cat",), batch=1, uint8_input=True)


class Echo:
    """Detects one object in every image, whose score tells which image it was; the first ones take longest."""

    def __init__(self, spec: ModelSpec = SPEC, seconds: float = 0.0) -> None:
        self.spec = spec
        self.seconds = seconds
        self.made = 0
        self.at_work = self.most_at_work = 0
        self._lock = threading.Lock()

    def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        with self._lock:
            self.at_work += 1
            self.most_at_work = max(self.most_at_work, self.at_work)
        number = images[:, 0, 0, 0]
        time.sleep(self.seconds / (1 + float(number[0])))
        output = np.zeros((len(images), self.spec.num_anchors, 6), np.float32)
        output[:, 0, :4] = 16, 16, 8, 8
        output[:, 0, 4] = (100 + number.astype(np.float32)) / 256
        output[:, 0, 5] = 1
        with self._lock:
            self.at_work -= 1
        return output

    def close(self) -> None: ...

    def new_request(self, batch: int) -> CopyingRequest:
        self.made += 1
        return CopyingRequest(self, batch)


def frame(number: int) -> Image:
    return np.full((32, 32, 3), number, np.uint8)


def number_of(found: Detections) -> int:
    return round(float(found.confidence[0]) * 256) - 100


def camera(taken: list[int], frames: int = 20) -> Iterator[Image]:
    for number in range(frames):
        taken.append(number)
        yield frame(number)


def workers() -> int:
    return sum(thread.name.startswith("detect") for thread in threading.enumerate())


@pytest.mark.parametrize("streams", [1, 2, 5])
@pytest.mark.parametrize("batch", [1, 3])
def test_order_is_kept(streams: int, batch: int) -> None:
    runtime = Echo(replace(SPEC, batch=None), seconds=0.02)
    found = Detector(runtime, streams=streams).detect_stream(camera([]), batch)
    assert [number_of(one) for one in found] == list(range(20))
    assert min(streams, 2) <= runtime.most_at_work <= streams
    assert workers() == 0


def test_a_batch_that_is_not_full() -> None:
    detector = Detector(Echo(replace(SPEC, batch=4)), streams=2)
    assert [number_of(one) for one in detector.detect_stream(camera([], 7))] == list(range(7))
    output, ratios = detector.infer([frame(1)])
    assert len(output) == len(ratios) == 1
    for count in (0, 5):
        with pytest.raises(InvalidInput, match=f"takes 1 to 4 images at a time, not {count}"):
            detector.infer([frame(1)] * count)


def test_what_is_on_the_way_is_bounded() -> None:
    """However slow the consumer: twice the streams."""
    taken: list[int] = []
    stream = Detector(Echo(), streams=3).detect_stream(camera(taken))
    for done, _ in enumerate(stream, 1):
        time.sleep(0.002)
        assert len(taken) - done < 2 * 3


def test_the_source_is_read_in_the_callers_thread() -> None:
    threads = set()

    def source() -> Iterator[Image]:
        for number in range(6):
            threads.add(threading.get_ident())
            yield frame(number)

    list(Detector(Echo(), streams=2).detect_stream(source()))
    assert threads == {threading.get_ident()}


def test_what_the_source_raises_reaches_the_caller() -> None:
    def source() -> Iterator[Image]:
        yield from camera([], 10)
        raise OSError("unplugged")

    found = []
    with pytest.raises(OSError, match="unplugged"):
        for one in Detector(Echo(), streams=2).detect_stream(source()):
            found.append(number_of(one))
    assert found == list(range(10))
    assert workers() == 0


def test_what_the_runtime_raises_reaches_the_caller_in_its_place() -> None:
    class Failing(Echo):
        def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
            if images[0, 0, 0, 0] == 5:
                raise UserError("out of memory")
            return super().infer(images)

    found = []
    detector = Detector(Failing(), streams=3)
    with pytest.raises(UserError, match="out of memory"):
        for one in detector.detect_stream(camera([])):
            found.append(number_of(one))
    assert found == [0, 1, 2, 3, 4]
    assert workers() == 0
    assert number_of(detector(frame(9))) == 9


def test_who_wants_no_more_stops_the_work() -> None:
    taken: list[int] = []
    stream = Detector(Echo(seconds=0.01), streams=2).detect_stream(camera(taken, 100))
    next(stream)
    stream.close()
    assert len(taken) <= 4
    assert workers() == 0


def test_a_result_is_not_held_back() -> None:
    """A slow camera: what is found of a frame comes with one of the next frames, however many might be on the way."""

    def slow() -> Iterator[Image]:
        for number in range(4):
            yield frame(number)
            time.sleep(0.2)
        raise AssertionError("nobody waits for this frame")

    stream = Detector(Echo(), streams=4).detect_stream(slow())
    assert number_of(next(stream)) == 0
    stream.close()


@pytest.mark.parametrize("streams", [1, 3])
def test_what_was_read_before_a_failure_is_detected(streams: int) -> None:
    def source() -> Iterator[Image]:
        yield from camera([], 5)
        raise KeyboardInterrupt

    found = []
    with pytest.raises(KeyboardInterrupt):
        for one in Detector(Echo(replace(SPEC, batch=None)), streams=streams).detect_stream(source(), 4):
            found.append(number_of(one))
    assert found == [0, 1, 2, 3, 4]


def test_ctrl_c_is_not_lost_to_another_failure() -> None:
    class Failing(Echo):
        def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
            time.sleep(0.05)
            raise UserError("out of memory")

    def source() -> Iterator[Image]:
        yield frame(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Detector(Failing(), streams=2).detect_stream(source()))


def test_a_list_is_shared_out_between_the_streams() -> None:
    runtime = Echo(replace(SPEC, batch=None), seconds=0.1)
    found = Detector(runtime, streams=4)([frame(number) for number in range(8)])
    assert [number_of(one) for one in found] == list(range(8))
    assert runtime.most_at_work > 1


def test_every_stream_is_warmed_up() -> None:
    class Meeting(Echo):
        """Its calls wait until there are three at a time."""

        together = threading.Barrier(3)

        def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
            self.together.wait(timeout=60)
            return super().infer(images)

    runtime = Meeting()
    Detector(runtime, streams=3).warmup(1)
    assert runtime.made == 3
    for wrong in (0, None, "2", 2.5, True):
        with pytest.raises(InvalidInput, match="streams must be a number from 1 to 4096, not"):
            Detector(runtime, streams=wrong)  # type: ignore[arg-type]


def test_memory_is_used_again() -> None:
    runtime = Echo(replace(SPEC, batch=None))
    detector = Detector(runtime)
    for _ in range(5):
        detector(frame(1))
    assert runtime.made == 1
    for count in (2, 3, 4, 5, 1, 1, 1):
        detector([frame(1)] * count)
    assert runtime.made == 6  # of five sizes, one of them twice: only the last two sizes are kept
    list(detector.detect_stream(camera([])))
    assert runtime.made == 6


def test_a_request_that_failed_does_not_come_back() -> None:
    pool = RequestPool(Echo())
    with pytest.raises(UserError, match="lost"), pool.lend(1) as failed:
        raise UserError("lost")
    with pool.lend(1) as request:
        assert request is not failed
    with pytest.raises(InvalidInput), pool.lend(1) as sound:
        raise InvalidInput("no image")
    with pool.lend(1) as again:
        assert again is request is sound
    pool.close()
    with pytest.raises(InvalidInput, match="m is closed"), pool.lend(1):
        pass


def test_a_smaller_image_leaves_nothing_of_a_larger_one() -> None:
    """The canvas is used again: what the image before left has to be painted over."""
    seen = []

    class Looking(Echo):
        def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
            seen.append(images.copy())
            return super().infer(images)

    detector = Detector(Looking())
    detector(frame(50))
    detector(np.full((32, 8, 3), 60, np.uint8))
    detector(np.full((8, 32, 3), 70, np.uint8))
    assert set(np.unique(seen[1])) == {60, 114}
    assert set(np.unique(seen[2])) == {70, 114}


def test_boxes_are_clipped_unless_ap_is_measured() -> None:
    class Wide(Echo):
        def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
            output = super().infer(images)
            output[:, 0, :4] = 16, 16, 40, 8
            return output

    image = np.full((64, 48, 3), 50, np.uint8)  # a ratio of 0.5
    assert Detector(Wide())(image).xyxy.tolist() == [[0, 24, 48, 40]]
    assert Detector(Wide(), clip=False)(image).xyxy.tolist() == [[-8, 24, 72, 40]]

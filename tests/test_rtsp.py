"""A real RTSP server on loopback, GStreamer's, whose pictures hold the time at which they were made."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.soak.gauge import PARTS, Sample
from benchmarks.soak.rtsp_server import BITS, HEIGHT, WIDTH, picture
from benchmarks.soak.streams import RtspServer, Watched, of_watched, time_code
from exporters.artifact import Artifact
from runtimes.errors import MissingBackend
from yolox_deploy import detect, streams
from yolox_deploy.streams import FrameGrabber

FPS = 12


@pytest.fixture
def server() -> Iterator[RtspServer]:
    try:
        server = RtspServer(FPS)
    except MissingBackend as missing:
        pytest.skip(str(missing))
    with server:
        yield server


def test_a_taker_that_was_away_gets_the_newest_frame(server: RtspServer) -> None:
    """By the times in the pictures; how old frames are is measured by `benchmarks.soak.streams`."""
    with FrameGrabber(server.url) as grabber:
        frames = iter(grabber)
        for _ in range(FPS):
            before = next(frames)
        time.sleep(1)
        after = next(frames)
        skipped = (time_code(after.image) - time_code(before.image)) % 2**32
        assert skipped > 500, "milliseconds; a queue would give the frame of 83 ms later"
        assert grabber.dropped > FPS // 2 and grabber.live and grabber.total is None


def test_a_server_that_was_killed_is_found_again(
    server: RtspServer, artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "FIRST_PAUSE", 0.2)
    restarted = []

    def again(sentence: str) -> str:
        """What is said when the stream broke."""
        server.start()
        restarted.append(sentence)
        return sentence

    with FrameGrabber(server.url, say=again) as grabber:
        before = next(iter(grabber))
        server.kill()
        after = next(frame for frame in grabber if grabber.reconnects)
        assert 0 < (time_code(after.image) - time_code(before.image)) % 2**32 < 2**31, "a later picture"
    assert len(restarted) == 1 and grabber.reconnects == 1


def test_detect(server: RtspServer, artifact: Artifact, tmp_path: Path) -> None:
    arguments = [str(artifact.folder), server.url, "--output", str(tmp_path / "out"), "--max-frames", "8"]
    assert detect.main([*arguments, "--every", "2", "--json", str(tmp_path / "out.json")]) == 0
    video = json.loads((tmp_path / "out.json").read_text())["video"]
    assert video["frames"] == 8 and video["received"] >= 15
    assert [(size["width"], size["height"]) for size in video["sizes"]] == [(WIDTH, HEIGHT)]
    assert (tmp_path / "out" / "stream.mp4").exists()


@pytest.mark.parametrize("milliseconds", [0, 1, 0x5555_5555, 2**BITS - 1, 1_234_567_890])
def test_the_time_code_is_read(milliseconds: int) -> None:
    grey = np.frombuffer(picture(milliseconds), np.uint8).reshape(HEIGHT, WIDTH)
    assert time_code(np.dstack([grey] * 3)) == milliseconds


def test_broken_promises_of_a_stream_are_named() -> None:
    samples = [Sample(25 * number, 100.0 + number, 9, 4) for number in range(4 * PARTS)]
    good = Watched([80.0] * 99 + [400.0], [Sample(one.done, 100.0, 9, 4) for one in samples], [3.0, 4.0], 100, 5, 2)
    bad = Watched([80.0] * 50 + [400.0] * 50, samples, [3.0, 25.0], 100, 5, 2)
    assert [row.kept for row in of_watched("a", good, 12, 2)] == ["yes"] * 4
    assert [row.kept for row in of_watched("a", bad, 12, 2)] == ["NO", "NO", "NO", "yes"]
    missed = Watched(good.latencies, good.samples, [3.0], 100, 5, 1)
    assert of_watched("a", missed, 12, 2)[0].kept == "NO"

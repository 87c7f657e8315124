"""Live sources: the newest frame, and what happens when they break. The camera is a real server on loopback."""

from __future__ import annotations

import functools
import http.server
import json
import math
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from exporters.artifact import Artifact
from runtimes.errors import InvalidInput
from runtimes.preprocess import Image
from tests.camera_server import CameraServer, jpeg
from tests.test_video import grey, write_video
from yolox_deploy import detect, streams
from yolox_deploy.frames import Frame
from yolox_deploy.streams import FrameGrabber, StreamLost, mask

ROOT = Path(__file__).parents[1]
PICTURES = [jpeg(number) for number in range(100)]


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses and time-outs that tests can wait for."""
    monkeypatch.setattr(streams, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(streams, "LONGEST_PAUSE", 0.4)
    monkeypatch.setattr(streams, "OPEN_TIMEOUT", 1.0)
    monkeypatch.setattr(streams, "READ_TIMEOUT", 0.5)


def number_of(frame: Frame) -> int:
    """The number that the camera gave the picture."""
    return round(float(frame.image.mean()) / 2)


def test_the_newest_frame_is_given() -> None:
    """Whoever is slow gets no backlog."""
    with CameraServer(PICTURES, rate=50) as camera, FrameGrabber(camera.url) as grabber:
        given = []
        for frame in grabber:
            given.append(number_of(frame))
            time.sleep(0.1)  # five frames
            if grabber.received > 60:
                break
        assert given[-1] >= grabber.received - 10
        assert len(given) < 25 and given == sorted(set(given))
        assert grabber.dropped >= grabber.received - len(given) - 2 > 20
        assert grabber.live and grabber.started is not None


def test_numbers_count_what_was_dropped_and_times_are_those_of_arrival() -> None:
    with CameraServer(PICTURES, rate=50) as camera, FrameGrabber(camera.url, every=4) as grabber:
        frames = [frame for frame, _ in zip(grabber, range(5), strict=False)]
    assert [frame.number % 4 for frame in frames] == [0] * 5
    assert [number_of(frame) for frame in frames] == [frame.number for frame in frames]
    assert frames[4].time_ms == pytest.approx(20 * frames[4].number, abs=150)


def test_it_connects_again_with_growing_pauses(hurry: None) -> None:
    scripts = [PICTURES[:5], None, None, None, None, PICTURES[50:]]
    said: list[str] = []
    with CameraServer(*scripts) as camera, FrameGrabber(camera.url, say=said.append) as grabber:
        seen = next(frame for frame in grabber if number_of(frame) >= 50)
        assert grabber.reconnects == 1
        pauses = np.diff(camera.asked)[1:]  # the first one holds five frames too
    assert seen.number == 5 + number_of(seen) - 50
    assert pauses == pytest.approx([0.2, 0.4, 0.4, 0.4], abs=0.15)
    assert len(said) == 1 and "connecting again" in said[0]


def test_a_source_that_stays_away_is_given_up(hurry: None) -> None:
    with CameraServer(PICTURES[:5], None) as camera, FrameGrabber(camera.url, reconnect=0.6) as grabber:
        start = time.monotonic()
        with pytest.raises(StreamLost, match=r"for 0\.6 s: given up"):
            list(grabber)
        assert 0.6 < time.monotonic() - start < 2


def test_frames_that_are_passed_over_are_frames(hurry: None) -> None:
    """It takes longer to the next one that is wanted than a source may be silent."""
    with CameraServer(PICTURES, rate=50) as camera, FrameGrabber(camera.url, every=50, reconnect=0.3) as grabber:
        assert [frame.number for frame, _ in zip(grabber, range(2), strict=False)] == [0, 50]


def test_zero_never_connects_again(hurry: None) -> None:
    with CameraServer(PICTURES[:5]) as camera, FrameGrabber(camera.url, reconnect=0) as grabber:
        with pytest.raises(StreamLost, match="broke"):
            list(grabber)
        assert len(camera.asked) == 1


def test_a_silent_server_is_noticed(hurry: None) -> None:
    with CameraServer(PICTURES[:5], PICTURES[50:], hang=True) as camera, FrameGrabber(camera.url) as grabber:
        assert any(number_of(frame) >= 50 for frame in grabber)
        assert grabber.reconnects == 1


def test_close_waits_for_no_dead_server(hurry: None) -> None:
    threads = threading.active_count()
    with CameraServer(PICTURES[:2], None) as camera:
        grabber = FrameGrabber(camera.url, reconnect=math.inf)
        time.sleep(0.5)
        start = time.monotonic()
        grabber.close()
        assert time.monotonic() - start < 1
    time.sleep(0.3)
    assert threading.active_count() <= threads


@pytest.mark.parametrize("opens", [False, True])
def test_a_source_without_frames(opens: bool, hurry: None) -> None:
    with CameraServer([] if opens else None, hang=opens) as camera:
        start = time.monotonic()
        with pytest.raises(InvalidInput, match=f"{camera.port}"):
            FrameGrabber(camera.url)
        assert time.monotonic() - start < 5


def test_sizes_that_change_are_those_of_the_camera(hurry: None) -> None:
    """Also within one connection, where OpenCV would squeeze the picture into the first size."""
    wide, high = [jpeg(5)] * 5, [jpeg(9, (160, 208))] * 5
    with CameraServer([*wide, *high], high, rate=20) as camera, FrameGrabber(camera.url) as grabber:
        shapes = [frame.image.shape[:2] for frame, _ in zip(grabber, range(12), strict=False)]
    assert set(shapes) == {(240, 320), (208, 160)} and shapes[-1] == (208, 160)


def test_damaged_pictures_are_passed_over(hurry: None) -> None:
    damaged = PICTURES[7][:300] + PICTURES[7][-2:]
    garbage = PICTURES[8].replace(b"\xff\xc0", b"\xff\xee")  # where its size stands
    script = [PICTURES[5], PICTURES[6], PICTURES[7][:200], garbage, damaged, *PICTURES[10:30]]
    with CameraServer(script, rate=20) as camera, FrameGrabber(camera.url) as grabber:
        frames = [frame for frame, _ in zip(grabber, range(10), strict=False)]
    assert {frame.image.shape for frame in frames} == {(240, 320, 3)}
    assert number_of(frames[-1]) >= 10 and grabber.reconnects == 0


@pytest.mark.parametrize("every", [1, 2])
def test_a_source_of_damaged_pictures_alone_is_given_up(every: int, hurry: None) -> None:
    garbage = PICTURES[8].replace(b"\xff\xc0", b"\xff\xee")
    script = [PICTURES[5], *[garbage] * 500]
    with CameraServer(script, rate=50) as camera, FrameGrabber(camera.url, every, reconnect=0.5) as grabber:
        with pytest.raises(StreamLost, match="only damaged frames"):
            list(grabber)
        assert any("damaged" in fault for fault in grabber.faults)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_file_on_a_web_server_is_a_file(tmp_path: Path) -> None:
    """Each of its frames is given, however slow the taker, and its end is the end."""
    write_video(tmp_path / "film.mp4", [grey(10 * number) for number in range(12)], 10, "mp4v")
    with web_server(tmp_path) as address, FrameGrabber(f"{address}/film.mp4") as grabber:
        frames = []
        for frame in grabber:
            frames.append(frame)
            time.sleep(0.02)
        assert not grabber.live and grabber.dropped == 0 and grabber.faults == []
    assert [frame.number for frame in frames] == list(range(12))
    assert [frame.time_ms for frame in frames] == pytest.approx([100 * number for number in range(12)])


def test_packets_of_udp(tmp_path: Path, hurry: None) -> None:
    content = write_video(tmp_path / "film.ts", [grey(10 * n) for n in range(25)], 25, "mp2v").read_bytes()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    stop = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            while not stop.is_set():
                for start in range(0, len(content), 1316):
                    out.sendto(content[start : start + 1316], ("127.0.0.1", port))
                    if stop.wait(0.01):
                        return

    threading.Thread(target=send, daemon=True).start()
    try:
        with FrameGrabber(f"udp://127.0.0.1:{port}") as grabber:
            assert next(iter(grabber)).image.shape == (240, 320, 3)
    finally:
        stop.set()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://admin:hunter2@10.0.0.5:554/live", "rtsp://admin:***@10.0.0.5:554/live"),
        ("rtsp://admin:hunter2@@host/x", "rtsp://admin:***@host/x"),
        ("rtsp://admin:hun/ter2@host/x", "rtsp://admin:***@host/x"),
        ("rtsp://host:554/cam@1", "rtsp://host:554/cam@1"),
        ("rtsp://[::1]:554/cam@1", "rtsp://[::1]:554/cam@1"),
        ("rtsp://admin@host/x", "rtsp://admin@host/x"),
        ("http://host/c?user=a&password=hunter2&x=1", "http://host/c?user=a&password=***&x=1"),
        ("http://host/c?access_token=hunter2", "http://host/c?access_token=***"),
        ("rtsp://host/user=a&pwd=hunter2&channel=1", "rtsp://host/user=a&pwd=***&channel=1"),
        ("rtspsrc user-id=a user-pw=hunter2 ! appsink", "rtspsrc user-id=a user-pw=*** ! appsink"),
        ("rtspsrc location=rtsp://a:hunter2@host/x ! appsink", "rtspsrc location=rtsp://a:***@host/x ! appsink"),
    ],
)
def test_passwords_are_masked(address: str, shown: str) -> None:
    assert mask(address) == shown


def run(artifact: Artifact, source: str, output: Path, *options: str) -> int:
    arguments = [str(artifact.folder), source, "--output", str(output), "--score-threshold", "0.02"]
    return detect.main([*arguments, "--json", str(output.with_suffix(".json")), *options])


def test_detect_in_a_stream(artifact: Artifact, images: list[Image], tmp_path: Path, hurry: None) -> None:
    """With a break, a size that changes, a page, and a password that is written nowhere."""
    first, other = (cv2.imencode(".jpg", cv2.resize(images[2], size))[1].tobytes() for size in ((320, 240), (480, 400)))
    with CameraServer([first] * 8, None, [other] * 99, rate=20) as camera:
        address = camera.url.replace("http://", "http://admin:hunter2@") + "?token=hunter2"
        assert run(artifact, address, tmp_path / "out", "--max-frames", "12", "--show") == 0
    summary = json.loads((tmp_path / "out.json").read_text())
    video = summary["video"]
    assert (video["frames"], video["reconnects"]) == (12, 1) and video["received"] >= 12
    assert [(size["width"], size["height"]) for size in video["sizes"]] == [(320, 240), (480, 400)]
    assert video["started"].startswith("20") and video["seconds"] > 0.4
    entries = json.loads((tmp_path / "out" / "detections.json").read_text())
    times = {entry["image_id"]: entry["time_ms"] for entry in entries}
    assert list(times.values()) == sorted(times.values()) and len(times) == 12
    capture = cv2.VideoCapture(str(tmp_path / "out" / "stream.mp4"))
    shown = capture.get(cv2.CAP_PROP_FRAME_COUNT) / capture.get(cv2.CAP_PROP_FPS)
    assert shown == pytest.approx(video["seconds"], abs=0.1)
    for path in [*tmp_path.rglob("*")]:
        assert not path.is_file() or b"hunter2" not in path.read_bytes()


def test_detect_keeps_what_was_seen_of_a_stream_that_is_lost(
    artifact: Artifact, tmp_path: Path, hurry: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with CameraServer(PICTURES[:10], None) as camera:
        assert run(artifact, camera.url, tmp_path / "out", "--reconnect", "0.5") == 1
    said = capsys.readouterr().err
    assert said.count("connecting again") == 1 and "given up. What was seen before is kept." in said
    assert json.loads((tmp_path / "out.json").read_text())["video"]["frames"] > 0
    assert (tmp_path / "out" / "stream.mp4").exists() and (tmp_path / "out" / "detections.json").exists()


def test_detect_of_a_stream_that_never_opens(artifact: Artifact, tmp_path: Path) -> None:
    """In a process of its own: what libraries say would be seen too."""
    with CameraServer(None) as camera:
        address = camera.url.replace("http://", "http://admin:hunter2@")
        command = [sys.executable, "-m", "yolox_deploy", "detect", str(artifact.folder), address]
        command += ["--output", str(tmp_path / "out")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1 and not (tmp_path / "out").exists()
    [said] = done.stderr.strip().splitlines()
    assert said.startswith(f"error: cannot open http://admin:***@127.0.0.1:{camera.port}/cam.mjpeg")


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
@pytest.mark.parametrize("broken", [False, True])
def test_ctrl_c_ends_at_once(broken: bool, artifact: Artifact, tmp_path: Path) -> None:
    """While frames come, and while a dead server is waited for."""
    with CameraServer(PICTURES[:8] if broken else PICTURES * 9, hang=broken, rate=30) as camera:
        command = [sys.executable, "-m", "yolox_deploy", "detect", str(artifact.folder), camera.url]
        command += ["--output", str(tmp_path / "out")]
        with subprocess.Popen(
            command,
            cwd=ROOT,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # type: ignore[arg-type,return-value]
        ) as process:
            while not list((tmp_path / "out").glob(".stream.part.mp4")):
                time.sleep(0.05)
                assert process.poll() is None
            time.sleep(0.7)
            start = time.monotonic()
            process.send_signal(signal.SIGINT)
            process.wait(20)
            seconds = time.monotonic() - start
    assert process.returncode == 130 and seconds < 3
    json.loads((tmp_path / "out" / "detections.json").read_text())
    assert cv2.VideoCapture(str(tmp_path / "out" / "stream.mp4")).isOpened()


def test_it_needs_opencv_and_numpy_only() -> None:
    code = "import sys, yolox_deploy.streams; print({'torch', 'tqdm', 'tyro', 'onnx', 'PIL'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

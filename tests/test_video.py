"""Video files of all kinds: which are opened, the times of their frames, and the video that is written."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from exporters.artifact import Artifact
from runtimes.errors import InvalidInput
from runtimes.preprocess import Image
from yolox_deploy import detect
from yolox_deploy.frames import Clock, VideoFile, as_bgr
from yolox_deploy.sources import find_source
from yolox_deploy.video_output import fit, writing_video

ROOT = Path(__file__).parents[1]
SIZE = (320, 240)
CONTAINERS = {
    ".avi": "MJPG", ".mp4": "mp4v", ".ts": "mp2v", ".m2ts": "mp2v", ".MTS": "mp2v", ".wmv": "WMV2", ".ASF": "WMV2",
    ".flv": "FLV1", ".mjpeg": "MJPG", ".MJPG": "MJPG", ".3gp": "mp4v", ".vob": "mp2v", ".y4m": "I420", ".webm": "VP80",
    ".MKV": "MJPG", ".m4v": "mp4v", ".nut": "mp4v", ".ivf": "VP80", ".swf": "FLV1", "": "MJPG",
}  # fmt: skip


def grey(brightness: int, size: tuple[int, int] = SIZE) -> Image:
    """A picture of (width, height)."""
    return np.full((size[1], size[0], 3), brightness, np.uint8)


def write_video(path: Path, pictures: Sequence[Image], rate: float = 10, code: str = "MJPG") -> Path:
    """A real video. OpenCV tells the container from the suffix."""
    container = {"": ".avi", ".MJPG": ".mjpeg"}.get(path.suffix, path.suffix.lower())
    made = path.with_name(f"made{container}")
    size = pictures[0].shape[1], pictures[0].shape[0]
    writer = cv2.VideoWriter(str(made), cv2.VideoWriter.fourcc(*code), rate, size)
    if not writer.isOpened():
        pytest.skip(f"this OpenCV writes no {code} in {container}")
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return made.rename(path)


def variable_rate(path: Path, times: Sequence[int]) -> Path:
    """A Matroska file whose frames, each 20 brighter than the last, come at these milliseconds."""
    write_video(path, [grey(20 * number) for number in range(len(times))], 100, "FFV1")
    content = path.read_bytes()
    for number, time in reversed([*enumerate(times)]):  # in the header of each block, relative to their cluster
        flags = b"\x00" if number else b"\x80"  # a key frame
        former, new = (b"\x81" + struct.pack(">h", value) + flags for value in (10 * number, time))
        assert content.count(former) == 1
        content = content.replace(former, new)
    place = content.index(b"\x44\x89\x88") + 3  # the duration
    content = content[:place] + struct.pack(">d", times[-1] + 10) + content[place + 8 :]
    path.write_bytes(content)
    return path


def read_video(path: Path) -> tuple[list[Image], float]:
    capture = cv2.VideoCapture(str(path))
    pictures = []
    while (read := capture.read())[0]:
        pictures.append(as_bgr(read[1]))
    return pictures, capture.get(cv2.CAP_PROP_FPS)


def run(artifact: Artifact, source: Path | str, output: Path, *options: str) -> tuple[list[Any], dict[str, Any]]:
    """The entries of detections.json, and the summary."""
    summary = output.with_suffix(".json")
    arguments = [str(artifact.folder), str(source), "--output", str(output), "--json", str(summary), *options]
    assert detect.main([*arguments, "--score-threshold", "0.02"]) == 0
    return json.loads((output / "detections.json").read_text()), json.loads(summary.read_text())


@pytest.mark.parametrize(("suffix", "code"), CONTAINERS.items())
def test_every_container_is_opened(suffix: str, code: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / f"film{suffix}", [grey(20 * number) for number in range(8)], 25, code)
    assert find_source(str(path)).kind == "video"
    frames = list(VideoFile(str(path)))
    assert [frame.number for frame in frames] == list(range(8))
    assert [frame.time_ms for frame in frames] == pytest.approx([40 * number for number in range(8)], abs=1)
    assert [frame.image.mean() for frame in frames[1:]] == pytest.approx([20 * n for n in range(1, 8)], abs=4)


def test_the_times_stand_in_the_results(artifact: Artifact, images: list[Image], tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.wmv", [cv2.resize(images[2], SIZE)] * 5, 10, "WMV2")
    entries, summary = run(artifact, path, tmp_path / "out")
    assert {(entry["image_id"], entry["time_ms"]) for entry in entries} == {(n, 100.0 * n) for n in range(5)}
    video = summary["video"]
    assert (video["frames"], video["received"], video["dropped"], video["seconds"]) == (5, 5, 0, 0.4)
    assert video["sizes"] == [{"frame": 0, "width": 320, "height": 240}] and summary["warnings"] == []


TIMES = [0, 100, 200, 300, 800, 900, 1000, 2500, 2533, 2566]


def test_a_variable_rate_keeps_its_times(tmp_path: Path) -> None:
    source = VideoFile(str(variable_rate(tmp_path / "phone.mkv", TIMES)))
    with writing_video(tmp_path / "out.mp4", source.rate, 3600) as output:
        frames = list(source)
        for frame in frames:
            output.write(frame.image, frame.time_ms)
    assert [frame.time_ms for frame in frames] == pytest.approx(TIMES, abs=1)
    assert source.faults == output.faults == []
    pictures, rate = read_video(tmp_path / "out.mp4")
    shown = [round(picture.mean() / 20) for picture in pictures]
    assert sorted(set(shown)) == list(range(len(TIMES)))
    for number, time in enumerate(TIMES):
        assert shown.index(number) / rate == pytest.approx(time / 1000, abs=0.5 / rate + 0.001)


def test_detections_of_a_variable_rate_have_their_times(artifact: Artifact, tmp_path: Path) -> None:
    entries, summary = run(artifact, variable_rate(tmp_path / "phone.mkv", TIMES), tmp_path / "out", "--streams", "2")
    assert {entry["time_ms"] for entry in entries} <= set(map(float, TIMES)) and entries
    assert all(entry["time_ms"] == TIMES[entry["image_id"]] for entry in entries)
    assert summary["video"]["seconds"] == 2.566


def test_frames_that_come_too_fast_are_counted(tmp_path: Path) -> None:
    with writing_video(tmp_path / "out.mp4", 10, 3600) as output:
        for number, time in enumerate((0, 100, 110, 120, 300)):
            output.write(grey(40 * number), time)
    assert "2 frames come faster than the 10 a second" in output.faults[0]
    pictures, _ = read_video(tmp_path / "out.mp4")
    assert [round(picture.mean() / 40) for picture in pictures] == [0, 3, 3, 4]


def test_a_gap_of_hours_is_left_out(tmp_path: Path) -> None:
    with writing_video(tmp_path / "out.mp4", 10, 2.0) as output:
        for number, time in enumerate((0, 100, 7_200_000, 7_200_100)):
            output.write(grey(40 * number), time)
    assert "leaves out 7198 s" in output.faults[0]
    pictures, _ = read_video(tmp_path / "out.mp4")
    assert [round(picture.mean() / 40) for picture in pictures] == [0, *[1] * 20, 2, 3]


@pytest.mark.parametrize("rate", [0.5, 14.985, 29.97002997, 59.9401, 66.667, 119.88, 240])
def test_any_rate_is_written(rate: float, tmp_path: Path) -> None:
    with writing_video(tmp_path / "out.mp4", rate, 3600) as output:
        for number in range(6):
            output.write(grey(40 * number), 1000 * number / rate)
    pictures, written = read_video(tmp_path / "out.mp4")
    assert len(pictures) == 6 and written == pytest.approx(rate, abs=0.01)


def test_no_picture_no_video(tmp_path: Path) -> None:
    with writing_video(tmp_path / "out.mp4", 10, 3600):
        pass
    with pytest.raises(ZeroDivisionError), writing_video(tmp_path / "out.mp4", 10, 3600) as output:
        output.write(grey(9), 0)
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("said", "times"),
    [
        ((0, 0, 0, 0), [0, 40, 80, 120]),  # raw H.264
        ((-7.6e15, -7.6e15 + 40, -7.6e15 + 80), [0, 40, 80]),  # OpenCV 4 of raw streams
        ((0, 40, 20, 120), [0, 40, 80, 120]),
        ((500, 533, 900), [0, 33, 400]),
        ((math.nan, math.nan), [0, 40]),
    ],
)
def test_times_that_a_container_does_not_say(said: tuple[float, ...], times: list[float]) -> None:
    clock = Clock(25)
    assert [clock.time_of(position) for position in said] == pytest.approx(times)


def test_a_size_that_changes(
    artifact: Artifact, images: list[Image], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, first, other = tmp_path / "cam.mjpeg", cv2.resize(images[2], SIZE), cv2.resize(images[2], (480, 400))
    path.write_bytes(b"".join(cv2.imencode(".jpg", one)[1].tobytes() for one in (first, first, other, other, first)))
    entries, summary = run(artifact, path, tmp_path / "out")
    expected = [{"frame": 0, "width": 320, "height": 240}, {"frame": 2, "width": 480, "height": 400}]
    assert summary["video"]["sizes"] == [*expected, {"frame": 4, "width": 320, "height": 240}]
    assert capsys.readouterr().err.count("warning: the size of the picture changes at frame 2") == 1
    assert len(summary["warnings"]) == 1
    cv2.imwrite(str(tmp_path / "2.jpg"), other)
    alone, _ = run(artifact, tmp_path / "2.jpg", tmp_path / "alone")
    boxes = [entry["bbox"] for entry in entries if entry["image_id"] == 2]
    assert len(boxes) == len(alone) > 0
    assert boxes[0] == pytest.approx(alone[0]["bbox"], abs=3)  # JPEG twice
    pictures, _ = read_video(tmp_path / "out" / "cam.mp4")
    assert [picture.shape for picture in pictures] == [(240, 320, 3)] * 5


@pytest.mark.parametrize("size", [(160, 120), (100, 240), (1000, 10), (1, 1), SIZE])
def test_other_sizes_are_fitted(size: tuple[int, int]) -> None:
    fitted = fit(grey(200, size), SIZE)
    assert fitted.shape == (240, 320, 3) and set(np.unique(fitted)) <= {0, 200}
    scale = min(320 / size[0], 240 / size[1])
    assert (fitted[..., 0] > 0).sum() == pytest.approx(size[0] * size[1] * scale**2, rel=0.05, abs=330)


def test_a_phone_held_upright(tmp_path: Path) -> None:
    path = write_video(tmp_path / "phone.mp4", [grey(9)] * 3, 10, "mp4v")
    upright = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 240 << 16, 0, 1 << 30)
    content = path.read_bytes()
    place = content.index(upright, content.index(b"tkhd"))
    path.write_bytes(content[:place] + turned + content[place + len(turned) :])
    assert [frame.image.shape for frame in VideoFile(str(path))] == [(320, 240, 3)] * 3


def test_frames_of_other_kinds() -> None:
    assert (as_bgr(np.full((4, 6), 0x1234, np.uint16)) == np.full((4, 6, 3), 0x12, np.uint8)).all()
    assert as_bgr(np.zeros((4, 6, 1), np.uint8)).shape == as_bgr(np.zeros((4, 6, 4), np.uint8)).shape == (4, 6, 3)
    for other in (np.zeros((4, 6, 3), np.float32), np.zeros((0, 6, 3), np.uint8), np.zeros((4, 6, 2), np.uint8)):
        with pytest.raises(InvalidInput):
            as_bgr(other)


@pytest.mark.parametrize("scale_and_rate", [(1, 1000), (1, 100_000), (0, 0), (1, 0), (1000, 1)])
def test_rates_that_are_nonsense(scale_and_rate: tuple[int, int], tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.avi", [grey(40 * number) for number in range(6)])
    content = bytearray(path.read_bytes())
    place = content.index(b"strh") + 8 + 20
    content[place : place + 8] = struct.pack("<II", *scale_and_rate)
    path.write_bytes(content)
    source = VideoFile(str(path))
    with writing_video(tmp_path / "out.mp4", source.rate, 3600) as output:
        frames = list(source)
        for frame in frames:
            output.write(frame.image, frame.time_ms)
    assert len(frames) == 6 and all(np.diff([frame.time_ms for frame in frames]) > 0)
    assert read_video(tmp_path / "out.mp4")[0]


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_file_that_is_cut_short(
    suffix: str, artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_video(tmp_path / f"film{suffix}", [grey(9 * number) for number in range(20)])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    _, summary = run(artifact, path, tmp_path / "out")
    assert 5 <= summary["video"]["frames"] <= 15
    assert "is it cut short?" in capsys.readouterr().err and "cut short" in summary["warnings"][0]


def test_a_whole_file_is_not_called_short(tmp_path: Path) -> None:
    source = VideoFile(str(variable_rate(tmp_path / "phone.mkv", TIMES)))  # its duration makes 258 frames of 10
    assert len(list(source)) == 10 and source.faults == []


NEITHER = {
    "text.txt": b"hello\n" * 99, "wide.txt": "hello\n".encode("utf-16") * 99, "notes.NFO": b"hello\n" * 99,
    "weights.bin": bytes(range(256)) * 99, "sheet.csv": b"1,2\n", "empty.mp4": b"", "empty": b"", "film.MP4": b"x" * 99,
    "data.json": b"{}", "photo.heic": b"\0\0\0\x18ftypheic" + bytes(99), "words.srt": b"1\n00:00 --> 00:01",
}  # fmt: skip


@pytest.mark.parametrize("name", NEITHER)
def test_what_is_neither_is_one_sentence(
    name: str, artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(NEITHER[name])
    assert detect.main([str(artifact.folder), str(tmp_path / name), "--output", str(tmp_path / "out")]) == 1
    [said] = capsys.readouterr().err.strip().splitlines()
    assert said.startswith("error: ") and name in said and "neither an image nor a video" in said
    assert not (tmp_path / "out").exists()


def test_a_mp4_without_its_end(artifact: Artifact, tmp_path: Path) -> None:
    """A process of its own, since libraries may say something too, and not be quiet once they have spoken."""
    path = write_video(tmp_path / "film.mp4", [grey(9)] * 9, 10, "mp4v")
    path.write_bytes(path.read_bytes()[:-200])
    command = [sys.executable, "-m", "yolox_deploy", "detect", str(artifact.folder), str(path)]
    command += ["--output", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    [said] = done.stderr.strip().splitlines()
    assert done.returncode == 1 and "film.mp4 is neither" in said and "is the file whole" in said
    assert not (tmp_path / "out").exists()


def animation(path: Path) -> Path:
    if not hasattr(cv2, "imwriteanimation"):
        pytest.skip("this OpenCV writes no animations")
    moving = cv2.Animation()
    moving.frames, moving.durations = [grey(50 * n) for n in range(4)], np.array([100, 300, 200, 100], np.int32)
    if not cv2.imwriteanimation(str(path), moving):
        pytest.skip(f"this OpenCV writes no {path.suffix}")
    return path


@pytest.mark.parametrize("name", ["moving.gif", "moving.PNG"])
def test_pictures_that_move_are_videos(name: str, tmp_path: Path) -> None:
    path = animation(tmp_path / name)
    assert find_source(str(path)).kind == "video"
    assert [frame.time_ms for frame in VideoFile(str(path))] == pytest.approx([0, 100, 400, 600], abs=1)


def test_of_a_moving_webp_the_first_picture(
    artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which FFmpeg does not read as a video."""
    _, summary = run(artifact, animation(tmp_path / "moving.webp"), tmp_path / "out")
    assert summary["images"] == 1 and "holds 4 pictures" in summary["warnings"][0]
    assert "holds 4 pictures" in capsys.readouterr().err


def test_a_picture_that_does_not_move_is_an_image(tmp_path: Path) -> None:
    for name in ("one.png", "one.gif", "one.jpg", "one.jp2", "one"):
        cv2.imwrite(str(tmp_path / (name if "." in name else "one.bmp")), grey(9))
    (tmp_path / "one.bmp").rename(tmp_path / "one")
    assert {find_source(str(path)).kind for path in tmp_path.iterdir()} == {"images"}


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text are Linux's")
@pytest.mark.parametrize("name", ["odd\udcff.gif", "odd\udcff.mp4", "odd\udcff"])
def test_names_that_are_no_text_end_in_a_sentence(name: str, artifact: Artifact, tmp_path: Path) -> None:
    """OpenCV crashes on them: a process of its own."""
    write_video(tmp_path / "made.avi", [grey(9)] * 3).rename(tmp_path / name)
    for source in (tmp_path / name, tmp_path):
        command = [sys.executable, "-m", "yolox_deploy", "detect", str(artifact.folder), str(source)]
        done = subprocess.run([*command, "--output", str(tmp_path / "out")], cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == 1 and done.stderr.startswith(b"error: ")


def test_every_other_frame(artifact: Artifact, images: list[Image], tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.avi", [cv2.resize(images[2], SIZE)] * 10)
    entries, summary = run(artifact, path, tmp_path / "out", "--every", "3", "--max-frames", "3")
    assert {(entry["image_id"], entry["time_ms"]) for entry in entries} == {(0, 0.0), (3, 300.0), (6, 600.0)}
    assert summary["video"]["frames"] == 3
    pictures, rate = read_video(tmp_path / "out" / "film.mp4")
    assert len(pictures) == 3 and rate == pytest.approx(10 / 3, abs=0.01)


def test_videos_among_images_are_counted(
    artifact: Artifact, images: list[Image], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    cv2.imwrite(str(folder / "1.png"), images[2])
    write_video(folder / "2.MTS", [grey(9)], 25, "mp2v")
    write_video(folder / "3.avi", [grey(9)])
    _, summary = run(artifact, folder, tmp_path / "out")
    assert summary["images"] == 1 and summary["warnings"][0].startswith(f"2 videos in {folder} left out")
    assert capsys.readouterr().err.count("2 videos in") == 1
    (folder / "1.png").unlink()
    assert detect.main([str(artifact.folder), str(folder), "--output", str(tmp_path / "other")]) == 1
    assert "one video at a time" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "kind", "stem"),
    [
        ("rtsp://host/x.mp4", "live", "stream"),
        ("RTSPS://host/x", "live", "stream"),
        ("http://host/cam.mjpeg?size=*", "live", "stream"),
        ("udp://@:5000", "live", "stream"),
        ("7", "live", "camera-7"),
        ("some/folder/*.jpg", "images", ""),
    ],
)
def test_kinds_of_sources(text: str, kind: str, stem: str) -> None:
    source = find_source(text)
    assert (source.kind, source.stem) == (kind, stem)


def test_a_file_url_is_its_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "my film.avi", [grey(9)])
    assert find_source(path.as_uri()) == find_source(str(path))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("*.mp4", "one video at a time"),
        ("nowhere.TS", "does not exist"),
        ("/dev/video77", "is the camera connected"),
        ("v4l2src ! videoconvert ! appsink", "GStreamer"),
    ],
)
def test_sources_that_are_none(text: str, says: str) -> None:
    if says == "GStreamer" and cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(InvalidInput, match=says):
        find_source(text)


@pytest.mark.parametrize(
    "options", [["--every", "0"], ["--max-frames", "0"], ["--reconnect", "-1"], ["--reconnect", "nan"]]
)
def test_options_that_are_none(
    options: list[str], artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect.main([str(artifact.folder), "0", "--output", str(tmp_path / "out"), *options]) == 1
    assert f"error: {options[0]} must be at least" in capsys.readouterr().err

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from exporters.artifact import Artifact
from runtimes import Detections, load
from runtimes.preprocess import Image
from yolox_deploy import detect
from yolox_deploy.data.images import read_image
from yolox_deploy.drawing import draw


@pytest.fixture
def folder(tmp_path: Path, images: list[Image]) -> Path:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for index, image in enumerate(images):
        cv2.imwrite(str(tmp_path / "in" / f"{index:03}.png"), image)
    cv2.imwrite(str(tmp_path / "in" / "deep" / "000.png"), images[0])
    return tmp_path / "in"


def run(artifact: Artifact, source: str | Path, output: Path, *options: str) -> list[dict[str, object]]:
    arguments = [str(artifact.folder), str(source), "--output", str(output), "--score-threshold", "0.02", *options]
    assert detect.main(arguments) == 0
    results: list[dict[str, object]] = json.loads((output / "detections.json").read_text())
    return results


def test_a_folder(artifact: Artifact, folder: Path, images: list[Image], tmp_path: Path) -> None:
    results = run(artifact, folder, tmp_path / "out", "--batch", "2")
    pictures = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert pictures == ["000.png", "001.png", "002.png", "003.png", "004.png", "detections.json"]
    with load(artifact.folder, score_threshold=0.02) as detector:
        expected = [detector(image) for image in images]
    assert len(results) == sum(map(len, expected)) > 20
    busiest = int(np.argmax([len(found) for found in expected]))
    first = next(entry for entry in results if entry["image_id"] == busiest)
    box, score, class_id = next(iter(expected[busiest]))
    width, height = box[2] - box[0], box[3] - box[1]
    assert first["bbox"] == pytest.approx([box[0], box[1], width, height], abs=1e-2)
    assert first["score"] == pytest.approx(score, abs=1e-4)
    assert first["category_id"] == detector.spec.category_ids[class_id]
    drawn = cv2.imread(str(tmp_path / "out" / f"{busiest:03}.png"))
    assert drawn is not None
    assert drawn.shape == images[busiest].shape
    assert not np.array_equal(drawn, images[busiest])


def test_one_image_and_a_pattern(artifact: Artifact, folder: Path, tmp_path: Path) -> None:
    run(artifact, folder / "002.png", tmp_path / "one")
    assert (tmp_path / "one" / "002.png").exists()
    results = run(artifact, f"{folder}/**/00[02].png", tmp_path / "two")
    assert (tmp_path / "two" / "deep" / "000.png").exists()
    assert (tmp_path / "two" / "000.png").exists()
    assert str(folder / "002.png") in {entry["image_id"] for entry in results}  # 000 twice: the numbers are no ids


def test_names_that_are_no_numbers_are_the_ids(artifact: Artifact, images: list[Image], tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "street.png"), images[2])
    assert {entry["image_id"] for entry in run(artifact, tmp_path / "street.png", tmp_path / "out")} == {
        str(tmp_path / "street.png")
    }


def test_an_image_that_cannot_be_read_does_not_stop_the_others(
    artifact: Artifact, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "001.png").write_text("no image")
    (folder / "004.png").unlink()
    os.mkfifo(folder / "004.png")  # to read it would never end
    output = tmp_path / "out"
    assert detect.main([str(artifact.folder), str(folder), "--output", str(output), "--score-threshold", "0.02"]) == 1
    said = capsys.readouterr().err
    assert f"left out: {folder / '001.png'} is not an image" in said and f"left out: {folder / '004.png'} " in said
    assert "2 of 5 images were left out" in said
    assert len(json.loads((output / "detections.json").read_text())) > 10
    assert sorted(path.name for path in output.iterdir())[:3] == ["000.png", "002.png", "003.png"]


def test_ctrl_c_keeps_what_is_done(
    artifact: Artifact, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = 0

    def interrupt(path: Path) -> Image:
        nonlocal seen
        seen += 1
        if seen == 4:
            raise KeyboardInterrupt
        return read_image(path)

    monkeypatch.setattr(detect, "read_image", interrupt)
    output = tmp_path / "out"
    assert detect.main([str(artifact.folder), str(folder), "--output", str(output), "--score-threshold", "0.02"]) == 130
    monkeypatch.undo()
    whole = run(artifact, folder, tmp_path / "whole")
    expected = [entry for entry in whole if entry["image_id"] < 3]
    assert json.loads((output / "detections.json").read_text()) == expected != []
    assert (output / "002.png").exists()


HOLD = """
import sys
from pathlib import Path
from exporters.lock import only_here
with only_here(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_into_one_folder_is_refused(
    artifact: Artifact, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They would write to one file."""
    output, command = tmp_path / "out", [sys.executable, "-c", HOLD, str(tmp_path / "out" / ".detect.lock")]
    arguments = [str(artifact.folder), str(folder), "--output", str(output)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        assert detect.main(arguments) == 1
        assert f"another process detects into {output}" in capsys.readouterr().err
        other.communicate()
    assert detect.main(arguments) == 0
    assert not (output / ".detect.lock").exists()


@pytest.mark.parametrize("name", ["photo", "photo.jfif", "f\udcff.png"])
def test_odd_names_get_a_picture(name: str, artifact: Artifact, folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "odd" / name
    source.parent.mkdir()
    (folder / "000.png").rename(source)
    run(artifact, source, tmp_path / "out")
    assert (tmp_path / "out" / name).exists()


@pytest.mark.parametrize("name", ["grey.pgm", "black.pbm"])
def test_a_picture_of_a_format_without_colours_is_png(
    name: str, artifact: Artifact, images: list[Image], tmp_path: Path
) -> None:
    assert cv2.imwrite(str(tmp_path / name), cv2.cvtColor(images[2], cv2.COLOR_BGR2GRAY))
    assert run(artifact, tmp_path / name, tmp_path / "out", "--score-threshold", "0.001")
    picture = cv2.imread(str(tmp_path / "out" / name))
    assert np.ptp(picture, axis=2).any(), "boxes have colours"


@pytest.fixture
def video(images: list[Image], tmp_path: Path) -> Path:
    frame = cv2.resize(images[2], (320, 240))
    writer = cv2.VideoWriter(str(tmp_path / "in.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for _ in range(5):
        writer.write(frame)
    writer.release()
    return tmp_path / "in.avi"


def test_a_video(artifact: Artifact, video: Path, tmp_path: Path) -> None:
    results = run(artifact, video, tmp_path / "out", "--max-frames", "3")
    assert {entry["image_id"] for entry in results} == {0, 1, 2}
    capture = cv2.VideoCapture(str(tmp_path / "out" / "in.mp4"))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["detections.json", "in.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of files")
def test_a_video_that_the_disk_does_not_hold_is_an_error(
    artifact: Artifact, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """OpenCV writes what it can, and says nothing."""
    import resource

    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, former[1]))
    try:
        options = ["--output", str(tmp_path / "out"), "--score-threshold", "0.99"]  # a small detections.json
        code = detect.main([str(artifact.folder), str(video), *options])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert code == 1
    assert "in.mp4 could not be written to its end" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["detections.json"]


def test_it_runs_without_torch(
    artifact: Artifact, folder: Path, tmp_path: Path, run_without: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    missing = ["torch", "onnx", "onnxsim", "onnxscript", "hotcoco"]
    done = run_without(missing, "detect", str(artifact.folder), str(folder), "--output", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "detections.json").exists()


@pytest.mark.parametrize("suffix", [".engine", ".rtx"])
def test_engines_that_cannot_run_here_are_one_sentence(
    suffix: str, artifact: Artifact, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"an engine")
    (tmp_path / "spec.json").write_text((artifact.folder / "spec.json").read_text())
    assert detect.main([str(path), str(folder), "--output", str(tmp_path / "out")]) == 1
    assert detect.main([str(path), str(folder), "--output", str(tmp_path / "out"), "--threads", "2"]) == 1
    first, second = capsys.readouterr().err.strip().splitlines()
    assert first.startswith("error: ")
    assert "have no option 'threads'" in second


def test_the_source_is_never_replaced(
    artifact: Artifact, folder: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / "000.png").read_bytes()
    assert detect.main([str(artifact.folder), str(folder), "--output", str(folder)]) == 1
    assert "would replace" in capsys.readouterr().err
    assert (folder / "000.png").read_bytes() == before
    (folder.parent / "link").symlink_to(folder, target_is_directory=True)
    for same in (folder / ".." / folder.name, folder.parent / "link"):
        assert detect.main([str(artifact.folder), str(folder), "--output", str(same)]) == 1
        assert "would replace" in capsys.readouterr().err
    assert (folder / "000.png").read_bytes() == before
    video.rename(folder / "film.mp4")
    assert detect.main([str(artifact.folder), str(folder / "film.mp4"), "--output", str(folder)]) == 1
    assert "would replace" in capsys.readouterr().err
    assert not (folder / "detections.json").exists()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("nowhere", "names no image"),
        ("nowhere.mp4", "does not exist"),
        ("*.gif", "names no image"),
        ("77", "camera 77"),
    ],
)
def test_sources_that_are_none(
    source: str, says: str, artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect.main([str(artifact.folder), source, "--output", str(tmp_path / "out")]) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_output_that_is_a_file(
    artifact: Artifact, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    assert detect.main([str(artifact.folder), str(folder), "--output", str(tmp_path / "file")]) == 1
    assert "not a folder" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_drawing_leaves_the_image_and_takes_any_box() -> None:
    image = np.full((60, 80, 3), 50, np.uint8)
    boxes = [[10, 20, 40, 50], [-1e9, -5, 1e9, 1e9], [70, -30, 75, -10]]
    found = Detections(np.array(boxes, np.float32), np.array([0.9, 0.5, 0.4], np.float32), np.arange(3))
    picture = draw(image, found, ("cat", "dog", "owl"))
    assert (image == 50).all()
    assert (picture[20, 12:38] != 50).any()


@pytest.mark.parametrize("option", ["--every", "--max-frames"])
def test_options_of_videos_are_refused_for_images(
    option: str, artifact: Artifact, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(artifact.folder), str(folder), "--output", str(tmp_path / "out"), option, "2"]
    assert detect.main(arguments) == 1
    assert option in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_an_earlier_run_in_the_folder_is_warned_of(
    artifact: Artifact, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(artifact, folder, tmp_path / "out")
    assert "earlier run" not in capsys.readouterr().err
    run(artifact, folder / "000.png", tmp_path / "out")
    assert f"{tmp_path / 'out'} holds an earlier run's pictures" in capsys.readouterr().err


def test_where_the_images_are_is_said(
    artifact: Artifact, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "set" / "train").mkdir(parents=True)
    (folder / "000.png").rename(tmp_path / "set" / "train" / "0.png")
    assert detect.main([str(artifact.folder), str(tmp_path / "set"), "--output", str(tmp_path / "out")]) == 1
    assert f"there are some in {tmp_path / 'set' / 'train'}" in capsys.readouterr().err
    assert detect.main([str(artifact.folder.parent), str(folder), "--output", str(tmp_path / "out")]) == 1
    assert f"name one of the artifacts in it: {artifact.folder.name}" in capsys.readouterr().err

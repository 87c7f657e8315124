"""The page of `detect --show`, in a real browser, where there is one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from exporters.artifact import Artifact
from runtimes import Detections
from runtimes.preprocess import Image
from yolox_deploy import detect, gallery
from yolox_deploy.data.images import read_image
from yolox_deploy.gallery import Gallery, writing_gallery

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr",
    "--allow-file-access-from-files", "--virtual-time-budget=5000", "--window-size=1300,900", "--dump-dom",
]  # fmt: skip
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")

HOSTILE = "</script><script>console.log('ran')</script><img src=x onerror=console.log('ran')>&amp;"
CLASSES = ("cat", "dog", HOSTILE)
GREY = np.full((60, 90, 3), 128, np.uint8)


def some(*pairs: tuple[int, float]) -> Detections:
    """Detections of these classes and scores."""
    boxes = np.tile(np.array([[5, 5, 40, 40]], np.float32), (len(pairs), 1))
    return Detections(boxes, np.array([score for _, score in pairs]), np.array([class_id for class_id, _ in pairs]))


def data_of(page: Path, name: str = "pictures") -> Any:
    """What stands in the page for its script to read."""
    found = re.search(rf'id="{name}">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return json.loads(found[1])


def in_browser(page: Path, script: str, width: int = 1200) -> list[str]:
    """What a script says at the end of a page in a window that is so wide, and what the browser complains of."""
    assert BROWSER is not None
    tried = page.with_name("tried.html")
    tried.write_text(f"{page.read_text(encoding='utf-8')}<script>{script}</script>", encoding="utf-8")
    window = page.with_name("window.html")  # in a frame, since windows have a least width
    window.write_text(
        f'<!doctype html><iframe src="tried.html" style="border: 0; width: {width}px; height: 900px"></iframe>'
    )
    profile = page.parent / ".profile"
    command = [BROWSER, *OPTIONS, f"--user-data-dir={profile}", window.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return re.findall(r'CONSOLE[^"]*"(.*)", source', done.stderr)


def add(page: Gallery, folder: Path, name: str, found: Detections) -> None:
    (folder / name).write_bytes(cv2.imencode(".png", GREY)[1].tobytes())
    page.add(GREY, found, folder / name)


@needs_browser
def test_filters_pages_and_the_keyboard(tmp_path: Path) -> None:
    with writing_gallery(tmp_path, "some", CLASSES, 0.25) as page:
        for index in range(450):
            add(page, tmp_path, f"{index:03}.png", some((0, 0.9), (0, 0.3)) if index % 3 else some((1, 0.5)))
        add(page, tmp_path, "none.png", some())
    script = """
        const tiles = () => document.querySelectorAll("#grid li").length;
        const say = (...words) => console.log(words.join(" | "));
        const classes = () => [...document.querySelectorAll("#classes label")].map((label) => label.textContent);
        say(tiles(), find("#status").textContent, find("#page").textContent, classes());
        find("#next").click(); find("#next").click();
        say(tiles(), find("#page").textContent, find("#next").disabled, document.activeElement.href.slice(-7));
        find("#score").value = 0.4; find("#score").dispatchEvent(new Event("input"));
        say(tiles(), find("#status").textContent, find("output").textContent, classes());
        document.querySelectorAll("#classes input")[1].click();
        say(tiles(), find("#status").textContent, find("nav").hidden);
        document.querySelectorAll("#grid a")[1].click();
        say(find("dialog").open, find("#caption").textContent);
        find("dialog").dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
        say(find("dialog img").src.slice(-7), find("#caption").textContent);
        find("#close").click();
        setTimeout(() => say(find("dialog").open, document.activeElement.href.slice(-7)), 100);
    """
    said = in_browser(tmp_path / "index.html", f"{{const find = (one) => document.querySelector(one);{script}}}")
    assert said == [
        "200 | 451 pictures, 750 detections | Page 1 of 3 | cat600,dog150,nothing found1",
        "51 | Page 3 of 3 | true | 400.png",
        "200 | 451 pictures, 450 detections | 0.40 | cat300,dog150,nothing found1",
        "150 | 150 pictures of 451, 150 detections | true",
        "true | 003.png: dog 0.50",
        "006.png | 006.png: dog 0.50",
        "false | 006.png",
    ]


@needs_browser
@pytest.mark.parametrize("width", [1200, 390])
def test_names_are_text_and_nothing_is_wider_than_the_window(width: int, tmp_path: Path) -> None:
    name = HOSTILE.replace("/", "") + "long" * 20 + " ä#?%20.png"
    with writing_gallery(tmp_path, HOSTILE, CLASSES, 0.25) as page:
        add(page, tmp_path, name, some((2, 0.9)))
    script = """{
        const find = (one) => document.querySelector(one);
        console.log("wide", document.documentElement.scrollWidth, document.querySelectorAll("script").length);
        console.log(JSON.stringify([document.title, find("#grid span").textContent, find("#grid small").textContent]));
        find("#grid a").click();
        find("dialog img").onload = ({ target }) => console.log("loaded", target.naturalWidth);
    }"""
    wide, texts, loaded = in_browser(tmp_path / "index.html", script, width)
    assert wide == f"wide {width} 4"  # two with data, the page's own, and the one above
    assert json.loads(texts.replace('\\"', '"')) == [HOSTILE, name, HOSTILE]
    assert loaded == "loaded 90"


@needs_browser
def test_five_thousand_pictures_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "write_picture", lambda *_, **__: None)
    with writing_gallery(tmp_path, "many", CLASSES, 0.25) as page:
        for index in range(5000):
            page.add(GREY, some(*[(index % 2, 0.5)] * 10), tmp_path / f"{index}.jpg")
    assert (tmp_path / "index.html").stat().st_size < 2e6
    script = (
        'console.log(document.querySelectorAll("#grid li").length, document.querySelector("#status").textContent,'
        'document.querySelector("#page").textContent)'
    )
    assert in_browser(tmp_path / "index.html", script)[0] == "200 5,000 pictures, 50,000 detections Page 1 of 25"


@pytest.fixture
def folder(tmp_path: Path, images: list[Image]) -> Path:
    (tmp_path / "in").mkdir()
    for index, image in enumerate(images):
        cv2.imwrite(str(tmp_path / "in" / f"{index:03}.png"), cv2.resize(image, (900, 600)))
    return tmp_path / "in"


def run(artifact: Artifact, source: Path, output: Path) -> int:
    return detect.main(
        [str(artifact.folder), str(source), "--output", str(output), "--score-threshold", "0.02", "--show"]
    )


def test_the_page_tells_what_the_results_tell(
    artifact: Artifact, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert run(artifact, folder, output) == 0
    assert str(output / "index.html") in capsys.readouterr().out
    results = json.loads((output / "detections.json").read_text())
    pictures = data_of(output / "index.html")
    names = [name for name, _ in data_of(output / "index.html", "about")["classes"]]
    assert [picture["name"] for picture in pictures] == [f"{index:03}.png" for index in range(5)]
    ids = [artifact_id(artifact, class_id) for picture in pictures for class_id, _ in picture["found"]]
    assert ids == [entry["category_id"] for entry in results]
    assert len(names) == 80 and len(ids) > 20
    scores = [score for picture in pictures for _, score in picture["found"]]
    assert scores == pytest.approx([entry["score"] for entry in results], abs=1e-4)
    for picture in pictures:
        assert read_image(output / picture["file"]).shape == (600, 900, 3)
        assert read_image(output / picture["thumbnail"]).shape == (267, 400, 3)
    assert not re.findall(r"https?:|//[a-z]+\.|@import|url\(", (output / "index.html").read_text())


def artifact_id(artifact: Artifact, class_id: int) -> int:
    number: int = json.loads((artifact.folder / "spec.json").read_text())["category_ids"][class_id]
    return number


def test_ctrl_c_keeps_the_page(
    artifact: Artifact, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = iter([*sorted(folder.iterdir())[:3], None])

    def interrupt(path: Path) -> Image:
        if next(read) is None:
            raise KeyboardInterrupt
        return read_image(path)

    monkeypatch.setattr(detect, "read_image", interrupt)
    assert run(artifact, folder, tmp_path / "out") == 130
    assert [one["name"] for one in data_of(tmp_path / "out" / "index.html")] == ["000.png", "001.png", "002.png"]
    assert (tmp_path / "out" / "index.html").read_text().endswith("</body></html>\n")
    assert not list((tmp_path / "out").glob(".*"))


def test_a_video_gives_one_frame_a_second(artifact: Artifact, images: list[Image], tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "in.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 4, (320, 240))
    for _ in range(9):
        writer.write(cv2.resize(images[2], (320, 240)))
    writer.release()
    assert run(artifact, tmp_path / "in.avi", tmp_path / "out") == 0
    pictures = data_of(tmp_path / "out" / "index.html")
    assert [one["name"] for one in pictures] == [f"frames/00000{number}.jpg" for number in (0, 4, 8)]
    assert all(read_image(tmp_path / "out" / one["file"]).shape == (240, 320, 3) for one in pictures)
    assert data_of(tmp_path / "out" / "index.html", "about")["video"] == {"name": "in.mp4", "file": "in.mp4"}


@pytest.mark.skipif(sys.platform == "win32", reason="names that are no text are Linux's")
def test_a_name_that_is_no_text(artifact: Artifact, folder: Path, tmp_path: Path) -> None:
    odd = tmp_path / "o\udcffdd"
    odd.mkdir()
    (folder / "000.png").rename(odd / "f\udcff.png")
    assert run(artifact, odd, tmp_path / "out") == 0
    assert data_of(tmp_path / "out" / "index.html")[0]["file"] == "f%FF.png"


def test_your_own_thumbnails_are_not_replaced(
    artifact: Artifact, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder, folder / "thumbnails")
    assert run(artifact, Path(f"{folder}/**/*.png"), tmp_path / "out") == 1
    assert "give your folder of that name another" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["index.html", "frames/000000.jpg"])
def test_pages_and_pictures_of_others_are_not_replaced(
    name: str, artifact: Artifact, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "out" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    assert run(artifact, folder, tmp_path / "out") == 1
    assert "choose another --output" in capsys.readouterr().err and theirs.read_text() == "theirs"
    theirs.unlink()
    for _ in range(2):  # a page of ours is replaced
        assert run(artifact, folder, tmp_path / "out") == (0 if name == "index.html" else 1)


@pytest.mark.parametrize(("terminal", "display", "opens"), [(True, ":0", 1), (True, "", 0), (False, ":0", 0)])
def test_it_opens_where_a_person_looks(
    terminal: bool, display: str, opens: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(gallery.sys, "platform", "linux")
    monkeypatch.setattr(gallery.sys.stdout, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(gallery.webbrowser, "open", opened.append)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if display:
        monkeypatch.setitem(os.environ, "DISPLAY", display)
    gallery.show(tmp_path / "index.html")
    assert opened == [(tmp_path / "index.html").as_uri()] * opens

"""The page of `compare` in a real browser, where there is one: no errors, nothing cut off."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.compare.comparison import Comparison, Row
from benchmarks.compare.intervals import Interval, Summary
from benchmarks.compare.page import PARITY, page
from benchmarks.compare.speed import Throughput
from benchmarks.compare.worst import WorstImage
from benchmarks.machine import describe_machine
from runtimes import Detections

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--enable-logging=stderr", "--window-size=1300,2400",
]  # fmt: skip

MEASURE = "<script>console.log('wide', document.documentElement.scrollWidth)</script>"


def some_page() -> str:
    rows = [row("onnx fp32", "fp32", 20.0, 0.286), row("openvino <int8>", "int8", 12.0, 0.281)]
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    box = Detections(np.array([[10, 10, 60, 60]], np.float32), np.array([0.8], np.float32), np.array([0]))
    found = Comparison(
        reference="model.pth", reference_figures=rows[0].figures, baseline="onnx fp32", images=16, data="some data",
        rows=rows, peaks={"fp32": 100.0, "bf16": 200.0, "int8": 400.0}, gflops=1.0,
        warnings=["The machine was busy."], machine=describe_machine(), seconds=60,
    )  # fmt: skip
    return page(found, [WorstImage("openvino <int8>", image, box, box, ("thing",))])


def row(name: str, computes: str, milliseconds: float, ap: float) -> Row:
    p50 = Interval(milliseconds, 0.98 * milliseconds, 1.02 * milliseconds)
    late = Interval(1.2 * milliseconds, 1.1 * milliseconds, 1.3 * milliseconds)
    summary = Summary(p50, late, late, 0.05)
    stages = {"preprocess": 1.0, "copy_in": 0.0, "compute": milliseconds - 2, "copy_out": 0.0, "postprocess": 1.0}
    ratio = Interval(20 / milliseconds, 19 / milliseconds, 21 / milliseconds)
    return Row(
        name=name, path="a/b", sha256={"model.onnx": "0" * 64}, target=".onnx", precision="fp32",
        computes=computes, options={}, batch=1, megabytes=3.7, figures={"AP": ap, "AP50": 1.5 * ap},
        AP_drop=0.286 - ap,
        parity={"passed": True, "text": "", **dict.fromkeys(PARITY, 0)}, stages=stages,
        times=[[[milliseconds * (1 + 0.01 * turn) for turn in range(10)]]], engine=summary, total=summary, ratio=ratio,
        total_ratio=ratio, throughput=[Throughput(2, 1, 1, 90.0)], load_milliseconds=80, peak_mib=200,
        warmup_runs=20, steady=True, roof=0.5,
    )  # fmt: skip


def console(html: str, width: int, folder: Path) -> list[str]:
    """What a browser says of a page in a window that is so wide. In a frame: windows have a least width."""
    assert BROWSER is not None
    (folder / "page.html").write_text(html, encoding="utf-8")
    frame = f'<iframe src="page.html" style="border: 0; width: {width}px; height: 2300px"></iframe>'
    (folder / "window.html").write_text(f"<!doctype html><body style='margin: 0'>{frame}", encoding="utf-8")
    command = [BROWSER, *OPTIONS, f"--user-data-dir={folder / 'profile'}", f"--screenshot={folder / 'page.png'}"]
    done = subprocess.run(
        [*command, (folder / "window.html").as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return re.findall(r'CONSOLE[^"]*"(.*)", source', done.stderr)


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")
@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_in_a_browser(width: int, tmp_path: Path) -> None:
    """The console is empty but for what is asked, nothing is wider than the window, and it is drawn."""
    assert console(some_page() + MEASURE, width, tmp_path) == [f"wide {width}"]
    picture = cv2.imread(str(tmp_path / "page.png"))
    assert picture is not None
    assert np.unique(picture[:, :width].reshape(-1, 3), axis=0).shape[0] > 300


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")
def test_what_a_browser_would_say(tmp_path: Path) -> None:
    """The check above can fail: on an error, and on what is too wide."""
    assert "Uncaught ReferenceError" in console(f"{some_page()}<script>nothing()</script>", 1200, tmp_path)[0]
    wide = console(f'{some_page()}<div style="width: 900px">wide</div>{MEASURE}', 390, tmp_path)
    assert wide and wide != ["wide 390"]


def test_names_are_text() -> None:
    """A name cannot bring elements of its own."""
    assert "<int8>" not in some_page()
    assert "openvino &lt;int8&gt;" in some_page()

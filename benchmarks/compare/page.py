"""A comparison as one HTML page: nothing beside it, no script, readable on a phone and on paper."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path

import cv2
import numpy as np

from runtimes.preprocess import Image
from yolox_deploy.drawing import draw
from yolox_deploy.evaluator import points
from yolox_deploy.files import write_text

from .charts import distributions, drop_bars, scatter, stage_bars
from .comparison import Comparison, Row
from .worst import SHOWN_SCORE, WorstImage

PICTURE_WIDTH = 520

STYLE = Path(__file__).with_name("page.css")


def write_page(path: Path, found: Comparison, worst: Sequence[WorstImage]) -> None:
    write_text(path, page(found, worst))


def page(found: Comparison, worst: Sequence[WorstImage]) -> str:
    """The whole page."""
    title = f"{len(found.rows)} artifact{'s' if len(found.rows) > 1 else ''} against {Path(found.reference).name}"
    sections = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(_circumstances(found))}</p>',
        *(f'<p class="warning">{escape(text)}</p>' for text in found.warnings),
        _charts(found),
        _section("AP and latency", _table(found, LATENCY, _latency_cells), _latency_note()),
        _section("Throughput and resources", _table(found, RESOURCES, _resource_cells), _resource_note(found)),
        _section(
            "Parity",
            _parity(found.rows),
            PARITY_NOTE,
        ),
        _worst(worst),
        _section("Measured on", _manifest(found)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{STYLE.read_text(encoding='utf-8')}</style></head><body>{''.join(sections)}</body></html>\n"
    )


def _circumstances(found: Comparison) -> str:
    machine = found.machine
    data = f"AP on {found.data}. " if found.data else "No labelled data, so no AP. "
    threads = sorted({row.options["threads"] for row in found.rows if "threads" in row.options})
    count = f"{', '.join(map(str, threads))} thread{'s' if threads != [1] else ''}" if threads else "the GPU"
    hardware = f"{machine.processor}, {machine.gpu}" if machine.gpu else machine.processor
    return (
        f"{data}Times on {count}, {found.images} images in turn, each artifact in fresh processes of its own, in"
        f" alternating rounds; {hardware}. Baseline: {found.baseline}."
    )


def _section(title: str, content: str, note: str = "") -> str:
    words = f'<p class="soft">{escape(note)}</p>' if note else ""
    return f"<h2>{escape(title)}</h2>{words}{content}"


def _charts(found: Comparison) -> str:
    rows = found.rows
    left, right = [], []
    if all(row.figures is not None for row in rows):
        shapes = "● fp32 ◆ fp16 ▲ bf16 ■ int8"
        left.append(
            _section(
                "Speed against AP",
                scatter(rows),
                f"Left and up is better, and nothing beats what the dashed line joins. {shapes}",
            )
        )
        if found.reference_figures is not None:
            title = f"Reference: AP {points(found.reference_figures['AP'])}."
            right.append(_section("AP lost", drop_bars(rows), f"{title} To the right is worse."))
    note = "Milliseconds an image. Each tick is one run, from image to boxes; the bar is the median."
    left.append(_section("Latency", distributions(rows), note))
    right.append(_section("Where the time goes", stage_bars(rows)))
    return f'<div class="pair"><div>{"".join(left)}</div><div>{"".join(right)}</div></div>'


def _latency_note() -> str:
    return (
        "AP and drop in points, 0 to 100. Milliseconds of an image; of a batch, its share. Intervals are 95 %, from"
        " drawing launches and their rounds anew. “=”: no difference beyond chance. CV: standard deviation over mean."
    )


def _resource_note(found: Comparison) -> str:
    peaks = ", ".join(f"{name} {value:.0f}" for name, value in found.peaks.items())
    work = f" The model's convolutions: {found.gflops:.2f} GFLOP an image." if found.gflops else ""
    return (
        "FPS: one image after the other; all cores: the best way to share them out. Roof: share of this machine's"
        f" matrix-multiply peak ({peaks} GFLOP/s) that the compute stage reaches.{work}"
    )


LATENCY = ("artifact", "AP", "AP50", "drop", "p50 ms", "95 %", "p90", "p99", "CV", "engine ms", "speed", "95 %")


def _latency_cells(row: Row) -> list[str]:
    p50, ratio = row.total.p50, row.total_ratio
    ap = [points(row.figures[name]) for name in ("AP", "AP50")] if row.figures else ["", ""]
    return [
        row.name,
        *ap,
        "" if row.AP_drop is None else f"{round(100 * row.AP_drop, 2) + 0.0:+.2f}",
        f"{p50.value:.2f}",
        f"{p50.low:.2f} to {p50.high:.2f}" if row.spread else "",
        f"{row.total.p90.value:.2f}",
        f"{row.total.p99.value:.2f}",
        f"{row.total.cv:.1%}",
        f"{row.engine.p50.value:.2f}",
        f"{ratio.value:.2f}x{'' if row.verdict() else ' ='}",
        f"{ratio.low:.2f} to {ratio.high:.2f}" if row.spread else "",
    ]


RESOURCES = (
    "artifact", "FPS", "FPS, all cores", "streams x threads x batch", "MB", "load ms", "peak MiB", "roof",
)  # fmt: skip


def _resource_cells(row: Row) -> list[str]:
    best = row.best_throughput
    return [
        row.name,
        f"{row.images_per_second:.1f}",
        "" if best is None else f"{best.images_per_second:.1f}",
        "" if best is None else f"{best.streams} x {best.threads} x {best.batch}",
        f"{row.megabytes:.1f}",
        f"{row.load_milliseconds:.0f}",
        f"{row.peak_mib:.0f}",
        "" if row.roof is None else f"{row.roof:.0%}",
    ]


def _table(found: Comparison, columns: Sequence[str], cells: Callable[[Row], list[str]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in columns)
    body = "".join(
        f"<tr{' class=base' if row.name == found.baseline else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells(row))
        + "</tr>"
        for row in found.rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


PARITY_NOTE = (
    "Detections against the reference's, image by image. Box error, in pixels, and score error are the largest; then"
    " the means, of 1 - IoU and of the score. Lower precisions are judged by what is missed or extra, and by the means."
    " Tied: a choice between equals."
)
PARITY = ("detections", "missed", "extra", "tied", "box_error", "score_error", "mean_box_error", "mean_score_error")


def _parity(rows: Sequence[Row]) -> str:
    names = ("artifact", "verdict", *(name.replace("_", " ") for name in PARITY))
    head = "".join(f"<th>{name}</th>" for name in names)
    body = []
    for row in rows:
        passed = row.parity["passed"]
        verdict = "<td>parity</td>" if passed else f'<td class="no" title="{escape(row.parity["text"])}">NO PARITY</td>'
        numbers = [row.parity[name] for name in PARITY]
        cells = [f"{value:.2g}" if isinstance(value, float) else str(value) for value in numbers]
        body.append(f"<tr><td>{escape(row.name)}</td>{verdict}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _worst(worst: Sequence[WorstImage]) -> str:
    if not worst:
        return ""
    figures = "".join(
        f"<figure><figcaption>{escape(one.artifact)} (right) against the reference (left)</figcaption><div>"
        f"{_picture(draw(one.image, one.expected, one.class_names), 'reference')}"
        f"{_picture(draw(one.image, one.found, one.class_names), one.artifact)}</div></figure>"
        for one in worst
    )
    note = f"Where an artifact differs most from the reference, boxes of score {SHOWN_SCORE:g} and over."
    return _section("Worst images", figures, note)


def _picture(image: Image, words: str) -> str:
    scale = min(PICTURE_WIDTH / image.shape[1], 1.0)
    small = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    data = base64.b64encode(jpeg.tobytes()).decode("ascii")
    return f'<img alt="{escape(words)}" src="data:image/jpeg;base64,{data}">'


def _manifest(found: Comparison) -> str:
    facts = {name.replace("_", " "): value for name, value in asdict(found.machine).items() if value}
    facts |= {"took": f"{found.seconds:.0f} s"}
    facts |= {row.name: f"{row.path}, sha256 of {_text(row.sha256)}" for row in found.rows}
    lines = "".join(
        f"<tr><td>{escape(str(name))}</td><td>{escape(_text(value))}</td></tr>" for name, value in facts.items()
    )
    return f'<table class="manifest">{lines}</table>'


def _text(value: object) -> str:
    return ", ".join(f"{name} {item}" for name, item in value.items()) if isinstance(value, dict) else str(value)

"""Charts as SVG and HTML that need no script: they print, and adapt to the width of a phone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from statistics import median

from ..stages import STAGES
from .comparison import Row

# Backends by colour, precisions by shape: told apart without colour as well.
COLOURS = {".onnx": "#4477aa", ".xml": "#cc6633", ".param": "#228855", ".engine": "#775599", ".rtx": "#775599"}
STAGE_COLOURS = dict(zip(STAGES, ("#88aacc", "#ddaa66", "#4477aa", "#cc6633", "#99bb77"), strict=True))
STAGE_TITLES = {
    "preprocess": "preprocess", "copy_in": "to the device", "compute": "compute", "copy_out": "from the device",
    "postprocess": "postprocess",
}  # fmt: skip
WIDTH, HEIGHT, LEFT, BOTTOM = 480, 320, 46, 40


def pareto(rows: Sequence[Row]) -> list[Row]:
    """The rows that no other one beats in both AP and time, fastest first."""
    front: list[Row] = []
    best = -math.inf
    for row in sorted(rows, key=lambda row: (row.total.p50.value, -_ap(row))):
        if _ap(row) > best:
            front.append(row)
            best = _ap(row)
    return front


def _ap(row: Row) -> float:
    return -math.inf if row.figures is None else 100 * row.figures["AP"]


def scatter(rows: Sequence[Row]) -> str:
    """Milliseconds against AP, the Pareto front drawn through. Rows must have AP."""
    times = [row.total.p50.value for row in rows]
    accuracies = [_ap(row) for row in rows]
    x = _Scale(0, 1.08 * max(times), LEFT, WIDTH - 12)
    low, high = min(accuracies), max(accuracies)
    margin = max(0.15 * (high - low), 0.2)
    y = _Scale(low - margin, high + margin, HEIGHT - BOTTOM, 12)
    front = pareto(rows)
    line = " ".join(f"{x(row.total.p50.value):.1f},{y(_ap(row)):.1f}" for row in front)
    parts = [_axes(x, y, "milliseconds, image to boxes", "AP, points")]
    parts.append(f'<polyline points="{line}" fill="none" class="front"/>')
    # Labels stand clear of all marks, too.
    placed = [(x(row.total.p50.value) - 8, x(row.total.p50.value) + 8, y(_ap(row)) + 4) for row in rows]
    for row in sorted(rows, key=lambda row: -_ap(row)):
        at = x(row.total.p50.value), y(_ap(row))
        parts.append(_mark(row, *at, on_front=row in front))
        parts.append(_label(row.name, *at, placed))
    title = "Speed against AP; the line joins what no other artifact beats in both"
    return _svg(parts, title)


class _Scale:
    """From values to positions, with round ticks."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        rough = (self.high - self.low) / 5
        power = 10 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
        first = math.ceil(self.low / step)
        return [number * step for number in range(first, math.floor(self.high / step) + 1)]


def _axes(x: _Scale, y: _Scale, x_title: str, y_title: str) -> str:
    parts = []
    for tick in x.ticks():
        parts.append(f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="12" y2="{HEIGHT - BOTTOM}" class="grid"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
    for tick in y.ticks():
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 12}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{round(tick, 6):g}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{x_title}</text>')
    parts.append(f'<text x="6" y="10">{y_title}</text>')
    return "".join(parts)


def _mark(row: Row, x: float, y: float, on_front: bool) -> str:
    """A circle for fp32, a diamond for fp16, a triangle for bf16, a square for int8."""
    colour, size = COLOURS.get(row.target, "#666666"), 6 if on_front else 4.5
    kind = row.computes if row.computes in ("bf16", "int8") else row.precision
    look = f'fill="{colour}" fill-opacity="{1 if on_front else 0.55}"'
    if kind == "int8":
        return f'<rect x="{x - size:.1f}" y="{y - size:.1f}" width="{2 * size}" height="{2 * size}" {look}/>'
    if kind == "fp32":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" {look}/>'
    shape = ((0, -1.3), (1.2, 0.9), (-1.2, 0.9)) if kind == "bf16" else ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0))
    points = " ".join(f"{x + size * dx:.1f},{y + size * dy:.1f}" for dx, dy in shape)
    return f'<polygon points="{points}" {look}/>'


def _label(text: str, x: float, y: float, placed: list[tuple[float, float, float]]) -> str:
    """Beside its mark, as near as it can stand without covering a mark or another label.

    placed: left, right and baseline of the marks, and of the labels so far.
    """
    length = 5.8 * len(text)
    sides = [left for left in (x + 9, x - 9 - length) if LEFT <= left <= WIDTH - length]
    heights = sorted(range(16, HEIGHT - BOTTOM, 4), key=lambda base: abs(base - y - 4))
    free = (
        (left, base)
        for base in heights
        for left in sides
        if all(abs(base - other) >= 11 or left >= end or start >= left + length for start, end, other in placed)
    )
    left, base = next(free, (sides[0], y + 4))
    placed.append((left, left + length, base))
    return f'<text x="{left:.1f}" y="{base:.1f}" textLength="{length:.0f}" class="label">{escape(text)}</text>'


def _svg(parts: Sequence[str], title: str) -> str:
    inner = "".join(parts)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
        f"{inner}</svg>"
    )


def distributions(rows: Sequence[Row]) -> str:
    """Every timed run of each artifact as a tick, and the median as a bar with its value."""
    most = max(sorted(_flat(row))[int(0.99 * (len(_flat(row)) - 1))] for row in rows) * 1.02
    lines = []
    for row in rows:
        ticks = "".join(
            f'<line x1="{100 * value / most:.2f}" x2="{100 * value / most:.2f}" y1="4" y2="16"/>'
            for value in _flat(row)
            if value <= most
        )
        middle = 100 * median(_flat(row)) / most
        strip = (
            f'<svg viewBox="0 0 100 20" preserveAspectRatio="none" class="strip" aria-hidden="true">'
            f'<g stroke="{COLOURS.get(row.target, "#666666")}">{ticks}</g>'
            f'<line x1="{middle:.2f}" x2="{middle:.2f}" y1="0" y2="20" class="middle"/></svg>'
        )
        text = f"{row.total.p50.value:.2f} ms &nbsp;p90 {row.total.p90.value:.2f} &nbsp;p99 {row.total.p99.value:.2f}"
        lines.append(_line(row.name, strip, text))
    return "".join(lines)


def _flat(row: Row) -> list[float]:
    return [value for launch in row.times for one in launch for value in one]


def stage_bars(rows: Sequence[Row]) -> str:
    """The five parts of each artifact, one behind the other."""
    most = max(sum(row.stages.values()) for row in rows)
    lines = []
    for row in rows:
        parts = "".join(
            f'<span style="width:{100 * value / most:.2f}%;background:{STAGE_COLOURS[stage]}"'
            f' title="{STAGE_TITLES[stage]}: {value:.3f} ms"></span>'
            for stage, value in row.stages.items()
            if value > 0
        )
        around = sum(value for stage, value in row.stages.items() if stage != "compute")
        lines.append(_line(row.name, f'<span class="bar">{parts}</span>', f"{around:.2f} ms around the network"))
    shown = [stage for stage in STAGES if any(row.stages[stage] > 0 for row in rows)]
    key = "".join(
        f'<span><i style="background:{STAGE_COLOURS[stage]}"></i>{STAGE_TITLES[stage]}</span>' for stage in shown
    )
    return f'<p class="key">{key}</p>{"".join(lines)}'


def drop_bars(rows: Sequence[Row]) -> str:
    """AP below the reference, in points; to the right is worse."""
    drops = [100 * (row.AP_drop or 0.0) for row in rows]
    most = max(1.0, *map(abs, drops))
    lines = []
    for row, drop in zip(rows, drops, strict=True):
        start, width = (50.0, 50 * drop / most) if drop >= 0 else (50 + 50 * drop / most, -50 * drop / most)
        colour = COLOURS.get(row.target, "#666666")
        bar = f'<span style="margin-left:{start:.2f}%;width:{max(width, 0.4):.2f}%;background:{colour}"></span>'
        lines.append(_line(row.name, f'<span class="bar zero">{bar}</span>', f"{round(drop, 2) + 0.0:+.2f} points"))
    return "".join(lines)


def _line(name: str, drawing: str, text: str) -> str:
    return f'<div class="line"><b title="{escape(name)}">{escape(name)}</b>{drawing}<small>{text}</small></div>'

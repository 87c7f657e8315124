"""What is promised of an artifact under load, what was found, and whether it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..compare.intervals import Interval
from .gauge import Trend, trend
from .interrupt import Interrupted
from .work import FRAME, FRAMES, GOOD_FRAMES, PAUSE, STREAMS, Reopened, Run, Streamed

# Limits. A slope is held against them by its interval: broken is what is surely beyond, flat what is surely within.
MOST_GROWTH = 1.0  # MiB for 10,000 images
MOST_LEFT = 1.0  # MiB for 100 cycles of opening and closing
LEAST_BACK = 0.9  # share of what opening took
MOST_SECONDS = 1.0  # from Ctrl-C to the end
FRAME_MIB = FRAME[0] * FRAME[1] * 3 / 2**20

Verdict = Literal["yes", "unclear", "NO"]


@dataclass(frozen=True)
class Row:
    """One promise. figures: what was measured."""

    artifact: str
    promise: str
    found: str
    kept: Verdict
    figures: dict[str, float]

    def __str__(self) -> str:
        return f"| {self.artifact} | {self.promise} | {self.found} | {self.kept} |"


def of_load(name: str, way: str, runs: Sequence[Run], expected: str) -> list[Row]:
    """way: how the load was made. runs: of each process. expected: the hash of the first process's own results."""
    images, differ = sum(run.images for run in runs), sum(run.differ for run in runs)
    foreign = sum(run.expected != expected for run in runs)
    rate = images / max(run.seconds for run in runs)
    trends = [trend(run.samples) for run in runs]
    worst = max(trends, key=lambda one: one.resident.low)
    growth = scaled(worst.resident, 10_000)
    largest = max(run.samples[-1].resident for run in runs)
    figures = {"images": images, "differ": differ, "foreign": foreign, "images_per_second": rate}
    same = f"{images} images, {differ + foreign} differ, {rate:.0f} a second"
    return [
        Row(name, f"{way}: the same results", same, verdict(differ + foreign == 0), figures),
        Row(
            name,
            f"{way}: memory is flat",
            f"{bounds(growth)} MiB for 10,000 images, of {largest:.0f}",
            flat(growth, MOST_GROWTH),
            {"slope": growth.value, "low": growth.low, "high": growth.high, "limit": MOST_GROWTH, "mib": largest},
        ),
        of_handles(name, way, trends),
    ]


def of_handles(name: str, way: str, trends: Sequence[Trend]) -> Row:
    descriptors, threads = (max(getattr(one, what) for one in trends) for what in ("descriptors", "threads"))
    return Row(
        name,
        f"{way}: descriptors and threads are flat",
        f"{descriptors:+d}, {threads:+d}",
        verdict(descriptors <= 0 and threads <= 0),
        {"descriptors": descriptors, "threads": threads},
    )


def of_cycles(name: str, found: Reopened) -> list[Row]:
    way, cycles = "open and close", len(found.samples)
    own = trend(found.samples)
    growth = scaled(own.resident, 100)
    closed = np.array([sample.resident for sample in found.samples])
    opened = np.array(found.opened)
    # In the mean of the second half: the first ones load libraries, and some backends take turns between two amounts.
    half = cycles // 2
    taken, back = float((opened[half:] - closed[half - 1 : -1]).mean()), float((opened - closed)[half:].mean())
    return [
        Row(
            name,
            f"{way}: memory comes back",
            f"{back:.1f} of {taken:.1f} MiB",
            verdict(back >= LEAST_BACK * taken),
            {"taken": taken, "back": back, "limit": LEAST_BACK},
        ),
        Row(
            name,
            f"{way}: nothing is left",
            f"{bounds(growth)} MiB for 100 cycles, of {cycles}",
            flat(growth, MOST_LEFT),
            {"slope": growth.value, "low": growth.low, "high": growth.high, "limit": MOST_LEFT},
        ),
        of_handles(name, way, [own]),
    ]


def of_stream(name: str, found: Streamed) -> list[Row]:
    """The frames on the way may be there, the one in the consumer's hand and one more; and as much again for work."""
    most, memory = 2 * STREAMS, 2 * (2 * STREAMS + 2) * FRAME_MIB
    taken = f"{found.on_the_way} images on the way, {most} at most; {found.grown:.0f} MiB, of {FRAMES * FRAME_MIB:.0f}"
    bounded = found.on_the_way <= most and found.grown <= memory
    figures = {"on_the_way": found.on_the_way, "mib": found.grown, "limit": memory, "pause": PAUSE}
    stopped = found.failed and found.left == 0
    return [
        Row(name, "stream: a slow consumer, bounded", taken, verdict(bounded), figures),
        Row(
            name,
            "stream: the same results",
            f"{FRAMES + GOOD_FRAMES} images, {found.differ} differ",
            verdict(found.differ == 0),
            {"differ": found.differ},
        ),
        Row(
            name,
            "stream: its source fails",
            f"exception {'came' if found.failed else 'LOST'}, {found.left} threads left",
            verdict(stopped),
            {"came": found.failed, "left": found.left},
        ),
    ]


def of_interrupt(name: str, runs: Sequence[Interrupted]) -> list[Row]:
    slowest, faults = max(run.seconds for run in runs), [fault for run in runs for fault in run.faults]
    pictures = sum(run.pictures for run in runs)
    whole = f"{pictures} pictures, {len(faults)} faults" + "".join(f"; {fault}" for fault in faults[:3])
    seconds = {f"seconds_{number}": run.seconds for number, run in enumerate(runs)}
    return [
        Row(
            name,
            "Ctrl-C: within a second",
            f"{slowest:.2f} s at most of {len(runs)}",
            verdict(slowest <= MOST_SECONDS),
            seconds,
        ),
        Row(
            name,
            "Ctrl-C: what is left is whole",
            whole,
            verdict(not faults),
            {"pictures": pictures, "faults": len(faults)},
        ),
    ]


def verdict(kept: bool) -> Verdict:
    return "yes" if kept else "NO"


def flat(growth: Interval, limit: float) -> Verdict:
    if growth.low > limit:
        return "NO"
    return "yes" if growth.high <= limit else "unclear"


def scaled(interval: Interval, factor: float) -> Interval:
    return Interval(interval.value * factor, interval.low * factor, interval.high * factor)


def bounds(interval: Interval) -> str:
    return f"{interval.value:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"

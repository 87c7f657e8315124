"""What was measured: a table, and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from exporters.matching import match
from runtimes.detections import Detections
from runtimes.json_file import json_text

from ..compare.intervals import Interval, Summary, differs, speed_ratio
from ..compare.speed import Contender, Speed
from ..compare.worst import SHOWN_SCORE, confident
from ..machine import Machine
from .contenders import DEMO

HEADER = "| pipeline | ms, image to boxes | speed | load ms | peak MiB | found |\n" + "|---" * 6 + "|"


@dataclass(frozen=True)
class Row:
    """One pipeline.

    total: milliseconds from an image to its boxes. speed: how many times faster than the official demo. load: from
    nothing to the first detections. found: the share of the demo's confident detections that this one has as well.
    """

    name: str
    artifact: str
    program: str
    total: Summary
    speed: Interval
    load_milliseconds: float
    peak_mib: float
    found: float

    def __str__(self) -> str:
        ratio = f"{self.speed.value:.2f}x [{self.speed.low:.2f}, {self.speed.high:.2f}]"
        cells = [
            self.name,
            str(self.total.p50),
            ratio if differs(self.speed) else f"{ratio} =",
            f"{self.load_milliseconds:.0f}",
            f"{self.peak_mib:.0f}",
            f"{self.found:.1%}",
        ]
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Report:
    """All pipelines. detections: how many confident ones the demo has; absent, warnings: sentences."""

    official: str
    images: int
    threads: int
    score_threshold: float
    nms_threshold: float
    detections: int
    rows: Sequence[Row]
    absent: Sequence[str]
    warnings: Sequence[str]
    machine: Machine

    def table(self) -> str:
        notes = [
            f"speed: image to boxes against the {DEMO}, each with score threshold {self.score_threshold:g}, NMS"
            f' threshold {self.nms_threshold:g} and {self.threads} thread(s); "=": no difference beyond chance',
            f"found: of {self.detections} detections of the {DEMO} by the rules of `runtimes`, with scores from"
            f" {SHOWN_SCORE} on in {self.images} images",
        ]
        return "\n".join([HEADER, *map(str, self.rows), "", *notes, *self.absent, *self.warnings])

    def last_line(self) -> str:
        """One line of JSON for programs that read the terminal."""
        rows = [
            {
                "name": row.name,
                "milliseconds": row.total.p50.value,
                "speed": asdict(row.speed),
                "load_milliseconds": row.load_milliseconds,
                "peak_mib": row.peak_mib,
                "found": row.found,
            }
            for row in self.rows
        ]
        summary = {"baseline": DEMO, "absent": list(self.absent), "warnings": list(self.warnings), "rows": rows}
        return json_text(summary)


def rows_of(contenders: Sequence[Contender], speed: Speed, found: Mapping[str, Sequence[Detections]]) -> list[Row]:
    """found: what each finds in the images, by its name."""
    first = speed.timings[DEMO].of("total")
    rows = []
    for one in contenders:
        timing = speed.timings[one.name]
        row = Row(
            name=one.name,
            artifact=str(one.artifact),
            program=one.program,
            total=timing.summary("total"),
            speed=speed_ratio(first, timing.of("total")),
            load_milliseconds=median(timing.load_milliseconds),
            peak_mib=timing.peak_mib,
            found=share_found(found[DEMO], found[one.name]),
        )
        rows.append(row)
    return rows


def share_found(expected: Iterable[Detections], found: Iterable[Detections]) -> float:
    """The share of confident detections that have one of their class in their place (IoU from 0.5 on)."""
    pairs = [(confident(one), other) for one, other in zip(expected, found, strict=True)]
    return sum(len(match(one, other)) for one, other in pairs) / max(sum(len(one) for one, _ in pairs), 1)

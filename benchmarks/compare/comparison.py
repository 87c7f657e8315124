"""What a comparison of artifacts found: a table for the terminal, JSON for programs; `page` makes it a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from runtimes.json_file import json_text
from yolox_deploy.evaluator import points

from ..machine import Machine
from .intervals import Interval, Summary, Times, differs
from .speed import Throughput

HEADER = (
    "| artifact | AP | drop | parity | ms, image to boxes | engine ms | speed | FPS | FPS, all cores | MB | load ms |"
    " peak MiB | of the roof |\n" + "|---" * 13 + "|"
)


@dataclass(frozen=True)
class Row:
    """One artifact.

    precision: the spec's; computes: what the convolutions compute in: fp32, bf16 or int8. figures: COCO's twelve as
    fractions, None without labelled data; AP_drop: AP below the reference, a fraction. parity: the fields of a
    `ParityReport` and what it says. All times are milliseconds of an image: of a batch, its share. stages: medians of
    the five parts; engine and total as in `StageTimes`; times: every total, by launch and round; ratio and total_ratio:
    how many times faster than the baseline. throughput: of every way to share the cores, and every batch; empty where
    it could not be measured. roof: share of this machine's matrix-multiply peak that the compute stage reaches, None
    where the model's work is not known, and for engines. sha256: of each model file, by its name.
    """

    name: str
    path: str
    sha256: dict[str, str]
    target: str
    precision: str
    computes: str
    options: dict[str, Any]
    batch: int
    megabytes: float
    figures: dict[str, float] | None
    AP_drop: float | None
    parity: dict[str, Any]
    stages: dict[str, float]
    times: Times
    engine: Summary
    total: Summary
    ratio: Interval
    total_ratio: Interval
    throughput: list[Throughput]
    load_milliseconds: float
    peak_mib: float
    warmup_runs: int
    steady: bool
    roof: float | None

    @property
    def images_per_second(self) -> float:
        return 1e3 / self.total.p50.value

    @property
    def best_throughput(self) -> Throughput | None:
        return max(self.throughput, key=lambda way: way.images_per_second, default=None)

    @property
    def spread(self) -> str:
        """Half the interval of the time; "" for one launch, which does not tell."""
        return f" ±{(self.total.p50.high - self.total.p50.low) / 2:.2f}" if len(self.times) > 1 else ""

    def verdict(self) -> str:
        """Against the baseline: "faster", "slower", or "" where the difference is within what chance does."""
        if not differs(self.total_ratio):
            return ""
        return "faster" if self.total_ratio.value > 1 else "slower"

    def __str__(self) -> str:
        cells = [
            self.name,
            "" if self.figures is None else points(self.figures["AP"]),
            "" if self.AP_drop is None else f"{round(100 * self.AP_drop, 2) + 0.0:+.2f}",
            "yes" if self.parity["passed"] else "NO",
            f"{self.total.p50.value:.2f}{self.spread}",
            f"{self.engine.p50.value:.2f}",
            f"{self.total_ratio.value:.2f}x{'' if self.verdict() else ' ='}",
            f"{self.images_per_second:.1f}",
            "" if self.best_throughput is None else f"{self.best_throughput.images_per_second:.1f}",
            f"{self.megabytes:.1f}",
            f"{self.load_milliseconds:.0f}",
            f"{self.peak_mib:.0f}",
            "" if self.roof is None else f"{self.roof:.0%}",
        ]
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Comparison:
    """All artifacts, and what they were compared on. peaks: GFLOP/s of this machine; warnings: sentences."""

    reference: str
    reference_figures: dict[str, float] | None
    baseline: str
    images: int
    data: str
    rows: Sequence[Row]
    peaks: dict[str, float]
    gflops: float | None
    warnings: Sequence[str]
    machine: Machine
    seconds: float

    def table(self) -> str:
        note = f'speed: image to boxes against {self.baseline}; "=": no difference beyond chance'
        note += "; AP and drop in points, 0 to 100" if self.data else ""
        return "\n".join([HEADER, *map(str, self.rows), "", note, *self._failures(), *self.warnings])

    def _failures(self) -> list[str]:
        """Why artifacts have no parity, and what to type to know more."""
        found = [f"no parity of {row.name}: {row.parity['text']}" for row in self.rows if not row.parity["passed"]]
        more = "More: yolox-deploy parity, and yolox-deploy diverge for the layer where it begins."
        return [*found, more] if found else []

    def last_line(self) -> str:
        """One line of JSON for programs that read the terminal."""
        rows = [
            {
                "name": row.name,
                "AP": None if row.figures is None else row.figures["AP"],
                "AP_drop": row.AP_drop,
                "parity": row.parity["passed"],
                "milliseconds": row.total.p50.value,
                "speed": asdict(row.total_ratio),
            }
            for row in self.rows
        ]
        summary = {"baseline": self.baseline, "warnings": list(self.warnings), "rows": rows}
        return json_text(summary)

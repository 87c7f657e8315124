"""Divergence: what was found in an artifact beside its reference, as a table, a verdict, JSON and a plot."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from runtimes.json_file import json_text
from runtimes.spec import Precision
from yolox_deploy.files import replacing

Cause = Literal[
    "resize", "padding", "channel order", "normalisation", "Focus order", "batch-norm eps", "changed weights",
    "quantisation", "reduced precision", "decode flag", "sigmoid", "unknown",
]  # fmt: skip

# The stages before the first convolution and behind the last ones.
INPUT, OUTPUT = "input", "output"

SMALLEST = 1e-8  # where bars and the plot begin


@dataclass(frozen=True)
class Finding:
    """One cause. layers: all that it concerns, the first one first; error: what that one adds, relative.

    left: what it adds once the reference has the same fault; None for rounding, which no recomputation repeats bit by
    bit (`detail` says what it alone adds), and where no cause was found.
    """

    cause: Cause
    layers: tuple[str, ...]
    detail: str
    error: float
    left: float | None

    @property
    def is_rounding(self) -> bool:
        """Whether the layers do what they should, in a precision that costs this much."""
        return self.cause in ("quantisation", "reduced precision") and self.left is None

    def __str__(self) -> str:
        more = f" and {len(self.layers) - 1} more" if len(self.layers) > 1 else ""
        left = "" if self.left is None else f"; {self.left:.2g} with the same in the reference"
        return f"{self.layers[0]}{more}: {self.cause}: {self.detail} (error {self.error:.2g}{left})"


@dataclass(frozen=True)
class Row:
    """One stage. error: to the reference that runs by itself. own: what the stage adds; None where not measured.

    unexplained: the part of its own that neither the artifact's stored weights nor the levels of its int8 explain.
    """

    name: str
    error: float
    own: float | None
    off: bool
    unexplained: float | None = None


@dataclass(frozen=True)
class Divergence:
    """What was found. True where the artifact is its reference. findings: in the order of the network.

    precision: that the artifact promises. aligned: how the layers were paired.
    """

    reference: str
    artifact: str
    precision: Precision
    aligned: str
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not self.findings

    @property
    def verdict(self) -> str:
        if self:
            same = f"{self.artifact} computes what {self.reference} does"
            return f"sound: {same}, each layer within what {self.precision} costs."
        first, *others = self.findings
        return "\n".join([f"first divergence: {first}.", *(f"besides: {other}." for other in others)])

    def __str__(self) -> str:
        width = max(len(row.name) for row in self.rows)
        head = f"{'layer':{width}}  {'error':>9}  {'own':>9}   growth of the error"
        notes = [f"note: {note}" for note in (f"layers are paired {self.aligned}.", *self.notes)]
        return "\n".join([head, *(_line(row, width) for row in self.rows), *notes, self.verdict])

    def to_dict(self) -> dict[str, Any]:
        """All of it."""
        return {**self._summary(), **asdict(self)}

    def last_line(self) -> str:
        """The verdict as JSON, for programs that read the terminal."""
        return json_text({**self._summary(), "verdict": self.verdict})

    def _summary(self) -> dict[str, Any]:
        first = self.findings[0] if self.findings else None
        return {
            "sound": bool(self),
            "first": first.layers[0] if first else None,
            "cause": first.cause if first else None,
        }


def _line(row: Row, width: int) -> str:
    """The bar is logarithmic: a mark for each doubling of the error from 1e-8 on."""
    marks = round(math.log2(min(max(row.error, SMALLEST), 10) / SMALLEST))
    own = "" if row.own is None else f"{row.own:.1e}"
    return f"{row.name:{width}}  {row.error:9.1e}  {own:>9} {'!' if row.off else ' '} {'#' * marks}".rstrip()


def plot(divergence: Divergence, path: Path) -> None:
    """The error from input to output, and what each layer adds, as PNG. Needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure((12, 5), layout="constrained")
    axes = figure.subplots()
    rows = divergence.rows
    for label, values in (("error", [row.error for row in rows]), ("of this layer alone", [row.own for row in rows])):
        heights = [math.nan if value is None else min(max(value, SMALLEST), 10) for value in values]
        axes.semilogy(range(len(rows)), heights, marker=".", linewidth=1, label=label)
    names = [row.name for row in rows]
    if divergence.findings:
        first = divergence.findings[0]
        axes.axvline(
            names.index(first.layers[0]), color="0.2", linestyle=":", label=f"{first.layers[0]}: {first.cause}"
        )
    axes.set_xticks(range(len(rows)), names, rotation=90, fontsize=4)
    axes.set(
        ylabel="relative error", title=f"{divergence.artifact} against {divergence.reference}", xlim=(-1, len(rows))
    )
    axes.grid(color="0.9", linewidth=0.8)
    axes.legend(frameon=False)
    with replacing(path) as part:
        figure.savefig(part, dpi=160, format="png")

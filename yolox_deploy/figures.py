"""Charts as PNG files, drawn by matplotlib without a window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .files import replacing


def new_figure(width: float, height: float) -> Any:
    """A matplotlib figure of so many inches, without pyplot's state."""
    from matplotlib.figure import Figure

    return Figure((width, height), layout="constrained")


def save_figure(figure: Any, path: Path) -> None:
    """As PNG, complete or not at all."""
    with replacing(path) as part:
        figure.savefig(part, dpi=120, format="png")

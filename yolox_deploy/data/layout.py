"""What a layout is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .dataset import Splits


@dataclass(frozen=True)
class Layout:
    """One way in which a folder can be a data set.

    name: what a sentence calls it. path: the file or folder that names it, and it alone where a folder is in two
    layouts; the folder itself where there is none. splits: what reads each.
    """

    name: str
    path: Path
    splits: Splits

"""JSON knows no infinite numbers."""

from __future__ import annotations

import math
from typing import Any


def finite(value: Any) -> Any:
    """The same, of dicts, lists and plain values, with None in place of numbers that are infinite or not numbers."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

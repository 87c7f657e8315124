"""JSON: reading files of an artifact, whoever wrote them, and writing what every reader takes."""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import InvalidInput

LARGEST = 16 * 2**20  # bytes: a record of parity takes some kilobytes


def check_regular(path: Path) -> None:
    """Raise `InvalidInput` for a pipe or a device, which may have no end, or a link to one.

    What is missing or cannot be looked at passes: whoever opens it says why.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode):
        raise InvalidInput(f"{path} is not a file: refused.")


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises `InvalidInput` for everything else."""
    check_regular(path)
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise InvalidInput(f"{path} has {size} bytes, which no file of an artifact has: refused.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is damaged: it is no text.") from None
    return json_object(text, str(path))


def json_object(text: str, source: str) -> dict[str, Any]:
    """The object in a text. `source` names it in error messages."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{source} is not JSON: {'it is empty' if not text.strip() else error}.") from None
    except (ValueError, RecursionError):  # a number with thousands of digits, brackets in brackets without end
        raise InvalidInput(f"{source} is not JSON that anybody would write: refused.") from None
    if not isinstance(content, dict):
        raise InvalidInput(f"{source} holds no JSON object.")
    return content


def json_text(value: Any, indent: int | None = None, default: Callable[[Any], Any] | None = None) -> str:
    """A value as JSON that every reader takes: null for numbers that are not finite. default: makes something of what
    JSON has no form for, which is a `TypeError` without."""
    return json.dumps(finite(value), indent=indent, default=default, allow_nan=False)


def finite(value: Any) -> Any:
    """The same, of dicts, lists and plain values, with None in place of numbers that are infinite or not numbers, which
    JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

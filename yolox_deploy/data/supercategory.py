"""The supercategory that some tools list among the categories of COCO's format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .unread import is_coco, load_json


def find_supercategory(content: dict[str, Any], others: Sequence[Path]) -> dict[str, Any] | None:
    """The category that all others name as their supercategory, and that has no boxes in any split; None where there
    is none. others: the files of the other splits, read only where this one has such a category.

    Roboflow's exports list one, with id 0 and the supercategory "none". Entries may be broken: their reader says so.
    """
    categories = content["categories"]
    if len(categories) < 2 or not all(isinstance(entry, dict) for entry in categories):
        return None
    groups = {entry.get("supercategory") for entry in categories if isinstance(entry.get("supercategory"), str)}
    for entry in categories:
        name, rest = entry.get("name"), [other for other in categories if other is not entry]
        if not isinstance(name, str) or name not in groups or entry.get("supercategory") == name or "id" not in entry:
            continue
        if all(other.get("supercategory") == name for other in rest) and not _has_boxes(content, entry["id"]):
            contents = (load_json(file) for file in others)
            return None if any(is_coco(other) and _has_boxes(other, entry["id"]) for other in contents) else entry
    return None


def _has_boxes(content: dict[str, Any], category: object) -> bool:
    return any(isinstance(item, dict) and item.get("category_id") == category for item in content["annotations"])

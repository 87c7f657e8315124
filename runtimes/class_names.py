"""When two class names are the same."""

from __future__ import annotations

import re
import unicodedata


def plain_class_name(name: str) -> str:
    """A class name without letter case and kinds of separators: names are the same that are equal in this form."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()


def same_name(one: str, other: str) -> bool:
    """Whether two class names are equal up to letter case and separators."""
    return plain_class_name(one) == plain_class_name(other)

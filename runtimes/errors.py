"""Errors that are sentences for the person at the keyboard. The commands print them and exit with 1."""

from __future__ import annotations


class UserError(Exception):
    """What the user gave cannot be used; the message is one sentence that says what to do."""


class InvalidInput(UserError, ValueError):
    """A file, an array or an argument is not what was promised."""


class MissingSpec(InvalidInput):
    """A model file that another exporter wrote carries no spec, and none was given."""


class MissingBackend(UserError, ImportError):
    """The Python package of a backend is not installed; the message holds the pip line."""


def first_line(error: BaseException) -> str:
    """A native library's message, cut to what a person reads."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]

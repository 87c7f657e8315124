"""Data sets and images. `python -m yolox_deploy.data` is the data doctor."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """The command, imported only when it is called: whoever reads images does not need it."""
    from .__main__ import main as command

    return command(arguments)

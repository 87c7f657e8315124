"""One process at a time, however the others end."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from exporters.lock import only_here
from runtimes import InvalidInput

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks")


def hold(file: Path, with_a_child: bool) -> tuple[int, int]:
    """A process that is in the block, and a process that it has forked there (or 0)."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            signal.alarm(60)  # should nobody end it
            with only_here(file, "busy"):
                child = os.fork() if with_a_child else 1
                if child == 0:
                    signal.alarm(60)
                    signal.pause()
                os.write(writer, child.to_bytes(4, "little"))
                signal.pause()
        finally:
            os._exit(1)
    return process, int.from_bytes(os.read(reader, 4), "little") if with_a_child else 0 * len(os.read(reader, 4))


def end(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / ".lock"
    process, _ = hold(file, with_a_child=False)
    for _ in range(2):
        with pytest.raises(InvalidInput, match="busy"):
            with only_here(file, "busy"):
                pytest.fail("it was let in")
    assert file.exists()
    end(process)
    with only_here(file, "busy"):
        pass
    assert not file.exists()


def test_what_a_killed_process_has_forked_does_not_hold_it(tmp_path: Path) -> None:
    """As the processes that load data, which need some seconds to notice that theirs is dead."""
    process, child = hold(tmp_path / ".lock", with_a_child=True)
    end(process)
    os.kill(child, 0)  # it lives
    with only_here(tmp_path / ".lock", "busy"):
        pass
    os.kill(child, signal.SIGKILL)


def test_it_is_let_go_of_where_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"):
        with only_here(tmp_path / ".lock", "busy"):
            raise ValueError("mine")
    assert list(tmp_path.iterdir()) == []

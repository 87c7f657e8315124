"""The command that kills exports and trainings: a few real kills, and what it says."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.faults import __main__ as faults
from benchmarks.faults.exports import MODEL, Exports
from benchmarks.faults.moments import Ended, Moment, Outcome, moments
from runtimes import InvalidInput
from yolox_deploy import export

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kills, and reads /proc")


def export_here(output: Path, classes: int) -> int:
    """In this process, which has everything loaded."""
    arguments = [*MODEL[1:], "--num-classes", str(classes), "--target", "ncnn", "--output", str(output)]
    return export.main([*arguments, "--overwrite"])


@pytest.mark.slow
def test_exports_killed_between_the_two_renames_and_anywhere(tmp_path: Path) -> None:
    exports = Exports("ncnn", tmp_path / "out")
    assert export_here(exports.output, 3) == 0
    ended = exports.run(Moment(change=8), 4)
    assert (ended.code, ended.changes[-1]) == (-signal.SIGKILL, "os.rename /model-ncnn-fp32")
    assert not exports.folder.exists()
    assert exports.standing() == 3
    assert exports.run(Moment(seconds=1), 4).code == -signal.SIGKILL
    assert exports.standing() == 3
    assert export_here(exports.output, 4) == 0
    assert exports.standing() == 4
    assert list(exports.output.iterdir()) == [exports.folder]
    weights = exports.folder / "model.bin"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(InvalidInput, match="not the file that was proven"):  # what is half is not taken for whole
        exports.standing()


def test_the_moments_are_all_changes_and_some_times() -> None:
    planned = moments(Ended(0, "", "", ("open /a", "os.rename /b"), 8.0), 5, np.random.default_rng(0))
    assert [moment.change for moment in planned] == [None] * 5 + [1, 2]
    assert all(0 <= moment.seconds <= 8 for moment in planned if moment.seconds is not None)
    assert str(planned[-1]) == "before os.rename /b"


def test_the_table_counts() -> None:
    outcomes = [
        Outcome("export", "", "the old one"),
        Outcome("export", "", "the new one"),
        Outcome("export", "", "x", "!"),
    ]
    assert faults.table(outcomes).splitlines()[-1] == "| export | 3 | the new one 1x, the old one 1x, x 1x | 1 |"


def test_bad_options_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert faults.main(["--export-kills", "0"]) == 1
    assert "--export-kills must be at least 1" in capsys.readouterr().err

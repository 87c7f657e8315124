"""Checkpoints are whole or not there, and damage is noticed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from runtimes import InvalidInput
from yolox_deploy.model.safe_load import safe_load
from yolox_deploy.model.safe_save import is_whole, safe_save

CONTENT: dict[str, Any] = {"weights": torch.arange(100.0), "epoch": 3}


def test_every_bit_counts(tmp_path: Path) -> None:
    """A turned bit is noticed, or lies where it changes nothing, in the padding between the parts."""
    file = tmp_path / "a.pth"
    safe_save(CONTENT, file)
    assert is_whole(file)
    whole, noticed = file.read_bytes(), 0
    for place in range(0, len(whole), 5):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        file.write_bytes(content)
        try:
            found = safe_load(file)
        except InvalidInput as error:
            noticed += 1
            assert str(error).endswith(("is damaged or cut short.", "is not a PyTorch checkpoint.", ": refused."))
        else:
            assert torch.equal(found["weights"], CONTENT["weights"]) and found["epoch"] == 3
    assert noticed > 100


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, -1])
def test_what_is_cut_short_is_not_whole(kept: float, tmp_path: Path) -> None:
    file = tmp_path / "a.pth"
    safe_save(CONTENT, file)
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if kept == 0.5 else int(kept)])
    assert not is_whole(file)
    with pytest.raises(InvalidInput):
        safe_load(file)
    assert not is_whole(tmp_path / "nothing.pth")


def test_archives_without_checksums_are_read_as_before(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        safe_save(CONTENT, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert safe_load(tmp_path / "a.pth")["epoch"] == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("numbers", [1, 1_000, 10_000, 1_000_000])
def test_a_full_disk_is_an_error_that_says_so_and_the_old_file_stays(numbers: int, tmp_path: Path) -> None:
    """Whether it is met at the end or, as of large tensors, on the way there."""
    file = tmp_path / "a.pth"
    safe_save(CONTENT, file)
    (tmp_path / ".a.part.pth").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        safe_save({str(index): torch.zeros(numbers) for index in range(5)}, file)
    assert safe_load(file)["epoch"] == 3
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of files")
def test_a_disk_that_fills_up_anywhere_is_an_error_that_says_so(tmp_path: Path) -> None:
    import resource

    content = {str(index): torch.zeros(3_000) for index in range(5)}
    safe_save(content, tmp_path / "whole.pth")
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in range(0, (tmp_path / "whole.pth").stat().st_size, 701):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                safe_save(content, tmp_path / "a.pth")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, former)
        assert [file.name for file in tmp_path.iterdir()] == ["whole.pth"]

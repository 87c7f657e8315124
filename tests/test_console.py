from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from yolox_deploy import console

ROOT = Path(__file__).parents[1]


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, env={"COLUMNS": "80"}
    )


@pytest.mark.parametrize("command", console.COMMANDS)
def test_each_command_explains_itself_in_80_columns(command: str) -> None:
    done = call(f"yolox_deploy.{command}", "--help")
    assert done.returncode == 0, done.stderr
    assert f"usage: yolox-deploy {command}" in done.stdout
    assert "{None" not in done.stdout
    boxed = [line for line in done.stdout.splitlines() if line.startswith("│")]
    assert boxed
    assert max(map(len, boxed)) <= 80


def test_the_list_of_commands() -> None:
    for arguments in ([], ["--help"]):
        done = call("yolox_deploy", *arguments)
        assert done.returncode == 0
        assert all(command in done.stdout for command in console.COMMANDS)


def test_a_typing_error_names_the_nearest_and_does_nothing() -> None:
    done = call("yolox_deploy", "exprot", "--model", "yolox-s")
    assert done.returncode == 2
    assert "Did you mean export?" in done.stderr


def test_wrong_options_exit_with_2() -> None:
    done = call("yolox_deploy", "detect", "--artifact")
    assert done.returncode == 2


def test_an_error_is_one_sentence_and_exit_code_1() -> None:
    done = call("yolox_deploy", "detect", "nowhere.onnx", "nowhere.jpg")
    assert done.returncode == 1
    assert done.stderr == "error: nowhere.jpg names no image: it does not exist, or nothing fits the pattern.\n"


@pytest.mark.parametrize("arguments", [["export", "--model", "yolox-s"], ["checkpoint", "x.pth"]], ids=lambda a: a[0])
def test_without_torch_it_says_what_to_type(
    arguments: list[str], run_without: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = run_without(["torch"], *arguments)
    assert done.returncode == 1
    assert done.stderr == "error: this needs torch: pip install torch\n", done.stderr


def test_the_version_and_an_output_that_is_cut_off() -> None:
    script = "from yolox_deploy.console import main; import sys; sys.exit(main())"
    command = [sys.executable, "-u", "-c", script]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True, cwd=ROOT)
    assert re.fullmatch(r"yolox-deploy \d+\.\d+\.\d+\n", done.stdout)
    with subprocess.Popen([*command, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from yolox_deploy.completion import Unknown, config_of, main, script
from yolox_deploy.console import COMMANDS

BASH = shutil.which("bash")

# What a shell does for the last word of its arguments, and how many completions there are, each on a line.
COMPLETE = """
source "$SCRIPT"
COMP_WORDS=("$@") COMP_CWORD=$(( $# - 1 )) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
_yolox_deploy
echo "${#COMPREPLY[@]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def completed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., set[str]]:
    if BASH is None:
        pytest.skip("needs bash")
    folder = tmp_path_factory.mktemp("completion")
    (folder / "script.bash").write_text(script("bash"), encoding="utf-8")
    (folder / "weights.pth").touch()
    (folder / "images").mkdir()

    def complete(*words: str) -> set[str]:
        command = [str(BASH), "--norc", "-c", COMPLETE, "bash", "yolox-deploy", *words]
        environment = {"SCRIPT": str(folder / "script.bash"), "PATH": "/usr/local/bin:/usr/bin:/bin"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder, env=environment)
        assert done.stderr == ""
        count, *found = done.stdout.splitlines()
        return set(found[: int(count)])

    return complete


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ex"], {"export"}),
        ([""], {*COMMANDS, "-h", "--help"}),
        (["export", "--tar"], {"--target"}),
        (["export", "--target", ""], {"onnx", "openvino", "ncnn", "trt", "trt-rtx", "web"}),
        (["export", "--target", "onnx", "op"], {"openvino"}),
        (["export", "--opset", "2"], {"20", "21", "22"}),
        (["evaluate", "m.onnx", "--preprocessing", ""], {"official", "legacy"}),
        (["export", "--weights", "w"], {"weights.pth"}),
        (["train", "--data", "im"], {"images"}),
        (["train", "--mosaic-s"], {"--mosaic-scale"}),
        (["train", "--no-ch"], {"--no-channels-last"}),
        (["tune", "--budget"], {"--budget-ms"}),
        (["diverge", "--reference-p"], {"--reference-preprocessing"}),
        (["detect", "im"], set()),  # and then bash's own: see below
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bash(words: list[str], expected: set[str], completed: Callable[..., set[str]]) -> None:
    assert completed(*words) == expected


@pytest.mark.skipif(BASH is None, reason="needs bash")
def test_bash_goes_on_to_files_and_knows_folders(tmp_path: Path) -> None:
    (tmp_path / "s").write_text(script("bash"), encoding="utf-8")
    shown = subprocess.check_output([str(BASH), "-c", "source s; complete -p yolox-deploy"], cwd=tmp_path, text=True)
    assert shown == "complete -o default -o filenames -F _yolox_deploy yolox-deploy\n"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_theirs(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([shell]) == 0
    printed = capsys.readouterr().out
    assert "--reference-preprocessing" in printed
    if shutil.which(shell) is None:
        pytest.skip(f"its syntax can be checked where {shell} is")
    (tmp_path / "script").write_text(printed, encoding="utf-8")
    subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)


def test_every_command_has_its_own_options() -> None:
    found = [config_of(command) for command in COMMANDS]
    assert Unknown not in found and len(set(found)) == len(COMMANDS)


def test_without_torch_the_commands_are_there(run_without: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run_without(["torch"], "completion", "bash")
    assert done.returncode == 0, done.stderr
    assert "'diverge'" in done.stdout and "--parity-images" in done.stdout

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from yolox_deploy import console
from yolox_deploy.progress import progress_bar

ROOT = Path(__file__).parents[1]


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, env={"COLUMNS": "80"}
    )


def main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """`yolox-deploy ARGUMENTS` in this process, which has imported PyTorch already. The exit code."""
    monkeypatch.setattr(sys, "argv", ["yolox-deploy", *arguments])
    monkeypatch.setenv("COLUMNS", "80")
    try:
        return console.main()
    except SystemExit as end:
        return int(end.code or 0)


@pytest.mark.parametrize("command", console.COMMANDS)
def test_each_command_explains_itself_in_80_columns_of_plain_text(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(monkeypatch, command, "--help") == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0].startswith(f"usage: yolox-deploy {command} ")
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in printed
    assert "None" not in printed and "(default: )" not in printed and "(default: False)" not in printed
    assert ("--json FILE" in printed) == (command != "completion")  # which prints a script


@pytest.mark.parametrize("module", ["yolox_deploy.train", "yolox_deploy.data", "benchmarks.parity"])
def test_python_m_is_the_same_command(module: str) -> None:
    done = call(module, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: yolox-deploy {module.split('.')[1]} ")


def test_options_have_boxes_by_what_they_are_about(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(monkeypatch, "train", "--model", "yolox-nano", "--help") == 0
    printed = capsys.readouterr().out
    boxes = re.findall(r"^\W{1,3}((?:\w+ )?options) ", printed, re.MULTILINE)  # a title, however its box is drawn
    assert boxes == ["options", "recipe options", "augmentation options", "network options", "hardware options"]
    assert re.search(r"--mixup FLOAT .*\n.*\(default: 0.0\)", printed)  # the model's own
    assert re.search(r"--no-channels-last +\W?$", printed, re.MULTILINE) and "--channels-last" not in printed.replace(
        "--no-channels", ""
    )


def test_the_list_of_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"]):
        assert main(monkeypatch, *arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        assert {line.split()[0] for line in lines if line.startswith("  ")} == set(console.COMMANDS)
        assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["exprot", "--model", "yolox-s"], "Did you mean export?"),
        (["export", "--tagret", "onnx"], "Perhaps you meant: --target"),
        (
            ["export", "--target", "onnx", "opnvino"],
            "ncnn, trt, trt-rtx, web. Did you mean openvino?",
        ),
        (["export", "--model", "yolox_s"], "yolox-darknet53. Did you mean yolox-s?"),
        (["export", "--opset", "12"], "'12' is none of 17, 18, 19, 20, 21, 22."),
        (["export", "--weights", "None", "--model", "None"], "'None' is none of yolox-nano"),
        (["compare", "--export", "yolox-s", "--target", "onx"], "Did you mean onnx?"),
        (["completion", "basch"], "Did you mean bash?"),
        (
            ["train", "--data", "d", "--input-size", "3"],
            "Missing value for argument '--input-size'. Expected 2 values.",
        ),
        (["train", "--data", "d", "--input-size", "a", "b"], "Error parsing --input-size"),
        (["evaluate"], "Missing from yolox-deploy evaluate: --data"),
        (["detect", "--model"], "Missing value for argument '--model/--weights'"),
        (["export", "--target", "onnx", "tests"], "A file or a folder goes before the options."),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_a_slip_exits_with_2_and_names_the_nearest(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(monkeypatch, *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert says in " ".join(re.sub(r"[│─╭╮╰╯|+]|--+(?= |-)", " ", printed.err).split())


def test_a_choice_that_is_unset_and_one_of_several(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is read of a command line: the first thing that is refused tells that all before it was taken."""
    assert main(monkeypatch, "export", "--seeded", "--batch", "dynamic", "--target", "ncnn", "onnx", "--topk", "5") == 1
    assert "leave ncnn out" in capsys.readouterr().err
    assert main(monkeypatch, "export", "--target") == 1
    assert capsys.readouterr().err == "error: --target names nothing to export to.\n"


def test_an_error_is_one_sentence_and_exit_code_1() -> None:
    done = call("yolox_deploy", "detect", "nowhere.onnx", "nowhere.jpg")
    assert done.returncode == 1
    assert done.stderr == "error: nowhere.jpg names no image: it does not exist, or nothing fits the pattern.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "--model", "yolox-s"],
        ["checkpoint", "x.pth"],
        ["diverge", "x.pth", "y.onnx"],
        ["tune", "x.pth", "--data", "coco", "--min-ap", "9"],
    ],
    ids=lambda a: a[0],
)
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


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_progress_bar_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Only a terminal, which pytest's capture is not, sees one."""
    assert list(progress_bar([1, 2, 3], unit="image")) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")
    terminal = Terminal()
    assert list(progress_bar([1, 2, 3], unit="image", file=terminal)) == [1, 2, 3]
    assert "3/3" in terminal.getvalue()

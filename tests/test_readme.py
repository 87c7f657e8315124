"""What README and the guides tell people to type works: README's commands are run, the guides' options exist."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from yolox_deploy.console import COMMANDS as CONSOLE

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def blocks(text: str, language: str) -> list[str]:
    return [code for found, code in BLOCK.findall(text) if found == language]


def commands(code: str) -> list[str]:
    """The commands of a block, in order, without comments; a backslash at its end joins a line with the next."""
    lines = [" ".join(shlex.split(line, comments=True)) and line for line in code.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line]


COMMANDS = [command for code in blocks(README, "bash") for command in commands(code)]


def test_every_block_of_the_readme_says_what_it_is() -> None:
    """So that none escapes the tests below."""
    assert {language for language, _ in BLOCK.findall(README)} == {"bash", "python", "text"}
    assert len(COMMANDS) > 5


def test_ci_runs_what_takes_minutes() -> None:
    made = [command.split("#")[0].strip() for command in COMMANDS if command.startswith("make ")]
    assert made == ["make demo", "make test"]
    assert set(made) <= set((ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines())


def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    """In order, in an empty folder with the bundled weights; then the program that embeds what they have made."""
    shutil.copytree(ROOT / "yolox_deploy" / "weights", tmp_path / "yolox_deploy" / "weights")
    (tmp_path / "yolox_runtimes").symlink_to(ROOT / "runtimes")  # tests/test_embedding.py installs the package
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    for command in COMMANDS:
        if not command.startswith("make "):
            run("bash", "-c", command)
    proofs = [json.loads(file.read_text()) for file in sorted(tmp_path.glob("artifacts/*/parity.json"))]
    assert len(proofs) == 2
    assert all(proof["detections"] > 20 and proof["missed"] == proof["extra"] == 0 for proof in proofs)
    assert len(list(tmp_path.glob("detections/*.jpg"))) == 8
    assert len(json.loads((tmp_path / "detections" / "detections.json").read_text())) > 8
    assert json.loads((tmp_path / "figures.json").read_text())["AP"] > 0.2
    (program,) = blocks(README, "python")
    printed = run(sys.executable, "-c", program).splitlines()
    assert printed
    assert all(re.fullmatch(r"[a-z]+ [01]\.\d\d \[(-?\d+\.0(, )?){4}\]", line) for line in printed)


@functools.cache
def help_of(command: str) -> str:
    assert command in CONSOLE, f"there is no command {command}"
    code = "import sys; from yolox_deploy.console import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def typed() -> dict[str, set[str]]:
    """Every command of ours in the documents, in blocks and in sentences, with the options that are typed with it."""
    found: dict[str, set[str]] = {}
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8").replace("\\\n", " ")
        for command, rest in re.findall(r"(?<![\w./-])yolox-deploy ([a-z][a-z-]+)([^`\n#|]*)", text):
            if f"`yolox-deploy {command}" in text or f"\nyolox-deploy {command}" in text:
                found.setdefault(command, set()).update(re.findall(r"(?<= )--[a-z][a-z0-9-]*", rest))
    return found


@pytest.mark.parametrize(("command", "options"), sorted(typed().items()))
def test_what_the_guides_type_exists(command: str, options: set[str]) -> None:
    words = set(re.findall(r"--[a-z][a-z0-9-]*", help_of(command)))
    assert options - words == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    missing = [link for link in LINK.findall(document.read_text(encoding="utf-8"))
               if not (document.parent / link).exists()]  # fmt: skip
    assert missing == []

"""yolox-deploy completion: a script by which your shell completes commands, options, their values and files."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from .console import COMMANDS, run
from .parsing import MARKERS, registry

Shell = Literal["bash", "zsh", "fish"]


@dataclass(frozen=True)
class CompletionConfig:
    r"""Print a script that completes commands, options, their values and files. It needs no PyTorch, and no backend.

      mkdir -p ~/.local/share/bash-completion/completions
      yolox-deploy completion bash > \
        ~/.local/share/bash-completion/completions/yolox-deploy
      yolox-deploy completion zsh > FOLDER/_yolox-deploy
      yolox-deploy completion fish > ~/.config/fish/completions/yolox-deploy.fish

    FOLDER is one of those in $fpath.
    """

    shell: Annotated[Shell, tyro.conf.Positional]
    """bash, zsh or fish."""


@dataclass(frozen=True)
class Unknown:
    """The options of a command that cannot be imported here, for which PyTorch is missing."""


def config_of(command: str) -> type:
    """The dataclass that a command's options are made of."""
    try:
        module = importlib.import_module(COMMANDS[command][0])
    except ImportError:
        return Unknown
    configs: list[type] = [value for name, value in vars(module).items() if name.endswith("Config")]
    return next(config for config in configs if config.__module__ == module.__name__)


# Files, where there is nothing else to complete: tyro offers them for options alone.
ALSO_FILES: dict[Shell, str] = {
    "bash": """
_yolox_deploy() { _tyro_yolox_deploy "$@"; [ -n "${COMPREPLY[0]}" ] || COMPREPLY=(); }
complete -o default -o filenames -F _yolox_deploy yolox-deploy
""",
    "zsh": "(( compstate[nmatches] )) || _files\n",
    "fish": "",
}


def script(shell: Shell) -> str:
    """tyro's own script for all commands."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        tyro.extras.subcommand_cli_from_dict(
            {command: config_of(command) for command in COMMANDS},
            prog="yolox-deploy",
            args=["--tyro-write-completion", shell, "-"],
            config=MARKERS,
            registry=registry(),
        )
    return printed.getvalue() + ALSO_FILES[shell]


def command(config: CompletionConfig) -> dict[str, Any] | None:
    print(script(config.shell), end="")
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy completion", CompletionConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""The command line: `yolox-deploy COMMAND`, which is `python -m yolox_deploy.COMMAND`."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import TypeVar

import tyro

from runtimes.errors import MissingBackend, UserError

# Imported only when called: `detect` has to run where torch is not installed.
COMMANDS = {
    "export": "write a model for a runtime, proven to detect what the checkpoint detects",
    "detect": "find objects in images or video, with pictures and a JSON file",
    "serving": "lay out an artifact for Triton, DeepStream or OpenVINO Model Server",
    "train": "YOLOX on your images, to a checkpoint that can be exported",
    "evaluate": "COCO's twelve AP and AR figures of an artifact or a checkpoint",
    "data": "what is wrong with a data set, and what is in it, before a training",
    "doctor": "say which backends, versions and devices are here, and what to type for the others",
    "checkpoint": "say what a checkpoint holds; convert between the official format and mmdetection's",
}

Config = TypeVar("Config")


def run(
    prog: str,
    config_type: type[Config],
    function: Callable[[Config], object],
    arguments: Sequence[str] | None = None,
    defaults: Callable[[Sequence[str]], Config] | None = None,
) -> int:
    """Parse the arguments into a config, call the function, and turn what goes wrong into one sentence.

    defaults: makes the config's defaults from the arguments, where some depend on others. Returns the exit code: 0, 1
    for an error that a person can mend, 130 after Ctrl-C. Wrong arguments exit with 2.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        config = tyro.cli(
            config_type,
            prog=prog,
            args=arguments,
            default=defaults(arguments) if defaults else tyro.MISSING_NONPROP,
            config=(tyro.conf.DisallowNone, tyro.conf.PositionalMetavarFromFieldName),
        )
        function(config)
    except BrokenPipeError:  # whoever read our output has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (UserError, OSError) as error:  # OSError: no permission, no space, a file that went away
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
        return 130
    return 0


def require(*packages: str) -> None:
    """Raise `MissingBackend`, with what to type, where packages are not installed."""
    missing = [package for package in packages if not is_installed(package)]
    if missing:
        raise MissingBackend(f"this needs {', '.join(missing)}: pip install {' '.join(missing)}")


def is_installed(package: str) -> bool:
    """Whether a module can be found, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:
        return False


def main() -> int:
    """Entry point of the console script."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        print(f"yolox-deploy {importlib.metadata.version('yolox-deploy')}")
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        nearest = get_close_matches(command, COMMANDS, 1)
        hint = f" Did you mean {nearest[0]}?" if nearest else ""
        print(f"error: there is no command {command!r}.{hint}\n\n{usage()}", file=sys.stderr)
        return 2
    exit_code: int = importlib.import_module(f"yolox_deploy.{command}").main(rest)
    return exit_code


def usage() -> str:
    lines = ["usage: yolox-deploy COMMAND [OPTIONS]", ""]
    lines += [f"  {name:<12}{purpose}" for name, purpose in COMMANDS.items()]
    return "\n".join([*lines, "", "yolox-deploy COMMAND --help says more of each."])

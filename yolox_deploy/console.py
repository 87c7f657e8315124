"""The command line: `yolox-deploy COMMAND`, which is `python -m yolox_deploy.COMMAND`."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from runtimes.errors import MissingBackend, UserError

from .json_output import DryRunEnd, NotPassed, json_output
from .parsing import Config, parse

# Name, module and purpose. Imported only when called: `detect` has to run where torch is not installed.
COMMANDS = {
    "export": ("yolox_deploy.export", "write a model for a runtime, proven to detect the same"),
    "detect": ("yolox_deploy.detect", "find objects in images or video: pictures and a JSON file"),
    "serving": ("yolox_deploy.serving", "lay out an artifact for Triton, DeepStream or OpenVINO"),
    "train": ("yolox_deploy.train", "YOLOX on your images, to a checkpoint for export"),
    "evaluate": ("yolox_deploy.evaluate", "COCO's AP and AR figures of an artifact or a checkpoint"),
    "data": ("yolox_deploy.data.__main__", "what is wrong with a data set, and what is in it"),
    "compare": ("benchmarks.compare.__main__", "AP, parity and speed of artifacts, as table and page"),
    "tune": ("benchmarks.tune.__main__", "how to run a model on this machine, by measurement"),
    "parity": ("benchmarks.parity.__main__", "are these artifacts still the trained model? For CI"),
    "diverge": ("benchmarks.diverge.__main__", "the first layer in which an artifact differs, and why"),
    "kit": ("benchmarks.kit.__main__", "every intermediate result, to check a runtime of your own"),
    "kit-score": ("benchmarks.kit.score", "does a runtime of your own do each step right?"),
    "checkpoint": ("yolox_deploy.checkpoint", "what a checkpoint holds; convert it"),
    "doctor": ("yolox_deploy.doctor", "which backends and devices are here; how to get others"),
    "completion": ("yolox_deploy.completion", "completion of all this in your shell"),
}


def run(
    prog: str,
    config_type: type[Config],
    function: Callable[[Config], dict[str, Any] | None],
    arguments: Sequence[str] | None = None,
    defaults: Callable[[Sequence[str]], Config] | None = None,
) -> int:
    """Parse the arguments into a config, call the function, and turn what goes wrong into one sentence.

    The function returns its result, which is written where the config's `json`, if it has one, says, with all that was
    warned of as "warnings"; or raises `NotPassed` with it. defaults: makes the config's defaults from the arguments,
    where some depend on others. Returns the exit code: 0, 1 for an error that a person can mend, 130 after Ctrl-C.
    Wrong arguments exit with 2.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    _said.clear()
    _warnings.clear()
    try:
        config = parse(prog, config_type, arguments, *([defaults(arguments)] if defaults else []))
        with json_output(getattr(config, "json", None)) as write:
            try:
                result = function(config)
            except NotPassed as failure:
                write(with_warnings(failure.result))
                raise
            except DryRunEnd as end:
                print(f"dry run: {end}")
                result = {"dry_run": True, "end": str(end)}
            if result is not None:
                write(with_warnings(result))
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


# By the command that runs.
_said: set[str] = set()
_warnings: list[str] = []


def with_warnings(result: dict[str, Any]) -> dict[str, Any]:
    """The result with "warnings": its own, and each that was printed."""
    return result | {"warnings": list(dict.fromkeys([*result.get("warnings", ()), *_warnings]))}


def say_once(sentence: str) -> str:
    """Print a line to standard error, once in a command: several of its steps may come to the same. Returns it."""
    if sentence not in _said:
        _said.add(sentence)
        print(sentence, file=sys.stderr, flush=True)
    return sentence


def warn(sentence: str) -> str:
    """Print a warning to standard error, once in a command, and keep it for `--json`. Returns it."""
    _warnings.append(sentence)
    say_once(f"warning: {sentence}")
    return sentence


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
    try:
        module = importlib.import_module(COMMANDS[command][0])
    except ModuleNotFoundError as error:  # of those that cannot even be described without PyTorch
        print(f"error: this needs {error.name}: pip install {error.name}", file=sys.stderr)
        return 1
    exit_code: int = module.main(rest)
    return exit_code


def usage() -> str:
    lines = ["usage: yolox-deploy COMMAND [OPTIONS]", ""]
    lines += [f"  {name:<12}{purpose}" for name, (_, purpose) in COMMANDS.items()]
    return "\n".join([*lines, "", "yolox-deploy COMMAND --help says more of each; --version tells the version."])

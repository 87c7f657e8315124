"""What takes part in a comparison, and what it is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runtimes.errors import InvalidInput
from runtimes.load import is_artifact, model_file
from runtimes.spec import ModelSpec
from runtimes.trt_engine import LIBRARIES
from yolox_deploy.options import ForeignOptions, third_party_options

from .speed import BF16, Contender


def contenders_of(
    arguments: Sequence[str], threads: int, bf16: bool, foreign: ForeignOptions | None = None
) -> list[Contender]:
    """What takes part, named. foreign: what third-party files do not say of themselves.

    Raises `InvalidInput` for a path that is no artifact, and for two of one name.
    """
    found: list[Contender] = []
    for name, path in map(_split, arguments):
        if not is_artifact(path):
            continue
        file = model_file(path)
        options: dict[str, Any] = {} if file.suffix.lower() in LIBRARIES else {"threads": threads}
        options |= third_party_options(path, foreign or ForeignOptions())
        found.append(Contender(name or short_name(path), path, options))
        if bf16 and file.suffix.lower() in BF16:
            title = found[-1].name.removesuffix(" fp32") + " bf16"
            found.append(Contender(title, path, {**options, **BF16[file.suffix.lower()]}))
    if not found:
        raise InvalidInput(f"none of {', '.join(arguments)} is an artifact.")
    check_names([contender.name for contender in found])
    return found


def check_one_at_a_time(specs: Mapping[str, ModelSpec]) -> None:
    """Raise `InvalidInput` for an artifact of another batch than 1, which others cannot be timed against."""
    for name, spec in specs.items():
        if spec.batch not in (None, 1):
            raise InvalidInput(f"{name} takes {spec.batch} images at a time: give one of batch 1, or dynamic.")


def check_names(names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInput(f"two artifacts are called {twice!r}: NAME=PATH gives one another name.")


def paths_of(arguments: Sequence[str]) -> list[Path]:
    """The paths of what takes part."""
    return [path for _, path in map(_split, arguments) if is_artifact(path)]


def _split(argument: str) -> tuple[str, Path]:
    """Name and path of "NAME=PATH", or of a path alone."""
    name, equals, path = argument.partition("=")
    return (name, Path(path)) if equals and not Path(argument).exists() else ("", Path(argument))


def short_name(artifact: Path) -> str:
    """ "onnx fp32" for what `export` wrote, else the name of the folder or file."""
    folder = artifact if artifact.is_dir() else artifact.parent
    if (folder / "spec.json").exists():
        spec = ModelSpec.read(folder / "spec.json")
        ours = folder.name.removeprefix(f"{spec.name}-")
        if ours != folder.name and ours.endswith(f"-{spec.precision}"):
            return f"{ours.removesuffix(f'-{spec.precision}')} {spec.precision}"
    return artifact.name


def baseline_of(names: Sequence[str], wanted: str | None) -> str:
    if wanted is None:
        return "onnx fp32" if "onnx fp32" in names else names[0]
    if wanted not in names:
        raise InvalidInput(f"--baseline {wanted!r} does not take part; there are {', '.join(names)}.")
    return wanted

"""The model of a command: its first argument, or an option that says the same. Knows no torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import tyro

from runtimes.errors import InvalidInput
from runtimes.load import CHECKPOINT_SUFFIXES, RUNTIMES, is_checkpoint, model_file

from .console import require
from .model.variants import VARIANTS, VariantName

BEST = "best.pth"  # of a folder that `train` wrote
KNOWN = f"A model is a checkpoint file, such as {BEST}, or one of {', '.join(VARIANTS)}."

# The first argument; "" where there is none, since tyro cannot leave a positional at None.
FirstModel = Annotated[str, tyro.conf.Positional]
# `--weights MODEL` or `--model MODEL`: all that were given, so that two different ones are seen.
ModelOption = Annotated[
    tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(aliases=("--model",), metavar="MODEL")
]


def one_model(*names: str | None, type_next: str) -> str:
    """The one model among an argument and the options that say the same.

    type_next: a command line with a model. Raises `InvalidInput` for none, and for two that differ.
    """
    given = [name for name in names if name]
    if not given:
        raise InvalidInput(f"no model is named: {type_next}.")
    first, *others = given
    others = [name for name in others if name != first and (name in VARIANTS or not _is_same(name, first))]
    if others:
        raise InvalidInput(f"{first} and {others[0]} are two models: name one of them.")
    return first


def _is_same(one: str, other: str) -> bool:
    return other not in VARIANTS and Path(one).resolve() == Path(other).resolve()


def model_and_other(model: str, other: str, options: Sequence[str], type_next: str) -> tuple[str, str]:
    """The model and another argument after it, which stands alone where the model is given by an option.

    Raises `InvalidInput` as `one_model`, and where the other one is missing.
    """
    if options and not other:
        model, other = "", model
    found = one_model(model, *options, type_next=type_next)
    if not other:
        raise InvalidInput(f"an argument is missing after {found}: {type_next}.")
    return found, other


def variant_of(name: str) -> VariantName | None:
    """The variant of that name; None for anything else. Raises `InvalidInput` where a model here is called so too."""
    if name not in VARIANTS:
        return None
    path = Path(name)
    if path.is_file() or (path / BEST).is_file() or _holds_artifact(path):
        raise InvalidInput(f"{name} is a variant, and a model in this folder too: ./{name} is the one here.")
    return name


def variant_and_weights(
    model: str, variant: VariantName | None, weights: Path | None, dry_run: bool, type_next: str = ""
) -> tuple[VariantName | None, Path | None]:
    """What `export` and `train` start from: MODEL, `--model VARIANT` and `--weights FILE` in one.

    Where both are returned, whoever reads the weights checks that they are of the variant. type_next: a command line
    with a model, where there has to be one. Raises `InvalidInput` for two variants or two files, and for none of all.
    """
    if type_next and not (model or variant or weights):
        raise InvalidInput(f"no model is named: {type_next}.")
    own = variant_of(model)
    if own is not None and variant is not None:
        one_model(own, variant, type_next="")
    files = [] if own is not None or not model else [checkpoint_file(Path(model))]
    if weights is not None:
        is_name = str(weights) in VARIANTS and not weights.exists()
        files.append(find_checkpoint(str(weights), dry_run) if is_name else checkpoint_file(weights))
    if files:
        one_model(*map(str, files), type_next="")
    return own or variant, files[0] if files else None


def variant_in(model: str) -> VariantName:
    """The variant of that name, or of the checkpoint that an argument names."""
    variant = variant_of(model)
    if variant is not None:
        return variant
    require("torch")
    from .model.checkpoint import read_checkpoint

    return read_checkpoint(checkpoint_file(Path(model), quiet=True)).variant


def find_checkpoint(model: str, dry_run: bool = False) -> Path:
    """The checkpoint that an argument names: a variant's official weights, downloaded once, or a `checkpoint_file`.

    A dry run downloads nothing (see `official_weights`).
    """
    variant = variant_of(model)
    if variant is None:
        return checkpoint_file(Path(model))
    from .model.download import official_weights

    return official_weights(variant, dry_run)


def checkpoint_file(path: Path, quiet: bool = False) -> Path:
    """The checkpoint itself, or the best one in the folder of a training, which is said on standard error.

    Raises `InvalidInput`, with what to type, for anything else.
    """
    if (path / BEST).is_file():
        if not quiet:
            print(f"note: {path} is the folder of a training: its {BEST} is taken.", file=sys.stderr, flush=True)
        path = path / BEST
    if _holds_artifact(path) or (path.exists() and path.suffix.lower() in RUNTIMES):
        raise InvalidInput(f"{path} is an artifact: name the checkpoint that it was made from.")
    if not path.exists():
        raise InvalidInput(_missing(path, KNOWN))
    if path.is_dir():
        raise InvalidInput(_without_model(path))
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        raise InvalidInput(f"{path} is no checkpoint; a data set is named by --data. {KNOWN}")
    if not is_checkpoint(path):
        if path.suffix.lower() == ".bin":
            raise InvalidInput(f"{path} holds weights alone: name the .xml or .param file beside it.")
        raise InvalidInput(f"{path} is neither a checkpoint nor one of {', '.join(VARIANTS)}.")
    return path


def find_model(model: str, dry_run: bool = False) -> Path:
    """As `find_checkpoint`; artifacts are models too."""
    path = Path(model)
    if variant_of(model) is None and (path.suffix.lower() in RUNTIMES or _holds_artifact(path)):
        return find_artifact(model)
    return find_checkpoint(model, dry_run)


def find_artifact(model: str) -> Path:
    """The path that an argument names, which may be an artifact.

    Raises `InvalidInput`, with what to type, for a variant, the folder of a training, and what does not exist.
    """
    path = Path(model)
    if variant_of(model) is not None:
        raise InvalidInput(f"{model} is a variant, not an artifact: yolox-deploy export {model} makes one.")
    if (path / BEST).is_file() and not _holds_artifact(path):
        raise InvalidInput(f"{path} is the folder of a training: yolox-deploy export {path} makes artifacts of it.")
    if not path.exists() and not _is_recovered(path):
        raise InvalidInput(_missing(path, "An artifact is the folder that yolox-deploy export writes."))
    return path


def _holds_artifact(path: Path) -> bool:
    if path.is_dir():
        return any(file.suffix.lower() in RUNTIMES for file in path.iterdir())
    return _is_recovered(path) and path.suffix.lower() not in RUNTIMES


def _is_recovered(path: Path) -> bool:
    """Whether a path that does not exist is an artifact all the same: of a replacement that was killed halfway."""
    if path.exists():
        return False
    try:
        model_file(path)
    except InvalidInput:
        return False
    return True


def _without_model(folder: Path) -> str:
    """What is in a folder that is no model itself, and what to type."""
    checkpoints = sorted(file.name for file in folder.iterdir() if file.name.lower().endswith(CHECKPOINT_SUFFIXES))
    if checkpoints:
        shown = ", ".join(checkpoints[:3]) + (", ..." if len(checkpoints) > 3 else "")
        return f"{folder} holds no {BEST}, but {shown}: name the file, such as {folder / checkpoints[0]}."
    if any(folder.glob("*/spec.json")):
        return f"{folder} holds artifacts, each in a folder of its own: name one of them, where one is wanted."
    return f"{folder} is a folder without a checkpoint. {KNOWN}"


def _missing(path: Path, otherwise: str) -> str:
    """That a path does not exist, and the variant or the file beside it that may be meant."""
    plain = path.name.lower().replace("_", "-")
    for suffix in CHECKPOINT_SUFFIXES:
        plain = plain.removesuffix(suffix)
    variants: list[str] = [name for name in VARIANTS if plain and name.startswith(plain)]
    variants = variants if len(variants) == 1 else get_close_matches(plain, VARIANTS, 1, 0.8)
    models = [file.name for file in path.parent.glob("[!.]*") if file.is_dir() or _is_called_model(file)]
    files = [str(path.with_name(name)) for name in get_close_matches(path.name, models, 1, 0.8)]
    meant = list(dict.fromkeys(files + variants))
    hint = f"Did you mean {' or '.join(meant)}?" if meant else otherwise
    return f"{path} does not exist. {hint}"


def _is_called_model(file: Path) -> bool:
    return file.suffix.lower() in RUNTIMES or file.name.lower().endswith(CHECKPOINT_SUFFIXES)

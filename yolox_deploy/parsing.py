"""From a config dataclass to a command line, by tyro: what `--help` says, and what a slip of the keyboard gets."""

from __future__ import annotations

import inspect
import os
import shutil
import textwrap
import types
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
    UnsupportedTypeAnnotationError,
)

Config = TypeVar("Config")

# Options of a group have a box of their own, and no prefix. A switch has one name: --NAME, or --no-NAME where it is on.
MARKERS = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff, tyro.conf.PositionalMetavarFromFieldName)


def parse(
    prog: str, config_type: type[Config], arguments: Sequence[str], default: Any = tyro.MISSING_NONPROP
) -> Config:
    """The config that the arguments make. For `--help` exits with 0, for arguments that are wrong with 2."""
    tyro._experimental_options["ansi_codes"] = not os.environ.get("NO_COLOR")  # which tyro does not look at
    config: Config = tyro.cli(
        config_type,
        prog=prog,
        description=described(config_type),
        args=arguments,
        default=default,
        config=MARKERS,
        registry=registry(named_choice),
    )
    return config


def described(config_type: type) -> str:
    """The docstring of a config, in lines that fit the terminal. Paragraphs that are indented stay as they are."""
    columns = shutil.get_terminal_size().columns
    paragraphs = inspect.cleandoc(config_type.__doc__ or "").split("\n\n")
    # Indented, since tyro joins lines that are not, to one of any length.
    return "\n\n".join(
        part if part.startswith(" ") else textwrap.fill(part, columns, subsequent_indent="  ", break_on_hyphens=False)
        for part in paragraphs
    )


def registry(*rules: Any) -> ConstructorRegistry:
    """How tyro reads our types, besides its own rules and those given."""
    found = ConstructorRegistry()
    for rule in (optional, *rules):
        found.primitive_rule(rule)
    found.struct_rule(Hints())
    return found


def optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | UnsupportedTypeAnnotationError | None:
    """`X | None` is read as X: unset is what is left out, and nobody types None."""
    members = get_args(info.type)
    if info.type_origin not in (Union, types.UnionType) or type(None) not in members:
        return None
    kinds = tuple(member for member in members if member is not type(None))
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(reduce(or_, kinds), info.markers))
    if isinstance(spec, UnsupportedTypeAnnotationError):
        return spec
    return replace(
        spec,
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: [] if value is None else spec.str_from_instance(value),
    )


def named_choice(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """One or any number of several words; the nearest of them is named where another is typed."""
    members = get_args(info.type)
    many = info.type_origin is tuple and len(members) == 2 and members[1] is Ellipsis
    literal = members[0] if many else info.type
    if get_origin(literal) is not Literal:
        return None
    choices = {str(choice): choice for choice in get_args(literal)}

    def choose(words: list[str]) -> Any:
        wrong = next((word for word in words if word not in choices), None)
        if wrong is not None:
            nearest = get_close_matches(wrong, choices, 1)
            meant = f" Did you mean {nearest[0]}?" if nearest else ""
            if Path(wrong).exists():  # a model or a file that an option took for one of its values
                meant = " A file or a folder goes before the options."
            raise ValueError(f"{wrong!r} is none of {', '.join(choices)}.{meant}")
        chosen = tuple(choices[word] for word in words)
        return chosen if many else chosen[0]

    return PrimitiveConstructorSpec(
        nargs="*" if many else 1,
        metavar="{" + ",".join(choices) + "}" + (" ..." if many else ""),
        instance_from_str=choose,
        is_instance=lambda value: set(value if many else (value,)) <= set(choices.values()),
        str_from_instance=lambda value: [str(one) for one in (value if many else (value,))],
    )


class Hints:
    """tyro's own reading of dataclasses, with a default in the help only where it says something."""

    def __init__(self) -> None:
        self._reading: list[type] = []

    def __call__(self, info: StructTypeInfo) -> StructConstructorSpec | None:
        if info.type in self._reading:  # which asks for tyro's own rule
            return None
        self._reading.append(info.type)
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            self._reading.pop()
        if not isinstance(spec, StructConstructorSpec):
            return None
        return replace(spec, fields=tuple(map(_hinted, spec.fields)))


def _hinted(field: StructFieldSpec) -> StructFieldSpec:
    text, hinted = field.helptext, Annotated[field.type, tyro.conf.arg(help_behavior_hint=hint)]
    return replace(
        field,
        type=hinted,  # type: ignore[arg-type]
        helptext=lambda: " ".join(((text() if callable(text) else text) or "").split()) or None,  # several lines too
    )


def hint(default: str) -> str:
    """What stands behind the help of an option. default: as text; "" where it is unset."""
    return "" if default in ("", "''", "True", "False") else f"(default: {default})"

"""Options that several commands share, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from runtimes.coco import COCO_CATEGORY_IDS, COCO_CLASS_NAMES, category_ids
from runtimes.cores import usable_cores
from runtimes.detector import Detector
from runtimes.errors import InvalidInput, MissingSpec
from runtimes.foreign import Preprocessing, foreign_spec
from runtimes.load import load, model_file
from runtimes.spec import ModelSpec, is_name
from runtimes.trt_engine import LIBRARIES

from .model.trained_with import NetworkOptions, TrainedWith

# For many images: each stream has memory of its own, and a few threads for one image are nearly as good as a stream.
MOST_STREAMS, GPU_STREAMS = 8, 2


# Options that may be unset, as the command line names their values. The seven variants would take two lines.
ClassNames = Annotated[str | None, tyro.conf.arg(metavar="coco|FILE")]
Images = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]  # see `find_image_source`
InputSize = Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="HEIGHT WIDTH")]
Json = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
VARIANT = tyro.conf.arg(metavar="VARIANT")


@dataclass(frozen=True)
class ForeignOptions:
    """For ONNX files that carry no spec, such as those of the official YOLOX exporter."""

    spec: Path | None = None
    """Spec file (JSON) of a model file that carries none."""
    preprocessing: Preprocessing | None = None
    """How such a model was trained: official (BGR, 0..255) or legacy (release 0.0.1: RGB, ImageNet mean and std)."""
    class_names: ClassNames = None
    """Class names: "coco", or a text file with one name a line."""

    @property
    def given(self) -> bool:
        return any(value is not None for value in (self.spec, self.preprocessing, self.class_names))


@dataclass(frozen=True)
class ModelOptions(ForeignOptions):
    """For ONNX files that carry no spec, and for checkpoints."""

    network: Annotated[NetworkOptions, tyro.conf.arg(name="checkpoint")] = field(default_factory=NetworkOptions)

    @property
    def trained_with(self) -> TrainedWith:
        """What the options say of a checkpoint."""
        return self.network.with_input(self.preprocessing)


def read_class_names(argument: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and category ids from "coco" or a text file.

    The ids of a file's names are 1, 2, 3 and so on, unless the names are COCO's (see `category_ids`). Raises
    `InvalidInput` for no names, or equal ones.
    """
    if argument == "coco":
        return COCO_CLASS_NAMES, COCO_CATEGORY_IDS
    try:
        lines = Path(argument).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f'--class-names {argument} is neither "coco" nor a text file that can be read: {error}.'
        ) from None
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise InvalidInput(f"--class-names {argument} holds no names.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInput(f"--class-names {argument} holds {twice!r} twice.")
    return names, category_ids(names)


def same_name(one: str, other: str) -> bool:
    """Whether two class names are equal up to letter case and spaces."""
    return "".join(one.split()).casefold() == "".join(other.split()).casefold()


def check_same_names(given: Sequence[str], own: Sequence[str], path: Path) -> None:
    """Raise `InvalidInput`, with the first difference, where `--class-names` contradict what a file names."""
    if len(given) != len(own):
        what = f"names {len(own)} classes ({few(own)}), and --class-names {len(given)} ({few(given)})"
    else:
        pairs = enumerate(zip(own, given, strict=True))
        difference = next(((at, *pair) for at, pair in pairs if not same_name(*pair)), None)
        if difference is None:
            return
        what = f"names class {difference[0]} {difference[1]!r}, and --class-names {difference[2]!r}"
    raise InvalidInput(f"{path} {what}: leave --class-names out.")


def few(names: Sequence[str]) -> str:
    """The first names of a list, for a message."""
    shown = [name if is_name(name) else ascii(name) for name in names[:3]]  # some would steer the terminal
    return ", ".join(shown) + (", ..." if len(names) > 3 else "")


def default_class_names(num_classes: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """For a checkpoint that names none: COCO's where there are 80, as in the official weights, else numbers."""
    if num_classes == len(COCO_CLASS_NAMES):
        return COCO_CLASS_NAMES, COCO_CATEGORY_IDS
    return tuple(f"class {index}" for index in range(num_classes)), ()


def open_artifact(
    artifact: Path,
    foreign: ForeignOptions,
    score_threshold: float,
    nms_threshold: float | None,
    threads: int | None,
    streams: int | None = 1,
) -> Detector:
    """Load an artifact; for a foreign file, with the spec that the options describe. streams: None for many images."""
    path = model_file(artifact)
    spec = _foreign(path, foreign) if foreign.given else None
    options = {} if threads is None else {"threads": threads}
    if streams is None:
        streams = GPU_STREAMS if path.suffix.lower() in LIBRARIES else streams_for(usable_cores())
    return load(artifact, spec, score_threshold, nms_threshold, streams, **options)


def third_party_options(artifact: Path, foreign: ForeignOptions) -> dict[str, Any]:
    """What `runtimes.load` is to be told of an artifact by these options: nothing where it carries a spec of its own.

    Raises `InvalidInput` as `open_artifact`.
    """
    if not foreign.given:
        return {}
    try:
        load(artifact).close()
    except MissingSpec:
        return {"spec": _foreign(model_file(artifact), foreign)}
    return {}


def streams_for(cores: int) -> int:
    """Streams for many images: one for each core, or where there are many cores, for a few of them each."""
    return cores // math.ceil(cores / MOST_STREAMS)


def _foreign(path: Path, options: ForeignOptions) -> ModelSpec:
    if options.spec is not None:
        if options.preprocessing is not None or options.class_names is not None:
            raise InvalidInput("--spec says it all: leave out --preprocessing and --class-names.")
        return ModelSpec.read(options.spec)
    if options.preprocessing is None or options.class_names is None:
        missing = "--preprocessing" if options.preprocessing is None else "--class-names"
        raise InvalidInput(f"a file without a spec needs {missing} too (or a spec file alone: --spec FILE).")
    names, ids = read_class_names(options.class_names)
    return foreign_spec(path, names, options.preprocessing, ids)


def check_positive(**numbers: int | None) -> None:
    """Raise `InvalidInput`, naming the option, for a number below 1."""
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise InvalidInput(f"--{name.replace('_', '-')} must be at least 1, not {value}.")


def check_thresholds(**thresholds: float | None) -> None:
    """Raise `InvalidInput`, naming the option, for a threshold outside 0..1."""
    for name, value in thresholds.items():
        if value is not None and not 0 <= value <= 1:
            raise InvalidInput(f"--{name.replace('_', '-')} must lie between 0 and 1, not be {value:g}.")

"""Options that several commands share, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from runtimes.class_names import same_name
from runtimes.coco import COCO_CATEGORY_IDS, COCO_CLASS_NAMES, category_ids
from runtimes.cores import usable_cores
from runtimes.detector import Detector
from runtimes.errors import InvalidInput, MissingSpec
from runtimes.foreign import Preprocessing, foreign_spec
from runtimes.load import load, model_file
from runtimes.spec import GraphNMS, ModelSpec, is_name
from runtimes.trt_engine import LIBRARIES

from .model.trained_with import NetworkOptions, TrainedWith

# For many images: each stream has memory of its own, and a few threads for one image are nearly as good as a stream.
MOST_STREAMS, GPU_STREAMS = 8, 2


# Options that may be unset, as the command line names their values. The seven variants would take two lines.
ClassNames = Annotated[str | None, tyro.conf.arg(metavar="coco|FILE|NAMES")]
Images = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]  # see `find_image_source`
InputSize = Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="HEIGHT WIDTH")]
Json = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
VARIANT = tyro.conf.arg(metavar="VARIANT")


@dataclass(frozen=True)
class ForeignOptions:
    """For model files that carry no spec, such as those of the official YOLOX exporter: ONNX, OpenVINO, NCNN."""

    spec: Path | None = None
    """Spec file (JSON) of a model file that carries none."""
    preprocessing: Preprocessing | None = None
    """How such a model was trained: official (BGR, 0..255) or legacy (release 0.0.1: RGB, ImageNet mean and std)."""
    class_names: ClassNames = None
    """Class names: "coco", a text file with one name a line, or the names themselves with commas between them; unset,
    those in the file, if it has any."""
    sigmoid: bool = False
    """The scores of such a model come as logits: make probabilities of them."""
    input_size: InputSize = None
    """Height and width of the network input, of a third-party file that takes any size, as all of NCNN do."""

    @property
    def given(self) -> bool:
        return self.sigmoid or any(value is not None for value in (self.spec, self.preprocessing, self.class_names))


@dataclass(frozen=True)
class ModelOptions(ForeignOptions):
    """For model files that carry no spec (ONNX, OpenVINO, NCNN), and for checkpoints."""

    input_size: InputSize = None
    """Height and width of the network input, of a checkpoint (unset, its own), or of a third-party file that takes any
    size, as all of NCNN do."""
    network: Annotated[NetworkOptions, tyro.conf.arg(name="checkpoint")] = field(default_factory=NetworkOptions)

    @property
    def trained_with(self) -> TrainedWith:
        """What the options say of a checkpoint."""
        return self.network.with_input(self.preprocessing)


def read_class_names(argument: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and category ids from "coco", a text file, or names with commas between them.

    What has no dot and no slash in it, and is no file, are names. The ids of names are COCO's where each is one of its,
    else 1, 2, 3 and so on. Raises `InvalidInput` for no names, or equal ones.
    """
    if argument == "coco":
        return COCO_CLASS_NAMES, COCO_CATEGORY_IDS
    try:
        there = Path(argument).exists()
    except OSError:  # longer than the name of a file may be
        there = False
    if not there and not set("./\\") & set(argument):
        lines = argument.split(",")
    else:
        try:
            lines = Path(argument).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(
                f'--class-names {argument} is neither "coco" nor a text file that can be read: {error}. Names'
                " themselves are given with commas between them: --class-names helmet,vest."
            ) from None
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise InvalidInput(f"--class-names {argument} holds no names.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInput(f"--class-names {argument} holds {twice!r} twice.")
    return names, category_ids(names)


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
    """Load an artifact; for a third-party file, with the spec that the options describe.

    streams: None for many images. With NMS in the graph of a third-party file, the score threshold is at least its own,
    and `Detector.warnings` says what is lost.
    """
    path = model_file(artifact)
    if foreign.input_size is not None and not foreign.given:
        raise InvalidInput(
            "--input-size is for checkpoints, and for third-party files that take any size; an artifact has its own."
        )
    spec = _foreign(path, foreign) if foreign.given else None
    options: dict[str, Any] = {} if threads is None else {"threads": threads}
    if foreign.sigmoid:
        options["sigmoid"] = True
    if streams is None:
        streams = GPU_STREAMS if path.suffix.lower() in LIBRARIES else streams_for(usable_cores())
    if spec is None or spec.nms is None:
        return load(artifact, spec, score_threshold, nms_threshold, streams, **options)
    lowest = spec.nms.score_threshold or 0.0
    detector = load(artifact, spec, max(score_threshold, lowest), nms_threshold, streams, **options)
    if spec.nms.score_threshold is None or score_threshold < lowest:
        detector.warnings = (_about_nms(spec.name, spec.nms),)
    return detector


def _about_nms(name: str, nms: GraphNMS) -> str:
    score, overlap = (
        "a score that its graph does not show" if nms.score_threshold is None else f"score {nms.score_threshold:g}",
        "an IoU that it does not show" if nms.nms_threshold is None else f"IoU {nms.nms_threshold:g}",
    )
    return f"{name} has NMS inside, from {score} on, at {overlap}: what its graph drops is not counted in AP either."


def third_party_options(artifact: Path, foreign: ForeignOptions) -> dict[str, Any]:
    """What `runtimes.load` is to be told of an artifact by these options: nothing where it carries a spec of its own.

    Raises `InvalidInput` as `open_artifact`.
    """
    if not foreign.given:
        return {}
    try:
        load(artifact).close()
    except MissingSpec:
        sigmoid = {"sigmoid": True} if foreign.sigmoid else {}
        return {"spec": _foreign(model_file(artifact), foreign), **sigmoid}
    return {}


def streams_for(cores: int) -> int:
    """Streams for many images: one for each core, or where there are many cores, for a few of them each."""
    return cores // math.ceil(cores / MOST_STREAMS)


def _foreign(path: Path, options: ForeignOptions) -> ModelSpec:
    if options.spec is not None:
        if any(value is not None for value in (options.preprocessing, options.class_names, options.input_size)):
            raise InvalidInput("--spec says it all: leave out --preprocessing, --class-names and --input-size.")
        return ModelSpec.read(options.spec)
    if options.preprocessing is None:
        raise InvalidInput(
            "a file without a spec needs --preprocessing official or legacy too (or a spec file: --spec FILE)."
        )
    names, ids = (None, ()) if options.class_names is None else read_class_names(options.class_names)
    return foreign_spec(path, names, options.preprocessing, ids, options.input_size)


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

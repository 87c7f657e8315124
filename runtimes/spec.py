"""ModelSpec: what an artifact promises to whoever runs it."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from .errors import InvalidInput
from .json_file import json_object, json_text, read_json_object

ChannelOrder = Literal["BGR", "RGB"]
Normalization = Literal["imagenet"]
Precision = Literal["fp32", "fp16", "int8"]
Activation = Literal["silu", "relu", "lrelu"]  # the official names; lrelu: leaky ReLU of slope 0.1


# What a spec file has to say, though the class has defaults: a guess would show only as wrong boxes.
REQUIRED = {"name", "input_size", "class_names", "batch", "decoded", "channel_order", "normalization"}


# Far beyond what anybody runs: files of strangers must not ask for all memory there is.
LONGEST_SIDE, LARGEST_BATCH, MOST_PIXELS, MOST_STRIDES, LONGEST_NAME = 8192, 1024, 2**29, 8, 200

# Unicode's kinds of control characters, halves of characters and ends of lines; and what turns the direction of text.
STEERING = {"Cc", "Cs", "Zl", "Zp"}
TURNING = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


@dataclass(frozen=True)
class GraphNMS:
    """The thresholds of non-maximum suppression that was built into the graph, each between 0 and 1.

    None: a third-party file does not show it.
    """

    score_threshold: float | None
    nms_threshold: float | None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and (not isinstance(value, float) or not 0 < value < 1):
                raise InvalidInput(f"{name} of the NMS in the graph must lie between 0 and 1, not be {value!r}.")


@dataclass(frozen=True)
class ModelSpec:
    """Everything that is needed to feed a YOLOX artifact and to read its output.

    It travels inside the artifact (ONNX metadata) and beside it (`spec.json`).

    Network input: `(N, 3, H, W)` float32, 0..255 or normalised, or `(N, H, W, 3)` uint8 where `uint8_input` is set.
    Network output: `(N, A, 5 + C)` float32, A anchors in the order of `strides`, row-major: 4 box values, then
    objectness and C class scores, both after the sigmoid. The box is (cx, cy, w, h) in input pixels where `decoded`,
    raw predictions otherwise. With `nms`, the output is `(M, 7)`: see `postprocess.split_rows`. With `topk`, it is
    `(N, topk, 6)`, the anchors with the best scores: left, top, right, bottom in input pixels, confidence, class index.

    Raises `InvalidInput` on construction where a value is out of range.
    """

    name: str
    input_size: tuple[int, int]  # (height, width), multiples of the largest stride
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...] = ()  # the data set's own id of each class; () becomes 1..C
    strides: tuple[int, ...] = (8, 16, 32)
    channel_order: ChannelOrder = "BGR"
    normalization: Normalization | None = None  # None: raw 0..255; "imagenet": /255, then mean and std (legacy weights)
    pad_value: int = 114
    batch: int | None = 1  # None: any
    precision: Precision = "fp32"
    decoded: bool = True
    nms: GraphNMS | None = None
    topk: int | None = None
    uint8_input: bool = False
    source_sha256: str = ""  # of the checkpoint that the artifact was made from
    activation: Activation | None = None  # of the network that was exported; None: not known. Nothing depends on it
    batch_norm_eps: float | None = None  # the same

    def __post_init__(self) -> None:
        if self.category_ids == () and isinstance(self.class_names, tuple):
            object.__setattr__(self, "category_ids", tuple(range(1, len(self.class_names) + 1)))
        _check(self)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def num_anchors(self) -> int:
        """Anchors of one image: one for each cell of each stride's grid."""
        height, width = self.input_size
        return sum((height // stride) * (width // stride) for stride in self.strides)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Of the network input; None where any number is taken."""
        return (self.batch, *self.input_size, 3) if self.uint8_input else (self.batch, 3, *self.input_size)

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """Of the network output; None where it follows from the input."""
        if self.nms is not None:
            return (None, 7)
        return (self.batch, self.topk, 6) if self.topk else (self.batch, self.num_anchors, 5 + self.num_classes)

    def to_json(self) -> str:
        return json_text(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = "spec") -> ModelSpec:
        """Read what `to_json` wrote. `source` names the file in error messages."""
        return cls.from_dict(json_object(text, source), source)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], source: str = "spec") -> ModelSpec:
        """Build from plain values; lists become tuples. Raises `InvalidInput` for unknown, missing or wrong fields."""
        unknown = sorted(set(content) - {field.name for field in fields(cls)})
        missing = sorted(REQUIRED - set(content))
        if unknown or missing:
            wrong = [f"unknown field {name!r}" for name in unknown] + [f"missing field {name!r}" for name in missing]
            raise InvalidInput(f"{source} is not a model spec: {', '.join(wrong)}.")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
        }
        try:
            if values.get("nms") is not None:
                values["nms"] = _graph_nms(values["nms"])
            return cls(**values)
        except (TypeError, InvalidInput) as error:
            raise InvalidInput(f"{source} is not a model spec: {error}") from None

    @classmethod
    def read(cls, path: str | Path) -> ModelSpec:
        """Read a `spec.json`. Raises `InvalidInput` where the file is missing or not a spec."""
        return cls.from_dict(read_json_object(Path(path)), str(path))


def _graph_nms(content: Any) -> GraphNMS:
    names = {field.name for field in fields(GraphNMS)}
    if not isinstance(content, Mapping) or set(content) != names:
        raise InvalidInput(f"nms needs {' and '.join(sorted(names))}, and nothing else")
    return GraphNMS(**content)


def _check(spec: ModelSpec) -> None:
    """Raise `InvalidInput` that names the first field that is out of range."""
    rules = {
        "name": _texts((spec.name,)) and not set(spec.name) & set("/\\"),  # folders are named after it
        "strides": _integers(spec.strides) and 0 < len(set(spec.strides)) == len(spec.strides) <= MOST_STRIDES,
        "input_size": _integers(spec.input_size) and len(spec.input_size) == 2 and max(spec.input_size) <= LONGEST_SIDE,
        "class_names": _texts(spec.class_names) and len(spec.class_names) > 0,
        "category_ids": isinstance(spec.category_ids, tuple)
        and all(type(number) is int for number in spec.category_ids),
        "channel_order": spec.channel_order in ("BGR", "RGB"),
        "normalization": spec.normalization in (None, "imagenet"),
        "pad_value": type(spec.pad_value) is int and 0 <= spec.pad_value <= 255,
        "batch": spec.batch is None or (_integers((spec.batch,)) and spec.batch <= LARGEST_BATCH),
        "precision": spec.precision in ("fp32", "fp16", "int8"),
        "decoded": isinstance(spec.decoded, bool),
        "nms": spec.nms is None or isinstance(spec.nms, GraphNMS),
        "topk": spec.topk is None or _integers((spec.topk,)),
        "uint8_input": isinstance(spec.uint8_input, bool),
        "source_sha256": isinstance(spec.source_sha256, str),
        "activation": spec.activation in (None, "silu", "relu", "lrelu"),
        "batch_norm_eps": spec.batch_norm_eps is None or is_eps(spec.batch_norm_eps),
    }
    for name, holds in rules.items():
        if not holds:
            raise InvalidInput(f"{name} cannot be {getattr(spec, name)!r:.200}.")
    if (spec.batch or 1) * spec.input_size[0] * spec.input_size[1] > MOST_PIXELS:
        raise InvalidInput(f"{spec.batch} images of {spec.input_size} are more than anybody runs at a time.")
    step = max(spec.strides)
    if any(step % stride for stride in spec.strides):
        raise InvalidInput(f"strides {spec.strides} do not divide each other.")
    if any(side % step for side in spec.input_size):
        height, width = spec.input_size
        raise InvalidInput(f"input size {height}x{width} is not in multiples of {step}.")
    if (spec.nms or spec.topk) and not spec.decoded:
        raise InvalidInput("NMS and TopK in the graph work on decoded boxes: they need `decoded`.")
    if spec.nms and spec.topk:
        raise InvalidInput("NMS and TopK in the graph exclude each other.")
    if spec.topk and spec.topk > spec.num_anchors:
        raise InvalidInput(f"topk {spec.topk} is more than the {spec.num_anchors} anchors there are.")
    if len(spec.category_ids) != len(spec.class_names):
        raise InvalidInput(f"{len(spec.category_ids)} category_ids do not fit {len(spec.class_names)} class_names.")
    if len(set(spec.category_ids)) != len(spec.category_ids):
        raise InvalidInput("category_ids holds a number twice.")


def _texts(values: tuple[str, ...]) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, str) and is_name(value) for value in values)


def is_name(text: str) -> bool:
    """Whether a text can name a class: not empty, not long, one line, and nothing that steers a terminal."""
    return 0 < len(text) <= LONGEST_NAME and not any(
        unicodedata.category(sign) in STEERING or unicodedata.bidirectional(sign) in TURNING for sign in text
    )


def is_eps(value: Any) -> bool:
    """Whether a value can be the eps of a batch norm: a number over 0, and at most 1."""
    return type(value) in (int, float) and 0 < value <= 1


def _integers(values: tuple[int, ...]) -> bool:
    return isinstance(values, tuple) and all(type(value) is int and value > 0 for value in values)

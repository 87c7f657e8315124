"""What is served, and how it is told to whoever sends images."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from runtimes.detector import MOST_AT_A_TIME
from runtimes.errors import InvalidInput
from runtimes.load import load, model_file
from runtimes.proof import check_proven, sha256_file
from runtimes.spec import ModelSpec
from runtimes.trt_engine import EngineInfo

INPUT, OUTPUT = "images", "output"  # the tensors of every artifact; see `exporters.onnx`
SCORE_THRESHOLD, NMS_THRESHOLD = 0.25, 0.65  # written where they can be edited


@dataclass(frozen=True)
class Served:
    """A proven model file and what it promises. profile: the batch sizes of an engine; None where they are fixed."""

    model: Path
    spec: ModelSpec
    profile: tuple[int, int, int] | None = None

    @property
    def name(self) -> str:
        """The model's name as it can stand in an address and be a folder's."""
        return re.sub(r"[^A-Za-z0-9_.-]+", "-", self.spec.name).strip(".-") or "model"

    @property
    def largest_batch(self) -> int:
        """Images that a server may join for one inference."""
        if self.spec.batch is not None:
            return self.spec.batch
        return self.profile[2] if self.profile else MOST_AT_A_TIME


def open_served(artifact: Path) -> Served:
    """An artifact that `export` wrote, loaded and checked where it can run here.

    Raises `InvalidInput` for what no server here can be given, and for files that are not those that were proven.
    """
    model = model_file(artifact)
    if not model.with_name("spec.json").exists():
        raise InvalidInput(f"{model} has no spec.json beside it: give an artifact that yolox-deploy export wrote.")
    if model.suffix.lower() == ".param":
        raise InvalidInput("no server here runs NCNN, which is for devices: export --target onnx, openvino or trt.")
    if model.suffix.lower() == ".rtx":
        raise InvalidInput("no server here runs TensorRT-RTX, which is for desktops: export --target trt or onnx.")
    if model.suffix.lower() == ".engine":
        return _open_engine(model)
    with load(model) as detector:
        return Served(model, detector.spec)


def _open_engine(model: Path) -> Served:
    """An engine runs where it was built, which need not be here: only its files are checked."""
    check_proven(model)
    info = EngineInfo.read(model)
    if sha256_file(model) != info.engine_sha256:
        raise InvalidInput(f"{model} is damaged, or not the file that engine.json tells of: build it anew.")
    onnx = model.with_suffix(".onnx")  # from which a server may build it anew
    if onnx.exists():
        check_proven(onnx)
        if sha256_file(onnx) != info.onnx_sha256:
            raise InvalidInput(f"{onnx} is not the file that {model.name} was built from: export it again.")
    return Served(model, ModelSpec.read(model.with_name("spec.json")), info.profile)


def write_labels(path: Path, spec: ModelSpec) -> None:
    """The class names, one a line."""
    path.write_text("\n".join(spec.class_names) + "\n", encoding="utf-8")


def quoted(text: str) -> str:
    """A string of JSON, Markdown's code or protobuf's text format."""
    return json.dumps(text, ensure_ascii=False)


def tensors(spec: ModelSpec) -> str:
    """The network's input and output, in Markdown."""

    def shape(sides: tuple[int | None, ...], first: str) -> str:
        return "(" + ", ".join(first if side is None else str(side) for side in sides) + ")"

    dtype = "uint8" if spec.uint8_input else "float32"
    values = {None: "0..255", "imagenet": "0..1, less ImageNet's mean, over its standard deviation"}
    pixels = "0..255" if spec.uint8_input else values[spec.normalization]
    return f"""| tensor | dtype | shape | what |
|---|---|---|---|
| `{INPUT}` | {dtype} | {shape(spec.input_shape, "N")} | {spec.channel_order}, {pixels}; letterboxed |
| `{OUTPUT}` | float32 | {shape(spec.output_shape, "M" if spec.nms else "N")} | {_meaning(spec)} |

Letterbox: scale by `ratio = min({spec.input_size[0]} / height, {spec.input_size[1]} / width)`, bilinear, sides
truncated, into the top-left corner; the rest is {spec.pad_value}. Boxes divided by `ratio` are pixels of the image.
"""


def _meaning(spec: ModelSpec) -> str:
    if spec.nms:
        return "detections, best first: image in the batch, left, top, right, bottom in input pixels, confidence, class"
    if spec.topk:
        return "the best anchors: left, top, right, bottom in input pixels, confidence, class; NMS is yours"
    box = "cx, cy, w, h in input pixels" if spec.decoded else "raw box (decode it: cells, exponents, strides)"
    return f"an anchor a row: {box}, objectness, {spec.num_classes} class scores; score is their product; NMS is yours"

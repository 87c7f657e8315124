"""NVIDIA DeepStream: a configuration of its element nvinfer, and the source of what reads the output for it."""

from __future__ import annotations

import shutil
from pathlib import Path

from runtimes.errors import InvalidInput
from runtimes.spec import Precision

from .contract import NMS_THRESHOLD, SCORE_THRESHOLD, Served, tensors, write_labels

PARSER = Path(__file__).with_name("nvdsinfer_yolox.cpp")
LIBRARY = "libnvdsinfer_yolox.so"
NETWORK_MODES: dict[Precision, int] = {"fp32": 0, "int8": 1, "fp16": 2}
COLOUR_FORMATS = {"RGB": 0, "BGR": 1}


def check_deepstream(served: Served) -> None:
    """Raise `InvalidInput`, with what to export instead, for what nvinfer cannot feed or read."""
    spec, again = served.spec, "export it again"
    if served.model.suffix.lower() not in (".onnx", ".engine"):
        raise InvalidInput("DeepStream runs TensorRT: export --target trt, or onnx for it to build from.")
    if spec.uint8_input:
        raise InvalidInput(f"nvinfer feeds floats, and {spec.name} takes bytes: {again} with --no-uint8-input.")
    if spec.normalization is not None:
        raise InvalidInput(
            f"nvinfer has one scale for all channels, and {spec.name} (legacy weights) wants one for each; for it"
            " there is --server triton."
        )
    if spec.nms is not None:
        raise InvalidInput(f"nvinfer suppresses itself: {again} without --nms.")
    if not spec.decoded:
        raise InvalidInput(f"the boxes of {spec.name} are raw: {again} without --no-decode.")
    if spec.precision == "int8" and served.model.suffix.lower() == ".onnx":
        raise InvalidInput("nvinfer asks int8 for a calibration table, which ONNX files have not: export --target trt.")


def write_deepstream(served: Served, folder: Path) -> None:
    """The model, its labels, config_infer_primary.txt, and the parser's source, which is compiled where it runs."""
    shutil.copyfile(served.model, folder / served.model.name)
    source = onnx_source(served)
    if source is not None and source != served.model:
        shutil.copyfile(source, folder / source.name)
    write_labels(folder / "labels.txt", served.spec)
    (folder / "spec.json").write_text(served.spec.to_json(), encoding="utf-8")
    (folder / "config_infer_primary.txt").write_text(config(served), encoding="utf-8")
    shutil.copyfile(PARSER, folder / PARSER.name)
    (folder / "README.md").write_text(readme(served), encoding="utf-8")


def onnx_source(served: Served) -> Path | None:
    """What nvinfer may build an engine from, where the one there does not fit; nothing in int8, which it cannot."""
    source = served.model.with_suffix(".onnx")
    return source if source.exists() and served.spec.precision != "int8" else None


def config(served: Served) -> str:
    """config_infer_primary.txt. Pixels go in as they are: y = net-scale-factor * (x - offset)."""
    spec = served.spec
    batch = spec.batch or 1
    source = onnx_source(served)
    built = f"{served.model.name}_b{batch}_gpu0_{spec.precision}.engine"  # nvinfer's name for what it builds
    values: dict[str, object] = {
        "gpu-id": 0,
        "gie-unique-id": 1,
        **({"onnx-file": source.name} if source else {}),
        "model-engine-file": served.model.name if served.model.suffix.lower() == ".engine" else built,
        "labelfile-path": "labels.txt",
        "network-type": 0,  # a detector
        "network-mode": NETWORK_MODES[spec.precision],
        "num-detected-classes": spec.num_classes,
        "batch-size": batch,
        "process-mode": 1,  # whole frames
        "infer-dims": f"3;{spec.input_size[0]};{spec.input_size[1]}",
        "network-input-order": 0,  # NCHW
        "model-color-format": COLOUR_FORMATS[spec.channel_order],
        "net-scale-factor": 1.0,
        "offsets": "0;0;0",
        "maintain-aspect-ratio": 1,
        "symmetric-padding": 0,  # the image in the top-left corner, as in training
        "scaling-filter": 1,  # bilinear
        "cluster-mode": 2,  # NMS within each class
        "custom-lib-path": LIBRARY,
        "parse-bbox-func-name": "NvDsInferParseYoloxBest" if spec.topk else "NvDsInferParseYolox",
    }
    thresholds = {"pre-cluster-threshold": SCORE_THRESHOLD, "nms-iou-threshold": NMS_THRESHOLD}
    free = "# Set batch-size to the number of streams.\n" if spec.batch is None else ""
    padding = f"# nvinfer pads with black; {spec.name} was trained with {spec.pad_value}. See README.md.\n"
    return padding + free + _group("property", values) + "\n" + _group("class-attrs-all", thresholds)


def _group(name: str, values: dict[str, object] | dict[str, float]) -> str:
    return "\n".join([f"[{name}]", *(f"{key}={value}" for key, value in values.items())]) + "\n"


def readme(served: Served) -> str:
    """How to compile the parser and run nvinfer, and where it differs from the proof."""
    engine = (
        "The engine loads where DeepStream's TensorRT is the version that built it, on the same GPU: build it there."
        if served.model.suffix.lower() == ".engine"
        else "The first start builds the engine, which takes minutes."
    )
    return f"""# {served.spec.name} for DeepStream

```
g++ -O2 -std=c++17 -shared -fPIC nvdsinfer_yolox.cpp -o {LIBRARY} \\
    -I /opt/nvidia/deepstream/deepstream/sources/includes -I /usr/local/cuda/include
gst-launch-1.0 filesrc location=street.mp4 ! qtdemux ! h264parse ! nvv4l2decoder ! mux.sink_0 \\
    nvstreammux name=mux batch-size=1 width=1920 height=1080 ! \\
    nvinfer config-file-path=config_infer_primary.txt ! nvvideoconvert ! nvdsosd ! nveglglessink
```

In deepstream-app it is `config-file=config_infer_primary.txt` under `[primary-gie]`. {engine}

**Where it differs from the proof**: nvinfer pads with black, and there is no key for another value; the letterbox of
training pads with {served.spec.pad_value}. The nearer the frames' aspect ratio is to the network's, the less padding
there is: for 16:9, export with `--input-size 384 672`. On 206 images of COCO, black cost YOLOX-Nano nothing (29.2 AP,
28.6 with 114), but the boxes are not those of the proof. nvinfer scales on the GPU, not by OpenCV, so that pixels
differ a little, and boxes are clipped to the network's input before NMS.

{tensors(served.spec)}"""

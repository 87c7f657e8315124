"""NVIDIA Triton Inference Server: a model repository with the network, and a model from image to detections."""

from __future__ import annotations

import shutil
from pathlib import Path

import runtimes
from runtimes.errors import InvalidInput
from runtimes.proof import weights_beside

from .contract import INPUT, NMS_THRESHOLD, OUTPUT, SCORE_THRESHOLD, Served, quoted, tensors, write_labels

# Of each model file: Triton's backend, and the file's name there.
BACKENDS = {
    ".onnx": ("onnxruntime", "model.onnx"),
    ".xml": ("openvino", "model.xml"),
    ".engine": ("tensorrt", "model.plan"),
}
PYTHON_MODEL = Path(__file__).with_name("triton_model.py")


def check_triton(served: Served) -> None:
    """Raise `InvalidInput` for what the repository cannot serve."""
    if served.model.suffix.lower() == ".engine" and served.spec.nms:
        raise InvalidInput("NMS in an engine is a plugin with outputs of its own: export it with --topk instead.")
    if served.profile and served.profile[0] > 1:
        raise InvalidInput(
            f"{served.model} takes at least {served.profile[0]} images, and Triton sends what there is: export it with"
            f" --batch-profile 1 {served.profile[1]} {served.profile[2]}."
        )


def write_triton(served: Served, folder: Path) -> None:
    """Two models: NAME takes an image file and gives detections, and asks NAME-network."""
    network, detector = folder / f"{served.name}-network", folder / served.name
    backend, file = BACKENDS[served.model.suffix.lower()]
    for model in (network, detector):
        (model / "1").mkdir(parents=True)
        write_labels(model / "labels.txt", served.spec)
    shutil.copyfile(served.model, network / "1" / file)
    if backend == "openvino":
        shutil.copyfile(weights_beside(served.model), network / "1" / "model.bin")
    (network / "config.pbtxt").write_text(network_config(served), encoding="utf-8")
    (detector / "config.pbtxt").write_text(detector_config(served), encoding="utf-8")
    shutil.copyfile(PYTHON_MODEL, detector / "1" / "model.py")
    (detector / "1" / "spec.json").write_text(served.spec.to_json(), encoding="utf-8")
    copy_runtimes(detector / "1" / "yolox_runtimes")
    (folder / "README.md").write_text(readme(served), encoding="utf-8")


def copy_runtimes(folder: Path) -> None:
    """The runtime's own code: preprocessing and postprocessing are those of the proof, whatever is installed there."""
    folder.mkdir()
    for source in sorted(Path(runtimes.__file__).parent.glob("*.py")):
        shutil.copyfile(source, folder / source.name)


def network_config(served: Served) -> str:
    """config.pbtxt of the network.

    Triton joins requests where the first axis is a batch of any size. Not for OpenVINO, whose backend would compute the
    largest batch each time, and not with NMS in the graph, whose rows are no batch.
    """
    spec = served.spec
    backend, _ = BACKENDS[served.model.suffix.lower()]
    joins = spec.batch is None and spec.nms is None and backend != "openvino"
    first = 1 if joins else 0
    dtype = "TYPE_UINT8" if spec.uint8_input else "TYPE_FP32"
    lines = [
        f"name: {quoted(served.name + '-network')}",
        f"backend: {quoted(backend)}",
        f"max_batch_size: {served.largest_batch if joins else 0}",
        f"input [ {{ name: {quoted(INPUT)} data_type: {dtype} dims: {dims(spec.input_shape[first:])} }} ]",
        f"output [ {{ name: {quoted(OUTPUT)} data_type: TYPE_FP32 dims: {dims(spec.output_shape[first:])} }} ]",
    ]
    return "\n".join(lines + ["dynamic_batching { }"] * joins) + "\n"


def detector_config(served: Served) -> str:
    """config.pbtxt of the model from image to detections."""
    parameters = {
        "network": f"{served.name}-network",
        "score_threshold": str(SCORE_THRESHOLD),
        "nms_threshold": str(NMS_THRESHOLD),
    }
    outputs = {"xyxy": "TYPE_FP32 dims: [ -1, 4 ]", "confidence": "TYPE_FP32 dims: [ -1 ]"}
    outputs |= {"class_id": "TYPE_INT64 dims: [ -1 ]", "class_name": "TYPE_STRING dims: [ -1 ]"}
    lines = [
        f"name: {quoted(served.name)}",
        'backend: "python"',
        "max_batch_size: 0",
        'input [ { name: "image" data_type: TYPE_STRING dims: [ 1 ] } ]',
        *(f"output [ {{ name: {quoted(name)} data_type: {rest} }} ]" for name, rest in outputs.items()),
        "# So many images are decoded and letterboxed at a time; the network joins what they ask for.",
        "instance_group [ { kind: KIND_CPU count: 2 } ]",
        *(
            f"parameters {{ key: {quoted(key)} value {{ string_value: {quoted(value)} }} }}"
            for key, value in parameters.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def dims(shape: tuple[int | None, ...]) -> str:
    return "[ " + ", ".join("-1" if side is None else str(side) for side in shape) + " ]"


def readme(served: Served) -> str:
    """How to start the server, and what the models take and give."""
    name, spec = served.name, served.spec
    return f"""# {spec.name} for Triton Inference Server

This folder is a model repository; start the server from here. Its Python backend needs OpenCV and NumPy 1
(that of Triton 2.51 crashes with NumPy 2):

```
docker run --rm -it -p 8000:8000 -p 8001:8001 -v "$PWD":/models nvcr.io/nvidia/tritonserver:XX.YY-py3 bash -c \\
    "pip install 'numpy<2' 'opencv-python-headless<4.12' && tritonserver --model-repository=/models"
```

`{name}` takes the bytes of an image file (JPEG, PNG, what OpenCV reads) and gives `xyxy` (n, 4) in pixels of the image,
`confidence`, `class_id` and `class_name` (n), best first. Thresholds stand in `{name}/config.pbtxt`.

```python
import numpy as np
import tritonclient.http as triton  # pip install "tritonclient[http]"

image = triton.InferInput("image", [1], "BYTES")
image.set_data_from_numpy(np.array([open("street.jpg", "rb").read()], dtype=np.object_))
found = triton.InferenceServerClient("localhost:8000").infer({quoted(name)}, [image])
print(found.as_numpy("xyxy"), found.as_numpy("confidence"), found.as_numpy("class_name"))
```

`{name}-network` is the model file alone, for clients that letterbox and suppress themselves:

{tensors(spec)}
{NOTES[served.model.suffix.lower()]}
"""


NOTES = {
    ".onnx": "ONNX Runtime runs it on the GPU where there is one.",
    ".xml": """OpenVINO computes in bf16 on processors that have it, and Triton's backend has no way to ask for float,
as the proof did: there, scores and boxes differ from it. OpenVINO Model Server (`--server ovms`) can be asked.""",
    ".engine": """The engine runs by the TensorRT version that built it, on the GPU it was built on: take the Triton
image of that version, and build in it.""",
}

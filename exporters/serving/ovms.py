"""OpenVINO Model Server: config.json, and the model in a folder of its version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from runtimes.errors import InvalidInput
from runtimes.proof import weights_beside

from .contract import NMS_THRESHOLD, SCORE_THRESHOLD, Served, quoted, tensors, write_labels


def check_ovms(served: Served) -> None:
    """Raise `InvalidInput` for what is neither OpenVINO's nor ONNX."""
    if served.model.suffix.lower() not in (".xml", ".onnx"):
        raise InvalidInput("OpenVINO Model Server runs no TensorRT engines: export --target openvino or onnx.")


def write_ovms(served: Served, folder: Path) -> None:
    """The model, computed in float as in the proof, whatever OpenVINO's default; labels and spec go along."""
    version = folder / served.name / "1"
    version.mkdir(parents=True)
    shutil.copyfile(served.model, version / f"model{served.model.suffix.lower()}")
    if served.model.suffix.lower() == ".xml":
        shutil.copyfile(weights_beside(served.model), version / "model.bin")
    write_labels(folder / served.name / "labels.txt", served.spec)
    (folder / served.name / "spec.json").write_text(served.spec.to_json(), encoding="utf-8")
    (folder / "config.json").write_text(config(served), encoding="utf-8")
    (folder / "README.md").write_text(readme(served), encoding="utf-8")


def config(served: Served) -> str:
    """config.json; base_path is relative to it."""
    model = {
        "name": served.name,
        "base_path": served.name,
        "target_device": "CPU",
        "plugin_config": {"INFERENCE_PRECISION_HINT": "f32"},
    }
    return json.dumps({"model_config_list": [{"config": model}]}, indent=2) + "\n"


def readme(served: Served) -> str:
    """How to start the server, and how to ask it."""
    name = served.name
    return f"""# {served.spec.name} for OpenVINO Model Server

```
docker run --rm -p 9000:9000 -v "$PWD":/models:ro openvino/model_server:latest \\
    --config_path /models/config.json --port 9000
```

The server runs the network; letterbox and NMS are the client's, by the same code as in the proof
(`pip install ./runtimes` of yolox-deploy):

```python
import cv2
import tritonclient.grpc as client  # pip install "tritonclient[grpc]"; both servers speak this protocol
from yolox_runtimes import ModelSpec
from yolox_runtimes.postprocess import postprocess
from yolox_runtimes.preprocess import preprocess

spec = ModelSpec.read({quoted(f"{name}/spec.json")})
images = [cv2.imread("street.jpg")]{"" if served.spec.batch in (None, 1) else f" * {served.spec.batch}"}
inputs, ratios = preprocess(images, spec)
tensor = client.InferInput("images", inputs.shape, "{"UINT8" if served.spec.uint8_input else "FP32"}")
tensor.set_data_from_numpy(inputs)
output = client.InferenceServerClient("localhost:9000").infer({quoted(name)}, [tensor]).as_numpy("output")
sizes = [image.shape[:2] for image in images]
for found in postprocess(output, ratios, spec, {SCORE_THRESHOLD}, {NMS_THRESHOLD}, sizes):
    print(found.xyxy, found.confidence, found.class_id)
```

{tensors(served.spec)}"""

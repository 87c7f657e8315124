"""What reads files of strangers in Python: for each reader some sound files, and a function that reads one.

A function may raise `UserError` with one line. Everything else that comes out of it is a fault.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from runtimes.ncnn_format import parse_bin, parse_param
from runtimes.ncnn_graph import output_shape
from runtimes.postprocess import postprocess
from runtimes.proof import RECORD, check_proven
from runtimes.spec import GraphNMS, ModelSpec
from runtimes.trt_engine import EngineInfo
from yolox_deploy.data.dataset import check_trainable
from yolox_deploy.data.open import open_dataset

SPEC = ModelSpec("model", (32, 64), ("cat", "dog"), batch=None)

# Of each form that an artifact's output has.
OUTPUT_SPECS = (
    SPEC,
    replace(SPEC, decoded=False),
    replace(SPEC, topk=20),
    replace(SPEC, nms=GraphNMS(0.1, 0.6)),
)
PARAM = """7767517
4 5
Input in0 0 1 in0
Convolution conv 1 1 in0 1 0=4 1=3 11=3 12=1 13=1 14=1 2=1 3=1 4=1 5=1 6=108
Split twice 1 2 1 2 3
BinaryOp add 2 1 2 3 out0 0=0
"""
VOC = """<annotation><filename>a.png</filename><size><width>64</width><height>48</height><depth>3</depth></size>
<object><name>cat</name><difficult>0</difficult><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>30</xmax><ymax>40</ymax>
</bndbox></object></annotation>
"""
YOLO = "0 0.5 0.5 0.4 0.3\n1 0.1 0.1 0.3 0.1 0.3 0.4\n"
YAML = "path: .\ntrain: images/train\nval: images/train\nnames:\n  0: cat\n  1: dog\n"


@dataclass(frozen=True)
class Target:
    """A reader. read: of one file's content; the folder is its own, and keeps what `prepare` put there."""

    seeds: tuple[bytes, ...]
    read: Callable[[bytes, Path], object]
    prepare: Callable[[Path], object] = lambda folder: None


def read_spec(content: bytes, folder: Path) -> None:
    path = folder / "spec.json"
    path.write_bytes(content)
    ModelSpec.read(path)


def read_record(content: bytes, folder: Path) -> None:
    (folder / RECORD).write_bytes(content)
    check_proven(folder / "model.onnx")


def read_engine_info(content: bytes, folder: Path) -> None:
    (folder / "engine.json").write_bytes(content)
    EngineInfo.read(folder / "model.engine")


def read_param(content: bytes, folder: Path) -> None:
    output_shape(parse_param(content.decode("latin-1")), (3, 32, 64))


def read_bin(content: bytes, folder: Path) -> None:
    parse_bin(content, parse_param(PARAM))


def read_output(content: bytes, folder: Path) -> None:
    """Any numbers as the output of a network: detections are sound whatever they are."""
    kind, numbers = content[:1], np.frombuffer(content[1 : 1 + (len(content) - 1) // 4 * 4], np.float32)
    spec = OUTPUT_SPECS[(kind or b"\0")[0] % len(OUTPUT_SPECS)]
    columns = spec.output_shape[-1] or 1
    rows = len(numbers) // columns if spec.nms else spec.output_shape[1] or 0
    output = np.resize(numbers, (rows, columns)) if len(numbers) else np.zeros((rows, columns), np.float32)
    (found,) = postprocess(output if spec.nms else output[None], [0.5], spec, 0.1, 0.6)
    known = ((found.class_id >= 0) & (found.class_id < spec.num_classes)).all()
    if not (known and np.isfinite(found.xyxy).all() and (found.confidence >= 0.1).all()):
        raise AssertionError(f"{found} of {output}")
    if not spec.nms and (np.diff(found.confidence) > 0).any():
        raise AssertionError(f"not best first: {found}")


def read_checkpoint_file(content: bytes, folder: Path) -> None:
    from yolox_deploy.model.checkpoint import read_checkpoint

    path = folder / "model.pth"
    path.write_bytes(content)
    read_checkpoint(path)


def read_safetensors_file(content: bytes, folder: Path) -> None:
    from yolox_deploy.model.checkpoint import read_checkpoint

    path = folder / "model.safetensors"
    path.write_bytes(content)
    read_checkpoint(path)


def labels(name: str) -> Callable[[bytes, Path], object]:
    """A reader of the data set in the folder, whose file `name` is what was given."""

    def read(content: bytes, folder: Path) -> None:
        (folder / name).write_bytes(content)
        dataset = open_dataset(folder, ["train"], skip_unreadable=True)
        check_trainable(dataset)

    return read


def image(folder: Path, name: str) -> None:
    """An image of a data set, 48 x 64."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((48, 64, 3), 90, np.uint8))


def prepare_coco(folder: Path) -> None:
    image(folder, "train/a.png")
    (folder / "annotations").mkdir(exist_ok=True)


def prepare_voc(folder: Path) -> None:
    image(folder, "JPEGImages/a.png")
    for part in ("ImageSets/Main", "Annotations"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets/Main/train.txt").write_text("a\n", encoding="utf-8")
    (folder / "Annotations/a.xml").write_text(VOC, encoding="utf-8")


def prepare_yolo(folder: Path) -> None:
    image(folder, "images/train/a.png")
    (folder / "labels/train").mkdir(parents=True, exist_ok=True)
    (folder / "labels/train/a.txt").write_text(YOLO, encoding="utf-8")
    (folder / "data.yaml").write_text(YAML, encoding="utf-8")


def coco_json() -> bytes:
    content = {
        "images": [{"id": 7, "file_name": "a.png", "height": 48, "width": 64}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [5, 6, 20, 30], "iscrowd": 0, "area": 600}],
    }
    return json.dumps(content).encode()


def engine_json() -> bytes:
    info = EngineInfo(
        library="tensorrt",
        version="10.4.0",
        gpu="V100",
        compute_capability="7.0",
        driver="12.4",
        precision="fp16",
        flags=("FP16",),
        profile=(1, 1, 8),
        optimization_level=3,
        workspace_mib=None,
        onnx_sha256="0" * 64,
        engine_sha256="0" * 64,
        build_seconds=1.5,
        rebuild="python -m runtimes.trt_rebuild model.engine",
    )
    return info.to_json().encode()


def weights_bin() -> bytes:
    return bytes(4) + np.arange(112, dtype=np.float32).tobytes()


def outputs() -> tuple[bytes, ...]:
    random = np.random.default_rng(0)
    numbers = random.uniform(0, 1, 42 * 7).astype(np.float32)
    odd = np.array([np.nan, np.inf, -np.inf, 1e38, -1e38, 0, 1], np.float32)
    return tuple(bytes([kind]) + values.tobytes() for kind in range(4) for values in (numbers, odd))


def checkpoints(suffix: str) -> tuple[bytes, ...]:
    """A small one. It is of no model that is known, which is said only when all of it was read."""
    import tempfile

    import torch
    from safetensors.torch import save_file

    tensors = {"backbone.backbone.a.weight": torch.arange(6.0), "head.cls_preds.0.bias": torch.zeros(2)}
    content = {"model": tensors, "class_names": ("cat", "dog"), "best_ap": np.float64(0.5), "start_epoch": 3}
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{suffix}"
        if suffix == ".safetensors":
            save_file(tensors, path, {"class_names": '["cat", "dog"]'})
            found.append(path.read_bytes())
        else:
            for zipped in (True, False):
                torch.save(content, path, _use_new_zipfile_serialization=zipped)
                found.append(path.read_bytes())
    return tuple(found)


def labels_target(seed: bytes, name: str, prepare: Callable[[Path], object]) -> Target:
    return Target((seed,), labels(name), prepare)


# Made when asked for, since some seeds need torch.
TARGETS: dict[str, Callable[[], Target]] = {
    "spec": lambda: Target((SPEC.to_json().encode(), OUTPUT_SPECS[3].to_json().encode()), read_spec),
    "record": lambda: Target((b'{"passed": true, "files": {"model.onnx": "00"}}',), read_record),
    "engine": lambda: Target((engine_json(),), read_engine_info),
    "param": lambda: Target((PARAM.encode(),), read_param),
    "bin": lambda: Target((weights_bin(),), read_bin),
    "output": lambda: Target(outputs(), read_output),
    "checkpoint": lambda: Target(checkpoints(".pth"), read_checkpoint_file),
    "safetensors": lambda: Target(checkpoints(".safetensors"), read_safetensors_file),
    "coco": lambda: labels_target(coco_json(), "annotations/instances_train.json", prepare_coco),
    "voc": lambda: labels_target(VOC.encode(), "Annotations/a.xml", prepare_voc),
    "yolo": lambda: labels_target(YOLO.encode(), "labels/train/a.txt", prepare_yolo),
    "yaml": lambda: labels_target(YAML.encode(), "data.yaml", prepare_yolo),
}
NAMES = tuple(TARGETS)

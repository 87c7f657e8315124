"""Checkpoints: the official format and mmdetection's, read without running code from the file, and converted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from runtimes.errors import InvalidInput
from runtimes.proof import sha256_file
from yolox_deploy.files import replacing

from .mmdet_keys import StateDict, mmdet_keys, official_keys
from .safe_load import safe_load
from .safe_save import safe_save
from .safetensors_file import SUFFIX, read_safetensors, write_safetensors
from .variants import VARIANTS, VariantName
from .yolox import YOLOX


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    state_dict: with the official keys, whatever the file's own are. source: the format in words. weights: which of the
    two sets of weights of a training these are, in words. class_names and category_ids: () where the file has none.
    input_size: (height, width) that it was trained at, where the file says so.
    """

    path: Path
    sha256: str
    source: str
    weights: str
    variant: VariantName
    num_classes: int
    state_dict: StateDict
    class_names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()
    input_size: tuple[int, int] | None = None

    def build(self) -> YOLOX:
        """The model with these weights, in eval mode. Raises `InvalidInput` where some are not finite."""
        self.require_finite()
        model = YOLOX(self.variant, self.num_classes)
        model.load_state_dict(self.state_dict)
        return model.eval()

    def require_finite(self) -> None:
        """Raise `InvalidInput` for the weights of a training that diverged."""
        name = self.first_not_finite()
        if name is not None:
            raise InvalidInput(f"{self.path} holds NaN or infinite weights, in {name}: it detects nothing.")

    def first_not_finite(self) -> str | None:
        """The name of a tensor with NaN or infinity, where there is one."""
        tensors = ((name, value) for name, value in self.state_dict.items() if value.is_floating_point())
        return next((name for name, value in tensors if not value.isfinite().all()), None)

    def require(self, variant: VariantName | None, num_classes: int | None) -> None:
        """Raise `InvalidInput`, naming both, where the user asked for something else than the file holds."""
        if variant is not None and variant != self.variant:
            raise InvalidInput(f"{self.path} holds a {self.variant}, not the {variant} that was asked for.")
        if num_classes is not None and num_classes != self.num_classes:
            raise InvalidInput(
                f"{self.path} has {self.num_classes} classes, not the {num_classes} that were asked for."
            )


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read an official `.pth` (dict or bare), an mmdetection 2.x or an mmengine checkpoint, or a `.safetensors` file.

    Raises `InvalidInput` where the file is damaged, asks to run code, or is no YOLOX.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidInput(f"{path} does not exist." if not path.exists() else f"{path} is not a file.")
    in_safetensors = path.suffix.lower() == SUFFIX
    content = read_safetensors(path) if in_safetensors else safe_load(path)
    if not isinstance(content, Mapping):
        raise InvalidInput(f"{path} holds a {type(content).__name__}, not the weights of a YOLOX model.")
    state_dict, source, weights = _weights(content)
    state_dict = {
        key.removeprefix("module."): value
        for key, value in state_dict.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    for key, value in state_dict.items():  # with a stride of 0, a small file could ask for all memory
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise InvalidInput(f"{path} holds less of {key} than it says: refused.")
    if any(key.startswith("bbox_head.") for key in state_dict):
        state_dict = official_keys({key: value for key, value in state_dict.items() if not key.startswith("ema_")})
    elif not any(key.startswith("backbone.backbone.") for key in state_dict):
        raise InvalidInput(f"{path} holds no YOLOX weights in the official or mmdetection's layout.")
    variant, num_classes = recognise(state_dict, path)
    names, ids = _classes(content)
    if len(names) != num_classes:
        names = ()
    if len(ids) != len(names):
        ids = ()
    if in_safetensors:
        source, weights = "safetensors", "not said in the file"
    size = _input_size(content)
    return Checkpoint(path, sha256_file(path), source, weights, variant, num_classes, state_dict, names, ids, size)


def _weights(content: Mapping[str, Any]) -> tuple[Mapping[str, Any], str, str]:
    """The state dict in a checkpoint, its format, and which weights it holds.

    Both mmdetection 2.x and mmengine swap before they save: the plain entries are the averaged weights, and what is
    named `ema_*` or `ema_state_dict` holds the raw ones (mmcv EMAHook.after_train_epoch, mmengine
    EMAHook.before_save_checkpoint). mmdetection itself tests with the plain entries, and so do we.
    """
    if isinstance(content.get("model"), Mapping):
        return content["model"], "official", "EMA (the official trainer saves no others)"
    if isinstance(content.get("state_dict"), Mapping):
        state_dict = content["state_dict"]
        if "ema_state_dict" in content:
            return state_dict, "mmdetection 3.x (mmengine)", "EMA (the raw ones are in ema_state_dict)"
        if any(str(key).startswith("ema_") for key in state_dict):
            return state_dict, "mmdetection 2.x", "EMA (the raw ones are in ema_* buffers)"
        return state_dict, "mmdetection", "not said in the file"
    return content, "bare state dict", "not said in the file"


def _classes(content: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Class names and category ids, ours or mmdetection's; () where there are none."""
    meta = _mapping(content.get("meta"))
    dataset = _mapping(meta.get("dataset_meta"))
    names = content.get("class_names") or meta.get("CLASSES") or dataset.get("classes") or dataset.get("CLASSES")
    ids = content.get("category_ids") or meta.get("category_ids")
    if isinstance(names, str):  # mmdetection writes the name alone where there is one class
        names = (names,)
    return (
        tuple(names) if isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names) else (),
        tuple(ids) if isinstance(ids, (list, tuple)) and all(type(number) is int for number in ids) else (),
    )


def _input_size(content: Mapping[str, Any]) -> tuple[int, int] | None:
    """As our trainer notes it; None where there is none, or nonsense."""
    size = content.get("input_size")
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        return None
    sound = all(type(side) is int and side > 0 and side % 32 == 0 for side in size)
    return (size[0], size[1]) if sound else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def recognise(state_dict: Mapping[str, Tensor], path: str | Path = "the state dict") -> tuple[VariantName, int]:
    """Variant and class count of a state dict with official keys, by comparing every key and shape.

    Raises `InvalidInput` that names the nearest variant and what does not fit.
    """
    classes = state_dict.get("head.cls_preds.0.bias")
    num_classes = len(classes) if classes is not None and classes.ndim == 1 else 80
    found = {key: tuple(value.shape) for key, value in state_dict.items()}
    nearest, faults = "", list(found)
    for variant in VARIANTS:
        expected = shapes(variant, num_classes)
        wrong = [key for key in expected if found.get(key) != expected[key]] + [
            key for key in found if key not in expected
        ]
        if not wrong:
            return variant, num_classes
        if len(wrong) < len(faults):
            nearest, faults = variant, wrong
    if not nearest:
        raise InvalidInput(f"{path} holds no YOLOX weights that are known here.")
    raise InvalidInput(
        f"{path} is no YOLOX that is known here; nearest is {nearest},"
        f" but {len(faults)} tensors differ, such as {faults[0]}."
    )


def shapes(variant: VariantName, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Every key of a variant's state dict and its shape, without allocating the weights."""
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in YOLOX(variant, num_classes).state_dict().items()}


def save_checkpoint(checkpoint: Checkpoint, path: str | Path, layout: str) -> None:
    """Write the weights in the "official", the "mmdet" or the "safetensors" layout, complete or not at all."""
    names, ids = checkpoint.class_names, checkpoint.category_ids
    facts: dict[str, Any] = {"class_names": names, "category_ids": ids} if names else {}
    if checkpoint.input_size:
        facts["input_size"] = checkpoint.input_size
    if layout == "safetensors":
        with replacing(Path(path)) as part:
            write_safetensors(checkpoint.state_dict, facts, part)
        return
    content: dict[str, Any]
    if layout == "mmdet":
        # "CLASSES" is what mmdetection 2 reads, "dataset_meta" what 3 does, the ids are ours.
        meta = {"CLASSES": names, "dataset_meta": {"classes": names}, "category_ids": ids} if names else {}
        content = {"meta": meta, "state_dict": mmdet_keys(checkpoint.state_dict)}
        if checkpoint.input_size:
            content["input_size"] = checkpoint.input_size  # ours too
    else:
        content = {"model": checkpoint.state_dict, "start_epoch": 0, "optimizer": None, **facts}
    safe_save(content, Path(path))

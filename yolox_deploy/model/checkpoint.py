"""Checkpoints: the official format and others, read without running code from the file, and converted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from runtimes.coco import category_ids
from runtimes.errors import InvalidInput
from runtimes.foreign import Preprocessing
from runtimes.proof import sha256_file
from runtimes.spec import Activation, is_eps
from yolox_deploy.files import replacing

from .containers import Weights, describe_weights, find_ids, find_input_size, find_names, find_weights, shown_keys
from .mmdet_keys import StateDict, mmdet_keys, official_keys
from .safe_load import safe_load
from .safe_save import safe_save
from .safetensors_file import SUFFIX, read_safetensors, write_safetensors
from .trained_with import BATCH_NORM_EPS, TrainedWith
from .variants import VARIANTS, VariantName
from .yolox import YOLOX


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    state_dict: with the official keys, whatever the file's own are. source: the format in words. weights: which of the
    two sets of weights of a training these are, in words. class_names and category_ids: () where the file has none.
    input_size: (height, width) that it was trained at, where the file says so. trained_with: what the file, or the user
    (see `with_options`), says of the network and its input. notes: sentences on what was found and not used.
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
    trained_with: TrainedWith = field(default_factory=TrainedWith)
    notes: tuple[str, ...] = ()

    def with_options(self, options: TrainedWith) -> Checkpoint:
        """The same with what the user says. Raises `InvalidInput`, naming both, where that contradicts the file."""
        return replace(self, trained_with=self.trained_with.joined(options, self.path))

    @property
    def full(self) -> TrainedWith:
        """What the weights were trained with, as far as is known, and as the official weights were in the rest."""
        return self.trained_with.filled(VARIANTS[self.variant].activation)

    @property
    def assumed(self) -> str:
        """What of that is only assumed, in words; "" where the file, or the user, says it all."""
        return self.trained_with.assumed(VARIANTS[self.variant].activation)

    def build(self) -> YOLOX:
        """The model with these weights, in eval mode. Raises `InvalidInput` where some are not finite."""
        self.require_finite()
        full = self.full
        model = YOLOX(self.variant, self.num_classes, full.activation, full.batch_norm_eps or BATCH_NORM_EPS)
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
    """Read a checkpoint: the official `.pth`, mmdetection's, any other that holds a YOLOX (see `containers`), or a
    `.safetensors` file. Weights in half precision become float32.

    Raises `InvalidInput` where the file is damaged, asks to run code, is something else, or holds no YOLOX.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidInput(f"{path} does not exist." if not path.exists() else f"{path} is not a file.")
    in_safetensors = path.suffix.lower() == SUFFIX
    content = read_safetensors(path) if in_safetensors else safe_load(path)
    if not isinstance(content, Mapping):
        raise InvalidInput(f"{path} holds a {type(content).__name__}, not the weights of a YOLOX model.")
    found = find_weights(content)
    if not found:
        inside = next((value for value in content.values() if isinstance(value, Mapping) and value), {})
        within = f" (in the first of its dicts: {shown_keys(inside)})" if inside else ""
        raise InvalidInput(
            f"{path} holds no YOLOX weights in the official or mmdetection's layout: its keys are"
            f" {shown_keys(content)}{within}."
        )
    source, weights = describe_weights(content, found)
    if in_safetensors:
        source, weights = "safetensors", "not said in the file"
    state_dict = _in_float32(found[0], path)
    variant, num_classes = recognise(state_dict, path)
    names, ids, notes = _classes(content, num_classes, path)
    return Checkpoint(
        path=path,
        sha256=sha256_file(path),
        source=source,
        weights=weights,
        variant=variant,
        num_classes=num_classes,
        state_dict=state_dict,
        class_names=names,
        category_ids=ids,
        input_size=find_input_size(content),
        trained_with=_trained_with(content),
        notes=(*notes, *_libreyolo(content)),
    )


def _in_float32(weights: Weights, path: Path) -> StateDict:
    """The tensors with the official keys. Raises `InvalidInput` for one that its file does not hold in full."""
    for key, value in weights.tensors.items():  # with a stride of 0, a small file could ask for all memory
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise InvalidInput(f"{path} holds less of {key} than it says: refused.")
    tensors = {key: value.float() if value.is_floating_point() else value for key, value in weights.tensors.items()}
    if weights.in_mmdetection:
        return official_keys({key: value for key, value in tensors.items() if not key.startswith("ema_")})
    return tensors


def _classes(
    content: Mapping[str, Any], num_classes: int, path: Path
) -> tuple[tuple[str, ...], tuple[int, ...], tuple[str, ...]]:
    """Class names, category ids and what the user should know of them. COCO's names bring COCO's ids."""
    try:
        names = find_names(content)
    except InvalidInput as error:
        return (), (), (f"{path} names classes that are not used: {error}.",)
    if names and len(names) != num_classes:
        note = f"{path} names {len(names)} classes, but its weights have {num_classes}: the names are not used."
        return (), (), (note,)
    ids = find_ids(content)
    if names and len(ids) != len(names):
        ids = category_ids(names)
    return names, ids if names else (), ()


def _trained_with(content: Mapping[str, Any]) -> TrainedWith:
    """What our own files say of the network and its input; what is no sound value is as good as absent."""
    activation, eps, preprocessing = (content.get(name) for name in ("activation", "batch_norm_eps", "preprocessing"))
    return TrainedWith(
        activation=activation if activation in get_args(Activation) else None,
        batch_norm_eps=float(eps) if eps is not None and is_eps(eps) else None,
        preprocessing=preprocessing if preprocessing in get_args(Preprocessing) else None,
    )


def _libreyolo(content: Mapping[str, Any]) -> tuple[str, ...]:
    """LibreYOLO before 1.5 fine-tuned with PyTorch's own eps, and weights that it only converted have the official."""
    version = re.match(r"(\d+)\.(\d+)", str(content.get("libreyolo_version", "")))
    if version is None or (int(version[1]), int(version[2])) >= (1, 5):
        return ()
    return (
        f"LibreYOLO {version[0]} fine-tuned with batch-norm eps 1e-5: if these weights were, --batch-norm-eps 1e-5.",
    )


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
    """Write the weights in the "official", the "mmdet" or the "safetensors" layout, complete or not at all.

    Activation, batch-norm eps and preprocessing are noted as far as they are known, and never assumed.
    """
    names, ids = checkpoint.class_names, checkpoint.category_ids
    facts = {name: value for name, value in asdict(checkpoint.trained_with).items() if value is not None}
    if checkpoint.input_size:
        facts["input_size"] = checkpoint.input_size
    classes: dict[str, Any] = {"class_names": names, "category_ids": ids} if names else {}
    if layout == "safetensors":
        with replacing(Path(path)) as part:
            write_safetensors(checkpoint.state_dict, {**classes, **facts}, part)
        return
    content: dict[str, Any]
    if layout == "mmdet":
        # "CLASSES" is what mmdetection 2 reads, "dataset_meta" what 3 does; the ids and the facts are ours.
        meta = {"CLASSES": names, "dataset_meta": {"classes": names}, "category_ids": ids} if names else {}
        content = {"meta": meta, "state_dict": mmdet_keys(checkpoint.state_dict), **facts}
    else:
        content = {"model": checkpoint.state_dict, "start_epoch": 0, "optimizer": None, **classes, **facts}
    safe_save(content, Path(path))

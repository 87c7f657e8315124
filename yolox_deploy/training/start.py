"""The model that a training starts from: fresh, or with the weights of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from runtimes.coco import COCO_CLASS_NAMES
from runtimes.errors import InvalidInput
from yolox_deploy.model.checkpoint import Checkpoint, read_checkpoint
from yolox_deploy.model.download import official_weights
from yolox_deploy.model.variants import VariantName
from yolox_deploy.model.yolox import YOLOX
from yolox_deploy.options import default_class_names

CLASS_PREDICTIONS = "head.cls_preds."


def open_weights(
    weights: Path | None,
    pretrained: bool,
    model: VariantName,
    class_names: Sequence[str],
    new_classes: bool,
    dry_run: bool = False,
) -> Checkpoint | None:
    """The checkpoint to start from, or None. Raises `InvalidInput` where it does not fit the model or the classes; a
    dry run downloads nothing (see `official_weights`)."""
    path = official_weights(model, dry_run) if pretrained else weights
    if path is None:
        if new_classes:
            raise InvalidInput("--new-classes is for --weights and --pretrained.")
        return None
    checkpoint = read_checkpoint(path)
    checkpoint.require(model, None)
    checkpoint.require_finite()
    if not checkpoint.class_names and checkpoint.num_classes == len(class_names) and not new_classes:
        coco = default_class_names(checkpoint.num_classes)[0]
        if tuple(coco) == tuple(class_names) or len(class_names) != len(COCO_CLASS_NAMES):
            print(f"{path} names no classes: taken to be those of the data, in the same order.", flush=True)
            return checkpoint
    known = checkpoint.class_names or default_class_names(checkpoint.num_classes)[0]
    if tuple(known) != tuple(class_names) and not new_classes:
        raise InvalidInput(
            f"{path} knows {len(known)} classes ({_few(known)}), the data {len(class_names)} ({_few(class_names)}):"
            " --new-classes starts the class predictions anew."
        )
    return checkpoint


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def build_model(
    variant: VariantName, num_classes: int, checkpoint: Checkpoint | None, new_classes: bool, seed: int
) -> tuple[YOLOX, list[str]]:
    """The model, and the names of the tensors that start anew although there is a checkpoint."""
    torch.manual_seed(seed)
    model = YOLOX(variant, num_classes)
    if checkpoint is None:
        return model, []
    taken = {
        name: value
        for name, value in checkpoint.state_dict.items()
        if not (new_classes and name.startswith(CLASS_PREDICTIONS))
    }
    missing = model.load_state_dict(taken, strict=False).missing_keys
    return model, list(missing)

"""The model that a training starts from: fresh, or with the weights of a checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import torch

from runtimes.class_names import same_name
from runtimes.coco import COCO_CLASS_NAMES
from runtimes.errors import InvalidInput
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.model.checkpoint import Checkpoint, read_checkpoint
from yolox_deploy.model.download import official_weights
from yolox_deploy.model.open import describe
from yolox_deploy.model.trained_with import BATCH_NORM_EPS, PREPROCESSING_WORDS, NetworkOptions
from yolox_deploy.model.variants import VariantName
from yolox_deploy.model.yolox import YOLOX
from yolox_deploy.options import check_same_names, few, read_class_names

CLASS_PREDICTIONS = "head.cls_preds."


def open_weights(
    weights: Path | None,
    pretrained: bool,
    model: VariantName,
    class_names: Sequence[str],
    new_classes: bool,
    dry_run: bool = False,
    *,
    named: str | None = None,
    network: NetworkOptions | None = None,
) -> Checkpoint | None:
    """The checkpoint to start from, or None.

    class_names: those of the data. named: what `--class-names` says of a checkpoint that names none; network: what else
    the user says of it. Raises `InvalidInput` where the checkpoint does not fit the model or the classes, where it is
    not known which classes it has, or where it contradicts the options. A dry run downloads nothing (see
    `official_weights`).
    """
    path = official_weights(model, dry_run) if pretrained else weights
    if path is None:
        if new_classes or named is not None:
            option = "--new-classes" if new_classes else "--class-names"
            raise InvalidInput(f"{option} is for --weights and --pretrained.")
        return None
    checkpoint = read_checkpoint(path)
    checkpoint.require(model, None)
    checkpoint.require_finite()
    checkpoint = checkpoint.with_options((network or NetworkOptions()).with_input(None))
    if checkpoint.full.preprocessing != "official":
        raise InvalidInput(
            f"{path} was trained on {PREPROCESSING_WORDS['legacy']}, and training here takes"
            f" {PREPROCESSING_WORDS['official']}: it can be evaluated and exported, and not be trained on."
        )
    known = known_classes(checkpoint, named)
    if new_classes:
        return checkpoint
    if not known and checkpoint.num_classes == len(class_names) == 1:
        print(f"{path} does not name its class: taken to be {class_names[0]!r}, that of the data.", flush=True)
    elif not known:
        raise InvalidInput(
            f"{path} does not say which its {checkpoint.num_classes} classes are: --class-names FILE names them, in the"
            " order of its training, and --new-classes starts the class predictions anew."
        )
    elif len(known) != len(class_names) or not all(map(same_name, known, class_names)):
        raise InvalidInput(
            f"{path} knows {len(known)} classes ({few(known)}), the data {len(class_names)} ({few(class_names)}):"
            " --new-classes starts the class predictions anew."
        )
    return checkpoint


def known_classes(checkpoint: Checkpoint, named: str | None) -> tuple[str, ...]:
    """The classes of a checkpoint: as it says, or the user, or COCO's where there are 80; () where that is not known.

    Raises `InvalidInput` where the user contradicts the checkpoint, or names another number of classes.
    """
    if named is None:
        is_coco = checkpoint.num_classes == len(COCO_CLASS_NAMES)
        return checkpoint.class_names or (COCO_CLASS_NAMES if is_coco else ())
    names, _ = read_class_names(named)
    if checkpoint.class_names:
        check_same_names(names, checkpoint.class_names, checkpoint.path)
    if len(names) != checkpoint.num_classes:
        raise InvalidInput(
            f"{checkpoint.path} has {checkpoint.num_classes} classes, and --class-names names {len(names)}."
        )
    return names


def check_start(checkpoint: Checkpoint, training: Dataset) -> None:
    """Say on standard error what is assumed of the weights, and whether their batch norms fit the training images."""
    trained = describe(checkpoint.build(), checkpoint)
    with contextlib.suppress(InvalidInput):  # of an image that cannot be read, which the training reports
        trained = trained.checked(training.read_images())
    trained.say()


def build_model(
    variant: VariantName,
    num_classes: int,
    checkpoint: Checkpoint | None,
    new_classes: bool,
    seed: int,
    network: NetworkOptions | None = None,
) -> tuple[YOLOX, list[str]]:
    """The model, and the names of the tensors that start anew although there is a checkpoint.

    network: activation and eps where there is no checkpoint, which has its own.
    """
    torch.manual_seed(seed)
    wanted = checkpoint.full if checkpoint is not None else network or NetworkOptions()
    model = YOLOX(variant, num_classes, wanted.activation, wanted.batch_norm_eps or BATCH_NORM_EPS)
    if checkpoint is None:
        return model, []
    taken = {
        name: value
        for name, value in checkpoint.state_dict.items()
        if not (new_classes and name.startswith(CLASS_PREDICTIONS))
    }
    missing = model.load_state_dict(taken, strict=False).missing_keys
    return model, list(missing)

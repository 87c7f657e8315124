"""From a checkpoint file, and what the user says about it, to a model with its spec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from exporters.torch_runtime import TorchRuntime
from runtimes.errors import InvalidInput
from runtimes.foreign import PREPROCESSING, Preprocessing
from runtimes.spec import ModelSpec
from yolox_deploy.options import ForeignOptions, default_class_names, read_class_names

from .checkpoint import Checkpoint, read_checkpoint
from .variants import STRIDES, VARIANTS
from .yolox import YOLOX


@dataclass(frozen=True)
class TrainedModel:
    """A model in eval mode, and the spec of the reference: any batch, boxes not decoded."""

    model: YOLOX
    spec: ModelSpec


def describe(
    model: YOLOX,
    checkpoint: Checkpoint | None = None,
    name: str | None = None,
    input_size: tuple[int, int] | None = None,
    class_names: str | None = None,
    preprocessing: Preprocessing = "official",
) -> TrainedModel:
    """Join a model with what its checkpoint and the user say about it.

    name: defaults to the variant's, input_size (height, width) to that of the checkpoint's training, else of the
    variant's official test. class_names: "coco" or a file, before what the checkpoint names. Raises `InvalidInput`
    where they do not fit.
    """
    if class_names is not None:
        names, ids = read_class_names(class_names)
    elif checkpoint is not None and checkpoint.class_names:
        names, ids = checkpoint.class_names, checkpoint.category_ids
    else:
        names, ids = default_class_names(model.num_classes)
    if len(names) != model.num_classes:
        raise InvalidInput(f"the model has {model.num_classes} classes, but {len(names)} class names were given.")
    side = VARIANTS[model.variant].input_size
    trained_at = checkpoint.input_size if checkpoint else None
    spec = ModelSpec(
        name=name or model.variant,
        input_size=input_size or trained_at or (side, side),
        class_names=names,
        category_ids=ids,
        strides=STRIDES,
        batch=None,
        decoded=False,
        source_sha256=checkpoint.sha256 if checkpoint else "",
        **PREPROCESSING[preprocessing],
    )
    return TrainedModel(model, spec)


def open_checkpoint(
    path: Path, options: ForeignOptions, input_size: Sequence[int] | None, device: str, threads: int | None
) -> TorchRuntime:
    """The reference runtime for a checkpoint. Raises `InvalidInput` for a device that is not there."""
    if options.spec is not None:
        raise InvalidInput("--spec is for ONNX files; of a checkpoint, say --class-names and --preprocessing.")
    try:
        torch.zeros(1, device=device).item()  # "meta" computes nothing
    except (RuntimeError, AssertionError, NotImplementedError):
        raise InvalidInput(f"PyTorch has no device {device!r} here.") from None
    if threads is not None:
        torch.set_num_threads(threads)
    checkpoint = read_checkpoint(path)
    trained = describe(
        checkpoint.build(),
        checkpoint,
        name=path.stem,
        input_size=(input_size[0], input_size[1]) if input_size else None,
        class_names=options.class_names,
        preprocessing=options.preprocessing or "official",
    )
    return TorchRuntime(trained.model, trained.spec, device)

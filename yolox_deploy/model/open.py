"""From a checkpoint file, and what the user says about it, to a model with its spec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from exporters.torch_runtime import TorchRuntime
from runtimes.errors import InvalidInput
from runtimes.foreign import PREPROCESSING, Preprocessing
from runtimes.preprocess import Image
from runtimes.spec import ModelSpec
from yolox_deploy.console import say_once, warn
from yolox_deploy.options import ModelOptions, check_same_names, default_class_names, few, read_class_names

from .checkpoint import Checkpoint, read_checkpoint
from .norm_check import check_norms
from .trained_with import TrainedWith
from .variants import STRIDES, VARIANTS
from .yolox import YOLOX


@dataclass(frozen=True)
class TrainedModel:
    """A model in eval mode, and the spec of the reference: any batch, boxes not decoded.

    source: its file, or its name. notes: what the user should know of it, in sentences. assumed: what was, since the
    file does not say it, in words.
    """

    model: YOLOX
    spec: ModelSpec
    source: str = ""
    notes: tuple[str, ...] = ()
    assumed: str = ""

    def checked(self, images: Sequence[Image]) -> TrainedModel:
        """The same, with a note where the batch norms do not fit what comes in (see `check_norms`)."""
        check = check_norms(self.model, self.spec, images) if len(images) else True
        return self if check else replace(self, notes=(*self.notes, f"{self.source}: {check}."))

    def say(self) -> None:
        """Print to standard error what was assumed, and warn of the notes; in one command, each line once."""
        if self.assumed:
            say_once(f"assumed, since {self.source} does not say: {self.assumed}")
        for note in self.notes:
            warn(note)


def describe(
    model: YOLOX,
    checkpoint: Checkpoint | None = None,
    name: str | None = None,
    input_size: tuple[int, int] | None = None,
    class_names: str | None = None,
    preprocessing: Preprocessing | None = None,
) -> TrainedModel:
    """Join a model with what its checkpoint and the user say about it.

    name: defaults to the variant's, input_size (height, width) to that of the checkpoint's training, else of the
    variant's official test. class_names: "coco" or a file, where the checkpoint names none. preprocessing: unset, what
    the checkpoint says, else official. Raises `InvalidInput` where they do not fit, or contradict the checkpoint.
    """
    if checkpoint is not None and preprocessing is not None:
        checkpoint = checkpoint.with_options(TrainedWith(preprocessing=preprocessing))
    names, ids = named(model.num_classes, checkpoint, class_names)
    side = VARIANTS[model.variant].input_size
    trained_at = checkpoint.input_size if checkpoint else None
    known = checkpoint.full.preprocessing if checkpoint else preprocessing
    spec = ModelSpec(
        name=name or model.variant,
        input_size=input_size or trained_at or (side, side),
        class_names=names,
        category_ids=ids,
        strides=STRIDES,
        batch=None,
        decoded=False,
        source_sha256=checkpoint.sha256 if checkpoint else "",
        activation=model.activation,
        batch_norm_eps=model.batch_norm_eps,
        **PREPROCESSING[known or "official"],
    )
    notes, assumed = (checkpoint.notes, checkpoint.assumed) if checkpoint else ((), "")
    source = str(checkpoint.path) if checkpoint else spec.name
    return TrainedModel(model, spec, source, notes, assumed)


def named(
    num_classes: int, checkpoint: Checkpoint | None, class_names: str | None
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and category ids of a model's classes: the checkpoint's, else what `--class-names` gives, else defaults.

    Raises `InvalidInput` where the option contradicts the checkpoint, or names another number of classes.
    """
    own = checkpoint.class_names if checkpoint is not None else ()
    if class_names is None:
        return (own, checkpoint.category_ids) if checkpoint is not None and own else default_class_names(num_classes)
    names, ids = read_class_names(class_names)
    if checkpoint is not None and own:
        check_same_names(names, own, checkpoint.path)
        ids = checkpoint.category_ids or ids
    if len(names) != num_classes:
        which = "the model" if checkpoint is None else checkpoint.path
        raise InvalidInput(f"{which} has {num_classes} classes, and --class-names gives {len(names)} ({few(names)}).")
    return names, ids


def open_trained(
    path: Path,
    trained_with: TrainedWith,
    name: str | None = None,
    input_size: tuple[int, int] | None = None,
    class_names: str | None = None,
) -> TrainedModel:
    """The model of a checkpoint file, with what the user says about it; see `describe`."""
    checkpoint = read_checkpoint(path).with_options(trained_with)
    return describe(checkpoint.build(), checkpoint, name, input_size, class_names)


def open_checkpoint(
    path: Path,
    options: ModelOptions,
    input_size: Sequence[int] | None,
    device: str,
    threads: int | None,
    images: Sequence[Image] = (),
) -> TorchRuntime:
    """The reference runtime for a checkpoint. What was assumed, and what does not fit, goes to standard error.

    images: some that the model is made for, on which its batch norms are checked (see `check_norms`). Raises
    `InvalidInput` for a device that is not there.
    """
    if options.spec is not None:
        raise InvalidInput("--spec is for ONNX files; of a checkpoint, say --class-names and --preprocessing.")
    if options.sigmoid:
        raise InvalidInput(f"--sigmoid is for third-party files, and {path} is a checkpoint: leave it out.")
    try:
        torch.zeros(1, device=device).item()  # "meta" computes nothing
    except (RuntimeError, AssertionError, NotImplementedError):
        raise InvalidInput(f"PyTorch has no device {device!r} here.") from None
    if threads is not None:
        torch.set_num_threads(threads)
    size = (input_size[0], input_size[1]) if input_size else None
    trained = open_trained(path, options.trained_with, path.stem, size, options.class_names)
    trained = trained.checked(images)
    trained.say()
    return TorchRuntime(trained.model, trained.spec, device, trained.notes)

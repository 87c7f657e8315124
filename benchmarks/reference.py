"""What others are compared with: a checkpoint, or an artifact that gives the output of every anchor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtimes.errors import InvalidInput
from runtimes.load import RUNTIMES
from runtimes.preprocess import Image
from runtimes.runtime import Runtime
from yolox_deploy.console import require
from yolox_deploy.evaluate import CHECKPOINT_SUFFIXES
from yolox_deploy.model.variants import VARIANTS
from yolox_deploy.options import ModelOptions, open_artifact


def find_weights(model: str, dry_run: bool = False) -> Path:
    """The checkpoint that an argument names: a file, or a variant, whose official weights are downloaded once.

    Raises `InvalidInput` for anything else; a dry run downloads nothing (see `official_weights`).
    """
    if model in VARIANTS:
        from yolox_deploy.model.download import official_weights

        return official_weights(model, dry_run)
    path = Path(model)
    if (path / "spec.json").exists() or path.suffix in RUNTIMES:
        raise InvalidInput(f"{model} is an artifact: name the checkpoint that it was made from.")
    if path.suffix not in CHECKPOINT_SUFFIXES:
        raise InvalidInput(f"{model} is neither a checkpoint nor one of {', '.join(VARIANTS)}.")
    if not path.is_file():
        raise InvalidInput(f"{path} does not exist.")
    return path


def open_reference(
    path: Path, foreign: ModelOptions, input_size: tuple[int, int] | None = None, images: Sequence[Image] = ()
) -> Runtime:
    """A runtime of any batch for a checkpoint or an artifact.

    foreign: what the file itself does not say. input_size: (height, width), of checkpoints only. images: on which the
    batch norms of a checkpoint are checked. Raises `InvalidInput` for an artifact with NMS or TopK in the graph, which
    hides the anchors that it drops.
    """
    if path.suffix in CHECKPOINT_SUFFIXES:
        require("torch")
        from yolox_deploy.model.open import open_checkpoint

        return open_checkpoint(path, foreign, input_size, "cpu", None, images)
    if input_size is not None:
        raise InvalidInput("--input-size is for checkpoints; an artifact has its own.")
    foreign.network.refuse_for(path)
    runtime = open_artifact(path, foreign, 1.0, None, None).runtime
    if runtime.spec.nms or runtime.spec.topk:
        runtime.close()
        raise InvalidInput(
            f"{path} drops anchors in its graph (NMS or TopK): name the checkpoint, or an artifact without them."
        )
    return AnyBatch(runtime)


class AnyBatch:
    """A runtime of a fixed batch as one of any batch: it runs in pieces."""

    def __init__(self, runtime: Runtime) -> None:
        self.spec = replace(runtime.spec, batch=None)
        self._runtime = runtime

    def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See `Runtime.infer`."""
        size = self._runtime.spec.batch or len(images)
        return np.concatenate(
            [self._piece(images[start : start + size], size) for start in range(0, len(images), size)]
        )

    def _piece(self, images: npt.NDArray[Any], size: int) -> npt.NDArray[np.float32]:
        """At most one batch, filled up with copies of the last image."""
        copies = np.repeat(images[-1:], size - len(images), axis=0)
        return self._runtime.infer(np.concatenate([images, copies]))[: len(images)]

    def close(self) -> None:
        self._runtime.close()

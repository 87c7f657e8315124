"""What others are compared with: a checkpoint, or an artifact that gives the output of every anchor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtimes.errors import InvalidInput, UserError
from runtimes.load import is_checkpoint, load
from runtimes.preprocess import Image
from runtimes.runtime import Runtime
from yolox_deploy.console import require
from yolox_deploy.options import ForeignOptions, ModelOptions, open_artifact, third_party_options


def check_wanted(foreign: ForeignOptions, models: Sequence[Path]) -> None:
    """Raise `InvalidInput` where options are given for files without a spec, and all models carry one of their own."""
    given = foreign.given or foreign.input_size is not None
    if given and not any(map(is_checkpoint, models)) and all(map(carries_spec, models)):
        raise InvalidInput(
            "--preprocessing, --class-names, --input-size and --spec are for files without a spec, and all of these"
            " carry one: leave them out."
        )


def carries_spec(path: Path) -> bool:
    """Whether an artifact can be loaded without options that say what it is."""
    try:
        load(path).close()
    except (UserError, OSError):  # which is said where this model has its turn
        return False
    return True


def open_reference(path: Path, foreign: ModelOptions, images: Sequence[Image] = ()) -> Runtime:
    """A runtime of any batch for a checkpoint or an artifact.

    foreign: what the file itself does not say. images: on which the batch norms of a checkpoint are checked. Raises
    `InvalidInput` for an artifact with NMS or TopK in the graph, which hides the anchors that it drops.
    """
    if is_checkpoint(path):
        require("torch")
        from yolox_deploy.model.open import open_checkpoint

        return open_checkpoint(path, foreign, foreign.input_size, "cpu", None, images)
    foreign.network.refuse_for(path)
    given = foreign if third_party_options(path, foreign) else ForeignOptions()
    runtime = open_artifact(path, given, 1.0, None, None).runtime
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

"""The reference behind the Runtime protocol: the model as it was trained, in PyTorch, without any rewrite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from runtimes.errors import InvalidInput
from runtimes.runtime import check_input
from runtimes.spec import ModelSpec


class TorchRuntime:
    """Runs any module that maps (N, 3, H, W) float32 to raw predictions (N, A, 5 + C), logits for the scores.

    Its spec is the given one with what only concerns a written file undone: any batch, float input, boxes not decoded.
    notes: what the user should know of the model, in sentences.
    """

    def __init__(self, model: nn.Module, spec: ModelSpec, device: str = "cpu", notes: Sequence[str] = ()) -> None:
        self.notes = tuple(notes)
        self.spec = replace(spec, batch=None, decoded=False, nms=None, topk=None, uint8_input=False, precision="fp32")
        self.device = torch.device(device)
        self._model: nn.Module | None = model.eval().to(self.device)

    def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See `Runtime.infer`."""
        if self._model is None:
            raise InvalidInput(f"{self.spec.name} is closed.")
        check_input(images, self.spec)
        with torch.inference_mode():
            raw = self._model(torch.from_numpy(images).to(self.device))
            output = torch.cat([raw[..., :4], raw[..., 4:].sigmoid()], dim=-1)
        result: npt.NDArray[np.float32] = output.float().cpu().numpy()
        return result

    def close(self) -> None:
        self._model = None

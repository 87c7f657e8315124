"""The paper's protocol: PyTorch in fp16, eager, the forward pass alone, as the official evaluation times it.

That is `tools/eval.py -b 1 -d 1 --conf 0.001 --fp16 --fuse`: batch norms folded into convolutions and nothing else
rewritten, contiguous memory, cuDNN's own search for kernels on. Its forward pass ends in sigmoids and decoded boxes,
whose grid it builds anew each time. It is timed by the clock until the GPU is done, without preprocessing, the copy to
the GPU, and NMS. The official figure is the mean of such times; ours is the median, with the mean beside it in JSON.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from runtimes.detector import Detector
from runtimes.errors import MissingBackend, first_line
from runtimes.preprocess import Image, preprocess
from runtimes.spec import ModelSpec
from yolox_deploy.accuracy import SCORE_THRESHOLD
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.evaluate import evaluate
from yolox_deploy.model.blocks import BaseConv
from yolox_deploy.model.flops import count_gflops, count_parameters
from yolox_deploy.model.open import TrainedModel
from yolox_deploy.model.variants import STRIDES, VariantName
from yolox_deploy.model.yolox import YOLOX

from ..latency import Latency, clocked, fps, repeat
from .gpu import V100_PINS, Card


@dataclass(frozen=True)
class PaperRow:
    """A row of the paper's table: AP on val2017 (a fraction), millions of parameters, GFLOPs, and a V100's speed."""

    AP: float
    parameters: float
    gflops: float
    milliseconds: float
    fps: float


# 640x640, fp16, batch 1. AP as in the official README; the paper's own is of test-dev.
PAPER: dict[VariantName, PaperRow] = {
    "yolox-s": PaperRow(0.405, 9.0, 26.8, 9.8, 102.0),
    "yolox-m": PaperRow(0.469, 25.3, 73.8, 12.3, 81.3),
    "yolox-l": PaperRow(0.497, 54.2, 155.6, 14.5, 69.0),
    "yolox-x": PaperRow(0.511, 99.1, 281.9, 17.3, 57.8),
    "yolox-darknet53": PaperRow(0.477, 63.7, 185.3, 11.1, 90.1),
}


class OfficialForward(nn.Module):
    """The forward pass of the official evaluation with `--fuse`. Give it to `half()` for `--fp16`."""

    def __init__(self, model: YOLOX) -> None:
        super().__init__()
        self.model = fuse_norms(model)
        head: Any = self.model.head
        for predictions in (head.obj_preds, head.cls_preds):  # a sigmoid at each level, before the levels are joined
            for level, prediction in enumerate(predictions):
                predictions[level] = nn.Sequential(prediction, nn.Sigmoid())

    def forward(self, images: Tensor) -> Tensor:
        """images (N, 3, H, W), BGR 0..255, to (N, A, 5 + C): boxes as (cx, cy, w, h) in input pixels, scores."""
        outputs: Tensor = self.model(images)
        cells, strides = (part.to(outputs) for part in _grid(*images.shape[2:]))
        centres = (outputs[..., :2] + cells) * strides
        sizes = outputs[..., 2:4].exp() * strides
        return torch.cat([centres, sizes, outputs[..., 4:]], dim=-1)


def fuse_norms(model: YOLOX) -> YOLOX:
    """A copy with every batch norm folded into its convolution. The Focus stem and the pools stay as they are."""
    model = copy.deepcopy(model).eval()
    for module in [*model.modules()]:
        for name, child in [*module.named_children()]:
            if isinstance(child, BaseConv):
                setattr(module, name, child.inference_form())
    return model


def _grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Cell (x, y) and stride of every anchor, (1, A, 2) and (1, A, 1): built on the processor, as the official is."""
    cells, strides = [], []
    for stride in STRIDES:
        rows, columns = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        cells.append(torch.stack([columns, rows], dim=2).view(1, -1, 2))
        strides.append(torch.full((1, cells[-1].shape[1], 1), stride))
    return torch.cat(cells, dim=1), torch.cat(strides, dim=1)


class ForwardRuntime:
    """That forward pass in fp16 behind the `Runtime` protocol, to measure the AP of exactly what is timed."""

    def __init__(self, model: YOLOX, spec: ModelSpec, device: str) -> None:
        self.spec = replace(spec, batch=None, decoded=True, precision="fp16")
        self.device = device
        self.forward = OfficialForward(model).to(device).half()

    def load(self, images: npt.NDArray[Any]) -> Tensor:
        """Images as `preprocess` gives them, (N, 3, H, W) float32, in fp16 on the device."""
        return torch.from_numpy(images).to(self.device).half()

    def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See `Runtime.infer`."""
        with torch.no_grad():
            result: npt.NDArray[np.float32] = self.forward(self.load(images)).float().cpu().numpy()
        return result

    def close(self) -> None:
        del self.forward


def time_forward(runtime: ForwardRuntime, inputs: Sequence[Tensor], runs: int) -> Latency:
    """Time the forward pass alone, on each input in turn. inputs: what `load` gives for batches of one."""

    def step(run: int) -> None:
        runtime.forward(inputs[run % len(inputs)])
        if runtime.device == "cuda":
            torch.cuda.synchronize()

    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, benchmark=True):
        return Latency(tuple(repeat(clocked(step), runs)))


@dataclass(frozen=True)
class Row:
    """One model by the paper's protocol. AP: a fraction, None where it was not measured."""

    model: VariantName
    AP: float | None
    parameters: int
    gflops: float
    latency: Latency

    @property
    def ratio(self) -> float:
        """Our milliseconds over the paper's: below 1 is faster."""
        return self.latency.median / PAPER[self.model].milliseconds

    def to_dict(self, everything: bool = False) -> dict[str, Any]:
        """For JSON; with `everything`, with the time of each run."""
        return {
            "model": self.model,
            "AP": self.AP,
            "parameters": self.parameters,
            "gflops": round(self.gflops, 1),
            "milliseconds": self.latency.to_dict(everything),
            "fps": round(fps(self.latency.median), 1),
            "ratio": round(self.ratio, 3),
            "paper": asdict(PAPER[self.model]),
        }


HEADER = (
    "| model | on | AP | parameters, M | GFLOPs | ms | p90 | p99 | FPS | ms / paper's |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def table(rows: Sequence[Row], card: Card) -> str:
    """The paper's row and ours below it, for each model."""
    lines = [HEADER]
    for row in rows:
        paper, ours = PAPER[row.model], row.latency
        lines.append(
            f"| {row.model} | paper's V100 | {100 * paper.AP:.1f} | {paper.parameters} | {paper.gflops} |"
            f" {paper.milliseconds} | | | {paper.fps} | |"
        )
        lines.append(
            f"| | {card.label} | {'' if row.AP is None else f'{100 * row.AP:.1f}'} | {row.parameters / 1e6:.1f} |"
            f" {row.gflops:.1f} | {ours.median:.2f} | {ours.p90:.2f} | {ours.p99:.2f} | {fps(ours.median):.1f} |"
            f" {row.ratio:.2f} |"
        )
    if card.label != "V100":
        lines.append(f"\nThe {card.label} is not the paper's V100: the last column compares GPUs, not implementations.")
    return "\n".join(lines)


def find_card() -> Card:
    """The GPU that PyTorch uses. Raises `MissingBackend`, with what a V100 needs, where it has none or cannot run."""
    title = f"PyTorch {torch.__version__}"
    if not torch.cuda.is_available():
        reason = "is built without CUDA" if torch.version.cuda is None else "finds none here"
        raise MissingBackend(f"--protocol paper needs a CUDA GPU, and {title} {reason}; {V100_PINS}.")
    properties = torch.cuda.get_device_properties(0)
    try:  # newer builds have no kernels for older GPUs
        nn.Conv2d(3, 8, 3).cuda().half()(torch.ones(1, 3, 8, 8, device="cuda").half()).sum().item()
    except RuntimeError as error:
        reason = first_line(error).rstrip(".")
        raise MissingBackend(f"{title} cannot use {properties.name}: {reason}; {V100_PINS}.") from None
    uuid = getattr(properties, "uuid", None)
    versions = {
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
    }
    capability = f"{properties.major}.{properties.minor}"
    return Card(properties.name, capability, f"GPU-{uuid}" if uuid else "", versions)


def measure(
    trained: TrainedModel, images: Sequence[Image], runs: int, dataset: Dataset | None, device: str = "cuda"
) -> Row:
    """Time one model on several images, and measure its AP where there is a data set."""
    with torch.device("meta"):
        plain = YOLOX(trained.model.variant)
    runtime = ForwardRuntime(trained.model, trained.spec, device)
    inputs = [runtime.load(preprocess([image], runtime.spec)[0]) for image in images]
    latency = time_forward(runtime, inputs, runs)
    ap = None if dataset is None else evaluate(Detector(runtime, SCORE_THRESHOLD), dataset).AP
    runtime.close()
    gflops = count_gflops(plain, *trained.spec.input_size)
    return Row(plain.variant, ap, count_parameters(plain), gflops, latency)

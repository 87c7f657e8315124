"""Whether what comes into the batch norms of a network is what their statistics were taken of.

Weights fit any activation, eps and input. The running mean and variance of every batch norm tell what the training saw:
where something else comes in, the network or its input is not the one that was trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from statistics import median
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch

from runtimes.foreign import PREPROCESSING, Preprocessing
from runtimes.preprocess import Image, preprocess
from runtimes.spec import Activation, ModelSpec

from .norm_layers import LayerDistance, measure_layers
from .trained_with import PREPROCESSING_WORDS, WORDS
from .yolox import YOLOX

MOST_IMAGES = 4

# All of these are measured, in nats: benchmarks/results/2026-11-29-norm-check.md has the tables.
# A distance over this is looked into. Right networks have 0.005 to 0.05 on images like those of their training and up
# to 0.08 on others, wrong ones 0.11 and more.
SUSPICIOUS = 0.1
# A cause is named where it brings the distance to this share, or less; the distance of the first layers alone to that
# share, or less; and the latter to FITS or less. Right networks have at most 0.35 and 0.51 of what wrong ones have, and
# 0.31 in the first layers. After a training from scratch of a few hundred steps, another activation may fit better by
# chance: mostly in the deep layers alone, which is no cause, and in one of three such networks in the first ones too.
SHARE, FIRST_SHARE, FITS = 0.4, 0.75, 0.4
# A distance of the first layers over this is said even where no cause is found. Right networks have up to 0.3, those
# that were trained from scratch for a few hundred steps up to 1.5 on images of another kind.
BEYOND = 1.0
FIRST_LAYERS = 20  # batch norms in the order of computation

UNIT = "unit"  # BGR scaled to 0..1, which there is no option for
EPS = (1e-3, 1e-5)
WORST = 5  # layers that are shown


@dataclass(frozen=True)
class Hypothesis:
    """What the network and its input may be. input: a preprocessing, or "unit" for BGR scaled to 0..1.

    distance, first: see `check_norms`, over all layers and the first ones. options: to type; "" where there are none.
    """

    activation: Activation
    batch_norm_eps: float
    input: str
    distance: float
    first: float
    options: str

    def __str__(self) -> str:
        words = PREPROCESSING_WORDS.get(self.input, "BGR scaled to 0..1")
        return f"{WORDS[self.activation]}, batch-norm eps {self.batch_norm_eps:g}, {words}"


@dataclass(frozen=True)
class NormCheck:
    """How far what comes into the batch norms is from their statistics; true where it fits.

    distance, first: of the network as it is; see `check_norms`, over all layers and the first ones. cause: what fits
    instead, None where nothing does or nothing has to. tried: other networks and inputs, the nearest first; () where
    the network fits and none were. layers: all batch norms, the worst first. images: how many were looked at.
    """

    distance: float
    first: float
    cause: Hypothesis | None
    tried: tuple[Hypothesis, ...]
    layers: tuple[LayerDistance, ...]
    images: int

    def __bool__(self) -> bool:
        return self.cause is None and self.first <= BEYOND

    def __str__(self) -> str:
        """One line."""
        if self:
            return f"the batch norms' statistics fit what comes in (distance {self.distance:.3f}, {self.images} images)"
        found = "the batch norms' statistics do not fit what comes in"
        if self.cause is None:
            return (
                f"{found} (distance {self.first:.2g} in the first layers, where up to 0.3 is usual), and no cause was"
                " found: the network, its input or the images are unlike those of the training, or that was very short"
            )
        return (
            f"{found} (distance {self.distance:.2g}); unless the training was very short, it was most likely with"
            f" {self.cause} (distance {self.cause.distance:.2g}): {self.advice}"
        )

    @property
    def advice(self) -> str:
        """What to type, or to do, where a cause was found."""
        if self.cause is None:
            return ""
        scaled = "0..1 has no option; multiply the weight of the first convolution by 1/255 and save the file"
        return ", and ".join(text for text in (self.cause.options, scaled if self.cause.input == UNIT else "") if text)

    def table(self) -> str:
        """What was tried, and the worst layers, a line each."""
        lines = [f"batch norms against what comes in, on {self.images} images: the smaller the distance, the better"]
        lines += [f"{'all layers':>10}  {'first':>8}", f"{self.distance:10.3f}  {self.first:8.3f}  as it is"]
        lines += [f"{one.distance:10.3f}  {one.first:8.3f}  {one}" for one in self.tried]
        lines += ["", f"{'distance':>10}  {'shift':>6}  {'scale':>6}  layer"]
        lines += [
            f"{layer.distance:10.3f}  {layer.shift:6.2f}  {layer.scale:6.2f}  {layer.name}"
            for layer in self.layers[:WORST]
        ]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"fits": bool(self), **asdict(self), "text": str(self)}


def check_norms(model: YOLOX, spec: ModelSpec, images: Sequence[Image], thorough: bool = False) -> NormCheck:
    """Compare every batch norm's running mean and variance with what really comes in, on at most 4 of the images.

    model: in eval mode, with its batch norms (not folded). spec: how images are fed to it: size and preprocessing.
    images: BGR uint8 (H, W, 3), of any size, at least one. thorough: try all causes though the network fits.

    The distance is the Kullback-Leibler divergence of two normal distributions, what comes in from what the statistics
    say, `(v / var + (m - mean)^2 / var - 1 - log(v / var)) / 2` in nats, the median over a layer's channels, and then
    over layers: all, and the first 20, in which a short training or unusual images show less. Where it is over
    `SUSPICIOUS`, other activations, eps and inputs are tried, one by one and then together; what fits far better is the
    cause.

    A network that was trained from scratch for a few hundred steps may get a wrong cause, or none: its statistics lag
    behind its weights. Cannot see: BGR taken for RGB, which photographs hardly show; an eps that the weights do not
    depend on; small differences, such as another way of resizing.
    """
    some = [images[index] for index in range(0, len(images), -(-len(images) // MOST_IMAGES))]
    own = "legacy" if spec.normalization else "official"
    cached: dict[str, npt.NDArray[Any]] = {}

    def measured(network: YOLOX, kind: str) -> list[LayerDistance]:
        if kind not in cached:
            cached[kind] = _inputs(some, spec, kind)
        return measure_layers(network, cached[kind])

    layers = measured(model, own)
    distance, first = _distances(layers)
    tried: list[Hypothesis] = []
    fitting: list[Hypothesis] = []
    for candidates in _alternatives(model, own):
        if fitting or not (distance > SUSPICIOUS or thorough):
            break
        for activation, eps, kind in candidates:
            found = _distances(measured(_changed(model, activation, eps), kind))
            tried.append(Hypothesis(activation, eps, kind, *found, _options(model, own, activation, eps, kind)))
        if distance > SUSPICIOUS:
            fitting = [
                one for one in tried if one.distance <= SHARE * distance and one.first <= min(FIRST_SHARE * first, FITS)
            ]
    tried.sort(key=lambda one: one.distance)
    return NormCheck(
        distance=distance,
        first=first,
        cause=min(fitting, key=lambda one: one.distance, default=None),
        tried=tuple(tried),
        layers=tuple(sorted(layers, key=lambda layer: -layer.distance)),
        images=len(some),
    )


def _alternatives(model: YOLOX, own: str) -> Iterator[list[tuple[Activation, float, str]]]:
    """Other networks and inputs: those that differ in one thing, then those that differ in activation and input."""
    here = (model.activation, model.batch_norm_eps, own)
    activations: tuple[Activation, ...] = get_args(Activation)
    kinds = (*get_args(Preprocessing), UNIT)
    single = [(activation, here[1], own) for activation in activations]
    single += [(here[0], here[1], kind) for kind in kinds] + [(here[0], eps, own) for eps in EPS]
    yield [one for one in dict.fromkeys(single) if one != here]
    yield [(a, here[1], kind) for a, kind in product(activations, kinds) if a != here[0] and kind != own]


def _options(model: YOLOX, own: str, activation: Activation, eps: float, kind: str) -> str:
    said = []
    if activation != model.activation:
        said.append(f"--activation {activation}")
    if eps != model.batch_norm_eps:
        said.append(f"--batch-norm-eps {eps:g}")
    if kind not in (own, UNIT):
        said.append(f"--preprocessing {kind}")
    return " ".join(said)


def _changed(model: YOLOX, activation: Activation, eps: float) -> YOLOX:
    """The same weights, in a network with another activation and eps."""
    with torch.device("meta"):
        changed = YOLOX(model.variant, model.num_classes, activation, eps)
    changed.load_state_dict(model.state_dict(), assign=True)
    return changed.eval()


def _inputs(images: Sequence[Image], spec: ModelSpec, kind: str) -> npt.NDArray[Any]:
    """The network input (N, 3, H, W) float32 of the images, as another preprocessing makes it."""
    values = PREPROCESSING["official" if kind == UNIT else kind]
    inputs, _ = preprocess(images, replace(spec, uint8_input=False, **{**values, "pad_value": spec.pad_value}))
    return inputs / np.float32(255) if kind == UNIT else inputs


def _distances(layers: Sequence[LayerDistance]) -> tuple[float, float]:
    """The median distance over all layers, and over the first ones."""
    return median(layer.distance for layer in layers), median(layer.distance for layer in layers[:FIRST_LAYERS])

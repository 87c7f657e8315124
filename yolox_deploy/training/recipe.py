"""The hyperparameters of a training. Source: yolox/exp/yolox_base.py and exps/default/yolox_{nano,tiny}.py.

Knows no torch, so that a command line can be made of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import tyro

from runtimes.errors import InvalidInput
from yolox_deploy.model.variants import VARIANTS, VariantName

RecipeName = Literal["official", "improved"]


@dataclass(frozen=True)
class Augmentation:
    """How images are changed while training. Probabilities lie in 0..1; "scale" is a range of factors."""

    mosaic: float = 1.0
    """Probability that four images are joined into one."""
    mixup: float = 1.0
    """Probability that a mosaic is blended with another image."""
    hsv: float = 1.0
    """Probability of changed hue, saturation and value."""
    flip: float = 0.5
    """Probability of a mirrored image."""
    rotation: float = 10.0
    """Rotation of mosaics, up to this many degrees to either side."""
    translation: float = 0.1
    """Shift of mosaics, up to this fraction of the input."""
    shear: float = 2.0
    """Shear of mosaics, up to this many degrees to either side."""
    mosaic_scale: tuple[float, float] = (0.1, 2.0)
    """Range of the scale of mosaics."""
    mixup_scale: tuple[float, float] = (0.5, 1.5)
    """Range of the scale of what is blended in."""


@dataclass(frozen=True)
class Recipe:
    """A training from the first step to the last; the defaults shown are those of the model."""

    # Here they are those of YOLOX-s to -x; see `recipe_for`.
    epochs: int = 300
    """Epochs in all."""
    batch: int = 16
    """Images a step, over all devices and accumulated batches."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with Nesterov momentum, or AdamW."""
    learning_rate: float = 0.01
    """Learning rate for 64 images a step; it is scaled with the batch."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 5e-4
    """Weight decay of weights; never of biases and batch norms."""
    warmup_epochs: float = 5
    """Epochs of warm-up."""
    schedule: Literal["cosine", "flat-cosine"] = "cosine"
    """From the warm-up on: down along a cosine, or flat to the half of all epochs and down along a cosine then."""
    final_learning_rate: float = 0.05
    """Learning rate at the end, as a fraction of the learning rate."""
    no_augmentation_epochs: int = 15
    """Last epochs without mosaic and mixup, with the L1 loss and the final learning rate."""
    ema_decay: float = 0.9998
    """Decay of the averaged weights, those that are evaluated and exported; 0 averages nothing."""
    clip_gradients: float | None = None
    """Largest norm of the gradients; unset, they are not clipped."""
    input_size: Annotated[tuple[int, int], tyro.conf.arg(metavar="HEIGHT WIDTH")] = (640, 640)
    """Height and width of the input, multiples of 32."""
    multi_scale: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="LOW HIGH")] = (480, 800)
    """Range of the input's shorter side, which changes every 10 steps; with equal numbers, it does not."""
    augmentation: Annotated[Augmentation, tyro.conf.arg(name="augmentation", prefix_name=False)] = field(
        default_factory=Augmentation
    )


def recipe_for(variant: VariantName, name: RecipeName = "official") -> Recipe:
    """The recipe of a variant: nano and tiny are trained smaller and with less augmentation.

    "improved" is the schedule of RTMDet, for which mmyolo reports +1.6 AP (tiny) and +1.2 AP (s) on COCO: AdamW, a flat
    and then falling learning rate, 20 epochs without augmentation.
    """
    recipe = Recipe()
    if VARIANTS[variant].input_size == 416:
        small = Augmentation(mosaic=0.5 if variant == "yolox-nano" else 1.0, mixup=0.0, mosaic_scale=(0.5, 1.5))
        recipe = replace(recipe, input_size=(416, 416), multi_scale=(320, 640), augmentation=small)
    if name == "improved":
        # mmyolo's 0.004 are for 256 images a step.
        recipe = replace(recipe, optimizer="adamw", learning_rate=0.001, weight_decay=0.05, warmup_epochs=1)
        recipe = replace(recipe, schedule="flat-cosine", no_augmentation_epochs=20)
    return recipe


def scaled_to(recipe: Recipe, side: int) -> Recipe:
    """The recipe with its multi-scale range in the same proportion to another shorter side of the input, in pixels."""
    if recipe.multi_scale is None:
        return recipe
    factor = side / min(recipe.input_size)
    low, high = (max(32 * round(end * factor / 32), 32) for end in recipe.multi_scale)
    return replace(recipe, multi_scale=(low, high))


def shortened_to(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe for so many epochs, at least 1: a warm-up of at most a tenth of them, and at most a fifth without
    augmentation, rounded down. From 75 epochs on (100 with "improved"), that is as the recipe has it."""
    warmup, tail = min(recipe.warmup_epochs, epochs / 10), min(recipe.no_augmentation_epochs, epochs // 5)
    return replace(recipe, epochs=epochs, warmup_epochs=warmup, no_augmentation_epochs=tail)


def shortening(recipe: Recipe, own: Recipe) -> str:
    """What few epochs have shortened of a variant's own recipe, in words; "" where nothing is, or all was asked for."""
    short, warmup, tail = shortened_to(own, recipe.epochs), recipe.warmup_epochs, recipe.no_augmentation_epochs
    former = own.warmup_epochs, own.no_augmentation_epochs
    if (warmup, tail) == former or (warmup, tail) != (short.warmup_epochs, short.no_augmentation_epochs):
        return ""
    return (
        f"--epochs {recipe.epochs} shortens the recipe: --warmup-epochs {warmup:g} (of {former[0]:g}),"
        f" --no-augmentation-epochs {tail} (of {former[1]})."
    )


def check_recipe(recipe: Recipe) -> None:
    """Raise `InvalidInput`, naming the option, for values that cannot be trained with."""
    for name in ("epochs", "batch", "learning_rate"):
        _require(getattr(recipe, name) > 0, name, "must be positive", getattr(recipe, name))
    for name in ("warmup_epochs", "no_augmentation_epochs", "weight_decay"):
        _require(getattr(recipe, name) >= 0, name, "cannot be negative", getattr(recipe, name))
    for name in ("momentum", "final_learning_rate", "ema_decay"):
        _require(0 <= getattr(recipe, name) <= 1, name, "must lie between 0 and 1", getattr(recipe, name))
    for name in ("mosaic", "mixup", "hsv", "flip"):
        value = getattr(recipe.augmentation, name)
        _require(0 <= value <= 1, name, "is a probability, 0 to 1", value)
    for name in ("mosaic_scale", "mixup_scale"):
        low, high = getattr(recipe.augmentation, name)
        _require(0 < low <= high, name, "is a range of positive factors", f"{low:g} {high:g}")
    if recipe.epochs <= recipe.no_augmentation_epochs:
        tail = recipe.no_augmentation_epochs
        raise InvalidInput(
            f"--epochs {recipe.epochs} leaves none with augmentation and the full learning rate, since the last {tail}"
            f" are without: --no-augmentation-epochs 0 or another number below {recipe.epochs}."
        )
    if recipe.warmup_epochs > recipe.epochs:
        raise InvalidInput(
            f"--warmup-epochs {recipe.warmup_epochs:g} are more than --epochs {recipe.epochs}: the learning rate would"
            f" never be reached; --warmup-epochs 0 or another number up to {recipe.epochs}."
        )
    if recipe.clip_gradients is not None:
        _require(recipe.clip_gradients > 0, "clip_gradients", "must be positive", recipe.clip_gradients)
    height, width = recipe.input_size
    fits = min(height, width) >= 32 and height % 32 == width % 32 == 0
    _require(fits, "input_size", "is made of multiples of 32", f"{height} {width}")
    if recipe.multi_scale is not None:
        low, high = recipe.multi_scale
        _require(32 <= low <= high, "multi_scale", "is a range of pixels, from 32 on", f"{low} {high}")


def _require(holds: bool, name: str, rule: str, value: object) -> None:
    if not holds:
        raise InvalidInput(f"--{name.replace('_', '-')} {rule}, not {value}.")

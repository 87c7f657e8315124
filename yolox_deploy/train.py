"""yolox-deploy train: YOLOX on your images, from the first step to a checkpoint that can be exported."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from runtimes.errors import InvalidInput

from .console import require, run
from .data.class_names import class_difference
from .data.dataset import MAX_LABELS, check_trainable, truncated
from .data.faults import counted
from .data.open import check_readable, decodable, open_dataset
from .files import check_output_folder
from .model.trained_with import NetworkOptions
from .model.variants import VARIANTS, VariantName
from .model_argument import FirstModel, variant_and_weights, variant_in
from .options import VARIANT, ClassNames, Json, check_positive
from .parsing import parse
from .training.hardware import HardwareOptions
from .training.recipe import Recipe, RecipeName, check_recipe, recipe_for, scaled_to, shortened_to, shortening

Logger = Literal["tensorboard", "wandb", "mlflow"]
SPLITS = tyro.conf.arg(metavar="SPLIT ...")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train YOLOX on your images. The options of the recipe show the model's own values.

    OUTPUT receives best.pth and last.pth (official format; `yolox-deploy export` takes either), previous.pth,
    for where last.pth is damaged, history.json, curves, pictures and results.json.
    """

    source: Annotated[FirstModel, tyro.conf.arg(metavar="[MODEL]")] = ""
    """What to train: a checkpoint to start from (official, mmdetection's, of `train`), the folder of a training (its
    best.pth), or a variant's name, which starts from random weights without --pretrained."""
    data: Path
    """Data set in a layout of COCO, Pascal VOC, YOLO, Darknet, labelImg, CVAT, Label Studio or Roboflow: its folder, or
    the file that describes it."""
    model: Annotated[VariantName, VARIANT] = "yolox-s"
    """Which YOLOX: yolox-nano, -tiny, -s, -m, -l, -x or -darknet53; with a checkpoint, the file's own."""
    weights: Path | None = None
    """Checkpoint to start from; the same as MODEL."""
    pretrained: bool = False
    """Start from the official weights of --model, downloaded once."""
    new_classes: bool = False
    """Start the class predictions anew where the weights know other classes than the data."""
    class_names: ClassNames = None
    """Classes of --weights that do not name them, in the order of their training: "coco", a text file with one name a
    line, or the names themselves with commas between them."""
    output: Path = Path("training")
    """Folder of this training."""
    resume: bool = False
    """Go on with the training in OUTPUT: the same command again, with --resume."""
    overwrite: bool = False
    """Replace the training in OUTPUT."""
    train_split: Annotated[tuple[str, ...], SPLITS] = ("train",)
    """Splits of the data to learn from."""
    val_split: Annotated[tuple[str, ...], SPLITS] = ("val",)
    """Splits of the data to measure on."""
    recipe_name: Annotated[RecipeName, tyro.conf.arg(name="recipe")] = "official"
    """Defaults of the options below: the official recipe, or one with AdamW and a flat-cosine schedule."""
    recipe: Annotated[Recipe, tyro.conf.arg(name="recipe")] = field(default_factory=Recipe)
    seed: int = 0
    """Seed of everything random."""
    faithful: bool = False
    """End the augmentation one epoch early, as the official loop does."""
    freeze: Annotated[tuple[str, ...], tyro.conf.arg(metavar="PART ...")] = ()
    """Parts of the model that stay as they are, such as backbone.backbone."""
    freeze_norms: bool = False
    """Keep the statistics of all batch norms."""
    evaluate_every: int = 1
    """Epochs between two measurements of AP."""
    save_every: int | None = None
    """Keep the weights of every so many epochs (epoch_010.pth ...)."""
    patience: int | None = None
    """End after so many measurements without a better AP."""
    skip_unreadable: bool = False
    """Do without images that cannot be read, and say which, instead of stopping."""
    logger: tuple[Logger, ...] = ("tensorboard",)
    """Where figures go, besides history.json; without a name after it, nowhere else."""
    dry_run: bool = False
    """Check everything that can be known, say what would be done, and write nothing."""
    json: Json = None
    """File for JSON, what results.json holds and {"folder", "best", "last"}; "-" is standard output, which then holds
    nothing else."""
    network: Annotated[NetworkOptions, tyro.conf.arg(name="network")] = field(default_factory=NetworkOptions)
    hardware: Annotated[HardwareOptions, tyro.conf.arg(name="hardware")] = field(default_factory=HardwareOptions)


def defaults(arguments: Sequence[str]) -> TrainConfig:
    """The config that the command line is made of: its recipe is that of the model asked for, or of the checkpoint."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--model")
    parser.add_argument("--weights")
    parser.add_argument("--recipe")
    parser.add_argument("--input-size", type=int, nargs=2)
    parser.add_argument("--epochs", type=int)
    try:
        asked, _ = parser.parse_known_args(arguments)
    except argparse.ArgumentError:  # which is said where all is parsed
        return TrainConfig(data=tyro.MISSING)
    named = _first_argument(arguments) or asked.weights
    model = asked.model or (variant_in(named) if named else TrainConfig.model)
    known = model in VARIANTS and asked.recipe in (None, "official", "improved")
    recipe = recipe_for(model, asked.recipe or "official") if known else Recipe()
    if asked.input_size is not None:
        recipe = scaled_to(recipe, min(asked.input_size))
    if asked.epochs is not None and asked.epochs > 0:
        recipe = shortened_to(recipe, asked.epochs)
    return TrainConfig(data=tyro.MISSING, model=model if known else TrainConfig.model, recipe=recipe)


def _first_argument(arguments: Sequence[str]) -> str:
    """MODEL, which only the whole parser can tell from an option's value; "" where there is none, or an error that is
    said where all is parsed."""
    words = [word for word in arguments if word not in ("-h", "--help")]
    silence = io.StringIO()
    with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence), contextlib.suppress(SystemExit):
        return parse("yolox-deploy train", TrainConfig, words, TrainConfig(data=Path())).source
    return ""


def started_from(config: TrainConfig) -> TrainConfig:
    """With MODEL, --model and --weights in one. Raises `InvalidInput` where they differ."""
    if config.pretrained and (config.weights is not None or config.source not in ("", *VARIANTS)):
        raise InvalidInput("--pretrained and a checkpoint to start from (--weights) exclude each other.")
    variant, weights = variant_and_weights(config.source, config.model, config.weights, config.dry_run)
    return replace(config, source="", model=variant or config.model, weights=weights)


def check(config: TrainConfig) -> None:
    """Raise `InvalidInput` for what can be known to be wrong before any work."""
    require("torch", "lightning_fabric", "psutil", "hotcoco")
    check_recipe(config.recipe)
    hardware = config.hardware
    check_positive(
        devices=hardware.devices,
        nodes=hardware.nodes,
        accumulate=hardware.accumulate,
        evaluate_every=config.evaluate_every,
        save_every=config.save_every,
        patience=config.patience,
    )
    for name, value in (("workers", hardware.workers), ("seed", config.seed)):
        if value < 0:
            raise InvalidInput(f"--{name} cannot be negative, as {value} is.")
    started = os.environ.get("WORLD_SIZE", "")
    if started.isdecimal() and int(started) != hardware.devices * hardware.nodes:
        raise InvalidInput(
            f"{started} processes were started, for --devices {hardware.devices} and --nodes {hardware.nodes}: give"
            " numbers whose product that is."
        )
    ways = hardware.accumulate * hardware.devices * hardware.nodes
    if config.recipe.batch % ways:
        raise InvalidInput(
            f"--batch {config.recipe.batch} cannot be divided among nodes x devices x accumulated batches, which are"
            f" {ways}: a multiple of {ways} can."
        )
    check_output_folder(config.output, "--output")
    trained = any((config.output / name).exists() for name in ("last.pth", "previous.pth"))
    others = trained or (config.output / "best.pth").exists()
    if others and not (config.resume or config.overwrite):
        raise InvalidInput(f"{config.output} holds a training: --resume goes on with it, --overwrite replaces it.")
    if config.overwrite and config.weights is not None and config.weights.resolve().parent == config.output.resolve():
        raise InvalidInput(
            f"--overwrite would replace {config.weights}, which is to be started from: another --output."
        )
    if config.resume and not trained:
        raise InvalidInput(f"there is nothing to resume: {config.output / 'last.pth'} does not exist.")


def say_defaults(config: TrainConfig) -> None:
    """Print what was not asked for in so many words: random weights, and a recipe that few epochs have shortened."""
    shortened = shortening(config.recipe, recipe_for(config.model, config.recipe_name))
    if shortened:
        print(shortened)
    if not (config.resume or config.weights or config.pretrained):
        print(f"{config.model} starts from random weights; --pretrained starts from the official ones.")


def command(config: TrainConfig) -> dict[str, Any] | None:
    config = started_from(config)
    check(config)
    training = open_dataset(config.data, config.train_split, config.skip_unreadable)
    left_out = check_trainable(training)
    if left_out:
        print(f"left out: {counted(left_out, 'box')} without area in the image.")
    crowded = truncated(training)
    if crowded:
        images = counted(len(crowded), "image")
        print(f"{images} with more than {MAX_LABELS} boxes, such as {crowded[0].path.name}:")
        print(f"the first {MAX_LABELS} are learned.")
    validation = open_dataset(config.data, config.val_split, config.skip_unreadable)
    if config.skip_unreadable:
        validation = decodable(validation)
    check_trainable(validation)
    if config.dry_run and config.skip_unreadable:
        training = decodable(training)
    elif config.dry_run:
        for dataset in (training, validation):
            check_readable(dataset)
    if validation.class_names != training.class_names:
        names = class_difference("validation", validation.class_names, "training", training.class_names)
        raise InvalidInput(f"{validation.source} does not have the classes of {training.source}: {names}.")
    say_defaults(config)
    if config.dry_run:
        from .training.preview import preview

        return preview(config, training, validation)
    from .training.setup import train

    return train(config, training, validation)


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy train", TrainConfig, command, arguments, defaults)


if __name__ == "__main__":
    sys.exit(main())

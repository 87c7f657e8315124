"""`train --dry-run`: all that a training looks at before its first step, and what it would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yolox_deploy.data.dataset import Dataset

from .loggers import check_loggers
from .setup import make_fabric, make_model, make_schedule, meta
from .state import resumable

if TYPE_CHECKING:
    from yolox_deploy.train import TrainConfig


def preview(config: TrainConfig, training: Dataset, validation: Dataset) -> dict[str, Any]:
    """Check weights, device, loggers and what would be resumed, and print the plan. Returns it; writes nothing."""
    recipe, schedule = config.recipe, make_schedule(config, len(training))
    model = make_model(config, training)
    check_loggers(config.logger)
    device = make_fabric(config).device
    done = 0
    if config.resume:
        content, note = resumable(config.output, meta(config, training, model))
        done = content["progress"]["step"]
        if note:
            print(f"note: {note}")
    plan = {
        "dry_run": True,
        "model": config.model,
        "classes": len(training.class_names),
        "images": len(training),
        "validation_images": len(validation),
        "epochs": recipe.epochs,
        "steps": schedule.steps,
        "steps_done": done,
        "batch": recipe.batch,
        "input_size": recipe.input_size,
        "device": str(device),
        "folder": str(config.output),
    }
    height, width = recipe.input_size
    existing = " (goes on there)" if config.resume else " (replaces what is there)" if config.overwrite else ""
    print("dry run, nothing is written:")
    print(
        f"  {config.model} for {plan['classes']} classes, {height}x{width}, on {device} in {config.hardware.precision}"
    )
    print(f"  {len(training)} images of {training.source}; AP on {len(validation)} of {validation.source}")
    print(f"  {recipe.epochs} epochs, {schedule.steps} steps of {recipe.batch} images; {done} steps are done")
    print(f"  into {config.output}{existing}")
    return plan

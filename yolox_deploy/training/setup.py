"""From the options of a training to the objects that do it, and through it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from exporters.lock import only_here
from exporters.torch_runtime import TorchRuntime
from runtimes.detector import Detector
from runtimes.errors import InvalidInput
from runtimes.foreign import PREPROCESSING
from runtimes.spec import ModelSpec
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.data.loader import Batch, TrainingSet, collate, make_loader
from yolox_deploy.data.store import SampleStore
from yolox_deploy.data.stream import Share, Stream
from yolox_deploy.model.checkpoint import read_checkpoint
from yolox_deploy.model.safe_save import is_whole
from yolox_deploy.model.variants import STRIDES
from yolox_deploy.model.yolox import YOLOX

from .ema import ModelEMA
from .engine import Engine, LoopOptions
from .loggers import make_loggers
from .loss import YOLOXLoss
from .optimizer import freeze, make_optimizer
from .pictures import batch_picture
from .report import write_picture, write_report
from .schedule import Schedule
from .start import build_model, check_start, open_weights
from .state import BEST, LAST, Progress, TrainingState, resumed_network
from .trainer import SCORE_THRESHOLD, WRITTEN, Pace, Trainer

if TYPE_CHECKING:
    from yolox_deploy.train import TrainConfig

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def train(config: TrainConfig, training: Dataset, validation: Dataset) -> dict[str, Any] | None:
    """Train as the options say, to the end, and leave a report. Returns its figures and files, in the first process."""
    model = make_model(config, training)
    fabric = make_fabric(config)
    fabric.launch()
    with contextlib.ExitStack() as stack:
        if fabric.is_global_zero:
            busy = f"another training is writing into {config.output}: wait for it, or choose another --output."
            stack.enter_context(only_here(config.output / ".lock", busy))
        engine = make_engine(config, fabric, model, training)
        trainer = Trainer(engine, make_spec(config, training, model), validation, pace(config))
        if fabric.is_global_zero:
            clear(config)
        stream = batches(config, trainer, training)
        try:
            trainer.fit(stream)
        finally:
            shut_down(stream)
            for logger in fabric.loggers:
                logger.finalize("success")
        return report(config, trainer) if fabric.is_global_zero else None


def clear(config: TrainConfig) -> None:
    """Remove what a training left that is overwritten, and what one left half-written that was killed."""
    for name in (".*.part.*", *(() if config.resume else WRITTEN)):
        for file in config.output.glob(name):
            file.unlink()


def report(config: TrainConfig, trainer: Trainer) -> dict[str, Any]:
    """What the best weights do, to look at."""
    if not is_whole(trainer.folder / BEST):
        raise InvalidInput(
            f"{trainer.folder / BEST} is damaged or gone, and the training is over: {LAST} holds its last epoch."
        )
    runtime = TorchRuntime(read_checkpoint(trainer.folder / BEST).build(), trainer.spec, str(trainer.fabric.device))
    progress, schedule = trainer.state.progress, trainer.schedule
    results = write_report(
        trainer.folder,
        Detector(runtime, SCORE_THRESHOLD),
        trainer.validation,
        progress.history,
        progress.best_epoch,
        schedule.tail_epoch,
        asdict(config),
    )
    print(f"{results}\ncurves and pictures: {trainer.folder}; to deploy it:", flush=True)
    print(f"  yolox-deploy export --weights {trainer.folder / BEST} --target onnx openvino ncnn")
    files = {"folder": trainer.folder, "best": trainer.folder / BEST, "last": trainer.folder / LAST}
    return {**asdict(results), **{name: str(path) for name, path in files.items()}}


def make_model(config: TrainConfig, training: Dataset) -> YOLOX:
    """Fresh, or with the weights of a checkpoint, unless the training goes on; what is frozen is."""
    checkpoint, network = None, config.network
    if config.resume:
        network = resumed_network(config.output, config.network)
    else:
        checkpoint = open_weights(
            config.weights,
            config.pretrained,
            config.model,
            training.class_names,
            config.new_classes,
            config.dry_run,
            named=config.class_names,
            network=config.network,
        )
    classes = len(training.class_names)
    model, anew = build_model(config.model, classes, checkpoint, config.new_classes, config.seed, network)
    freeze(model, config.freeze)
    if checkpoint is not None:
        check_start(checkpoint, training)
        print(f"starting from {checkpoint.path}" + (f"; anew: {', '.join(anew)}" if anew else ""))
    return model


def make_schedule(config: TrainConfig, images: int) -> Schedule:
    """An epoch is as many full batches as it takes to see every image."""
    return Schedule(config.recipe, -(-images // config.recipe.batch), config.seed, config.faithful)


def make_spec(config: TrainConfig, training: Dataset, model: YOLOX) -> ModelSpec:
    return ModelSpec(
        name=config.model,
        input_size=config.recipe.input_size,
        class_names=training.class_names,
        category_ids=training.category_ids,
        strides=STRIDES,
        batch=None,
        decoded=False,
        activation=model.activation,
        batch_norm_eps=model.batch_norm_eps,
        **PREPROCESSING["official"],
    )


def pace(config: TrainConfig) -> Pace:
    return Pace(config.evaluate_every, config.save_every, config.patience)


def make_fabric(config: TrainConfig) -> Fabric:
    """Raises `InvalidInput` for devices that are not there."""
    hardware = config.hardware
    try:
        fabric = Fabric(
            accelerator=hardware.device,
            devices=hardware.devices,
            num_nodes=hardware.nodes,
            strategy="ddp" if hardware.devices * hardware.nodes > 1 else "auto",
            precision=PRECISIONS[hardware.precision],  # type: ignore[arg-type]
            loggers=None if config.dry_run else make_loggers(config.logger, config.output),
        )
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        raise InvalidInput(f"--device {hardware.device} --devices {hardware.devices}: {error}") from None
    if hardware.precision == "fp16" and fabric.device.type != "cuda":
        raise InvalidInput(f"--precision fp16 is for CUDA; on {fabric.device.type}, bf16 is the shorter format.")
    if hardware.sync_norms and fabric.device.type != "cuda":
        raise InvalidInput(f"--sync-norms is for CUDA, not for {fabric.device.type}.")
    return fabric


def make_engine(config: TrainConfig, fabric: Fabric, network_model: YOLOX, training: Dataset) -> Engine:
    """Model, optimizer and averaged weights on their device, fresh or resumed."""
    about, model = meta(config, training, network_model), cast("nn.Module", network_model)
    hardware, schedule = config.hardware, make_schedule(config, len(training))
    if hardware.sync_norms:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    if hardware.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, config.recipe)
    compiled: Any = torch.compile(model) if hardware.compile else model
    network, optimizer = fabric.setup(compiled, optimizer)
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    state = TrainingState(model, ModelEMA(model, config.recipe.ema_decay), optimizer, Progress(), about, scaler)
    if config.resume:
        note = state.resume(config.output)
        if note:
            fabric.print(f"note: {note}", flush=True)
    average: Any = fabric.all_reduce if hardware.count_positives_globally else None
    options = LoopOptions(hardware.accumulate, hardware.channels_last, config.freeze, config.freeze_norms)
    return Engine(fabric, network, state, YOLOXLoss(STRIDES, average), schedule, options, config.output)


def meta(config: TrainConfig, training: Dataset, model: YOLOX) -> dict[str, Any]:
    """What a checkpoint says of its training. It can only be resumed with the same."""
    return {
        "class_names": training.class_names,
        "category_ids": training.category_ids,
        "variant": config.model,
        "activation": model.activation,
        "batch_norm_eps": model.batch_norm_eps,
        "preprocessing": "official",
        "input_size": config.recipe.input_size,
        "images": len(training),
        "seed": config.seed,
        "recipe": asdict(config.recipe),
        "faithful": config.faithful,
        "freeze": config.freeze,
        "freeze_norms": config.freeze_norms,
        "accumulate": config.hardware.accumulate,
        "count_positives_globally": config.hardware.count_positives_globally,
    }


def batches(config: TrainConfig, trainer: Trainer, training: Dataset) -> Iterator[Batch]:
    """From the step that the training is at to its last."""
    recipe, hardware, fabric = config.recipe, config.hardware, trainer.fabric
    cv2.setNumThreads(0 if hardware.workers else 1)
    store = SampleStore(training.images, recipe.input_size)
    with fabric.rank_zero_first(local=True):  # the others find its files
        store.keep(hardware.cache, hardware.cache_limit, config.output / "cache")
    share = Share(recipe.batch, hardware.accumulate, fabric.global_rank, fabric.world_size)
    steps = range(trainer.state.progress.step, trainer.schedule.steps)
    stream = Stream(len(store), share, steps, trainer.schedule.in_tail, config.seed)
    dataset = TrainingSet(store, recipe.input_size, recipe.augmentation, config.seed, config.skip_unreadable)
    if fabric.is_global_zero and steps.start == 0:
        for number, step in enumerate((0, trainer.schedule.steps - 1)):
            show_batch(dataset, stream, step, training.class_names, config.output / f"batch_{number}.jpg")
    return iter(make_loader(dataset, stream, hardware.workers, fabric.device.type == "cuda"))


def shut_down(batches: Iterator[Batch]) -> None:
    """End the processes that load data, for which PyTorch has no public way.

    They take no SIGTERM, so Python, at its end, would wait for ever for those of a loader that an error keeps alive.
    """
    end = getattr(batches, "_shutdown_workers", None)
    if end is not None:
        end()


def show_batch(dataset: TrainingSet, stream: Stream, step: int, names: Sequence[str], path: Path) -> None:
    """A picture of a step's first batch, if all of it can be read."""
    batch = collate([dataset[draw] for draw in stream.draw(step, 0)])
    if not batch.unreadable:
        labels = [rows.numpy() for rows in batch.labels]
        write_picture(path, batch_picture(batch.images.numpy(), labels, names))

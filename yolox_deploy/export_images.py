"""The images of an export: what int8 is calibrated on, and what artifacts are verified on."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from exporters.report import TOLERANCES
from runtimes.runtime import Runtime

from .data.dataset import Dataset
from .data.image_source import train_split
from .int8 import Calibration, calibration_images
from .verification import GivenImages, check_readable, choose_images, given_images, search_order, some_of

if TYPE_CHECKING:
    from .export import ExportConfig


def find_export_images(config: ExportConfig, dataset: Dataset | None) -> tuple[GivenImages, Calibration | None]:
    """The images among which those to verify on are chosen, and what int8 is calibrated on, None without int8.

    Says what is to be said of them on standard error. Raises `InvalidInput` where one that is sure to be used, or in a
    dry run may be, cannot be read.
    """
    calibration = find_calibration(config) if "int8" in config.precision else None
    given = find_verification(config, dataset, calibration)
    if calibration is not None:
        if calibration.warning:
            print(calibration.warning, file=sys.stderr)
        check_readable(calibration.images)
    if config.dry_run or len(given) <= config.verify_count:  # else they are read when some are chosen
        check_readable(some_of(given.images, search_order(len(given), config.verify_count)))
    return given, calibration


def find_calibration(config: ExportConfig) -> Calibration:
    """What int8 is calibrated on: what was named, else what else is there, without the split that AP is measured on."""
    if config.calibration is not None:
        return calibration_images(config.calibration)
    splits = () if config.split is None else (config.split,)
    train = None if config.data is None else train_split(config.data, splits)
    found = calibration_images(train or config.verify_images)
    if train is None and config.data is not None and config.verify_images is None:
        why = f"{found.warning} {config.data} has no training split beside the one that AP is measured on."
        return replace(found, warning=why)
    return found


def find_verification(config: ExportConfig, dataset: Dataset | None, calibration: Calibration | None) -> GivenImages:
    """The images among which those to verify on are chosen: what was named, else what else was given."""
    if config.verify_images is not None or (dataset is None and config.calibration is None):
        found = given_images(config.verify_images)
    elif dataset is not None:
        found = GivenImages(dataset.read_images(), str(dataset.source))
    else:
        assert calibration is not None  # `check` refuses --calibration without int8
        found = GivenImages(calibration.images, calibration.source)
    same = calibration is not None and found.source == calibration.source
    return replace(found, source=f"{found.source}, on which int8 is calibrated") if same else found


def chosen_to_verify(config: ExportConfig, given: GivenImages, reference: Runtime) -> GivenImages:
    """At most `--verify-count` of them, those first on which the reference detects what counts in all precisions."""
    score = max(TOLERANCES[precision].alone_score for precision in config.precision)
    return replace(given, images=choose_images(reference, given.images, config.verify_count, score))

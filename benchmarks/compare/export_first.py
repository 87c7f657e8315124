"""What `compare --export` writes before anything is compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import tyro

from runtimes.errors import InvalidInput
from runtimes.spec import ModelSpec, Precision
from yolox_deploy.categories import check_classes
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.data.image_source import train_split
from yolox_deploy.options import Images

if TYPE_CHECKING:
    from .__main__ import CompareConfig

Target = Literal["onnx", "openvino", "ncnn"]  # those of a processor


@dataclass(frozen=True)
class ExportFirst:
    """Export before comparing."""

    export: Annotated[str | None, tyro.conf.arg(metavar="NAME|FILE")] = None
    """Model to export first: a variant's name (official weights, downloaded once) or a checkpoint."""
    target: tuple[Literal[Target, "all"], ...] = ("all",)
    """With --export: what to export to."""
    precision: tuple[Literal[Precision, "all"], ...] = ("all",)
    """With --export: what to export in."""
    calibration: Images = None
    """With --export and int8: images like those that the model will see, a folder or a data set (DATA:SPLIT; unset,
    train). Unset, the training split of --data, else --images, else generated ones."""
    max_ap_drop: float | None = None
    """With --export and --data: points of AP, 0 to 100, that may be lost; int8 gets more layers in float until it
    holds."""
    output: Path = Path("artifacts")
    """With --export: folder for the artifacts. Those of this checkpoint that are there are taken as they are."""

    def jobs(self) -> list[tuple[Target, Precision]]:
        """Targets and precisions of what is exported."""
        targets: tuple[Target, ...] = get_args(Target)
        precisions: tuple[Precision, ...] = get_args(Precision)
        return [
            (target, precision)
            for target in targets
            for precision in precisions
            if {target, "all"} & set(self.target) and {precision, "all"} & set(self.precision)
        ]


def export_first(config: CompareConfig, weights: Path, dataset: Dataset | None) -> list[str]:
    """Export what is not there yet; in a dry run, see whether it can be. Returns the artifacts.

    Raises `InvalidInput` for one of another checkpoint, and for classes that are not the data's.
    """
    from yolox_deploy import export
    from yolox_deploy.model.checkpoint import read_checkpoint
    from yolox_deploy.model.open import describe

    first, checkpoint = config.first, read_checkpoint(weights)
    if dataset is not None:
        check_classes(describe(checkpoint.build(), checkpoint, class_names=config.foreign.class_names).spec, dataset)
    artifacts, missing = [], dict[Precision, list[Target]]()
    for target, precision in first.jobs():
        folder = first.output / f"{checkpoint.variant}-{target}-{precision}"
        artifacts.append(str(folder))
        if folder.exists():
            if ModelSpec.read(folder / "spec.json").source_sha256 != checkpoint.sha256:
                raise InvalidInput(f"{folder} was made from another checkpoint: --output says where else to write.")
            print(f"{folder} is there already, and is compared as it was exported")
        else:
            missing.setdefault(precision, []).append(target)
    splits = () if config.split is None else (config.split,)
    train = None if config.data is None else train_split(config.data, splits)
    labelled = config.data if config.split is None else Path(f"{config.data}:{config.split}")
    for precision, targets in missing.items():
        export.command(
            export.ExportConfig(
                weights=weights,
                target=tuple(targets),
                precision=(precision,),
                output=first.output,
                class_names=config.foreign.class_names,
                preprocessing=config.foreign.preprocessing,
                network=config.foreign.network,
                verify_images=config.images or labelled,
                verify_count=config.parity_images,
                calibration=(first.calibration or train or config.images) if precision == "int8" else None,
                data=config.data if first.max_ap_drop is not None else None,
                split=config.split if first.max_ap_drop is not None else None,
                max_ap_drop=first.max_ap_drop,
                dry_run=config.dry_run,
            )
        )
    return artifacts

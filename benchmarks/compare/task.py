"""What is compared: loaded once and checked, before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtimes.detector import Detector
from runtimes.errors import InvalidInput
from runtimes.load import load, model_file
from runtimes.preprocess import Image
from runtimes.proof import weights_beside
from runtimes.spec import ModelSpec
from runtimes.trt_engine import LIBRARIES
from yolox_deploy.accuracy import SCORE_THRESHOLD
from yolox_deploy.categories import check_classes, match_categories
from yolox_deploy.data.dataset import Dataset
from yolox_deploy.options import ModelOptions

from .speed import Contender, SpeedPlan


@dataclass(frozen=True, eq=False)
class Task:
    """What is compared, checked. specs: of the contenders, by name; data: None where there are no labels. images: for
    times, and to choose from for parity; source: where they are from. warnings: which classes AP leaves out."""

    contenders: Sequence[Contender]
    specs: Mapping[str, ModelSpec]
    baseline: str
    reference: Path
    foreign: ModelOptions  # what the reference does not say of itself
    dataset: Dataset | None
    images: Sequence[Image]
    source: str
    real: Sequence[Image]  # those of `images` that were given, not generated
    parity_images: int
    threads: int
    plan: SpeedPlan
    warnings: Sequence[str] = ()


def read_specs(contenders: Sequence[Contender], dataset: Dataset | None) -> dict[str, ModelSpec]:
    """Load each contender once. Raises `UserError` where one does not run here, or does not suit the data or others."""
    specs: dict[str, ModelSpec] = {}
    for contender in contenders:
        with load(contender.artifact, **contender.options) as detector:
            spec = specs[contender.name] = detector.spec
            if dataset is not None:
                Detector(detector.runtime, SCORE_THRESHOLD)  # refuses NMS in the graph that drops what AP needs
    first = next(iter(specs))
    for name, spec in specs.items():
        if spec.input_size != specs[first].input_size:
            raise InvalidInput(
                f"{name} has the input size {size_text(spec)}, {first} has {size_text(specs[first])}: compare those of"
                " one size (yolox-deploy tune looks for the best size)."
            )
    check_same_classes(specs, dataset)
    return specs


def check_same_classes(specs: Mapping[str, ModelSpec], dataset: Dataset | None) -> None:
    """Raise `InvalidInput` where AP of one would be that of other classes of the data than AP of another."""
    if dataset is None:
        return
    found = {name: set(match_categories(spec, dataset)) - {None} for name, spec in specs.items()}
    first = next(iter(found))
    for name, categories in found.items():
        if categories != found[first]:
            other = next(number for number in dataset.categories if (number in categories) != (number in found[first]))
            raise InvalidInput(
                f"{name} and {first} do not have the same classes of {dataset.source}, such as"
                f" {dataset.categories[other]!r}: their AP cannot be compared."
            )


def warnings_of(specs: Mapping[str, ModelSpec], dataset: Dataset | None) -> tuple[str, ...]:
    """Say which classes AP leaves out, each sentence once, and return what was said."""
    if dataset is None:
        return ()
    return tuple(dict.fromkeys(sentence for spec in specs.values() for sentence in check_classes(spec, dataset)))


def size_text(spec: ModelSpec) -> str:
    """Height x width."""
    return "x".join(map(str, spec.input_size))


def model_files(artifact: Path) -> list[Path]:
    """The model file of an artifact, and the weights where those are a file of their own."""
    file = model_file(artifact)
    weights = weights_beside(file)
    return [file, weights] if file.suffix.lower() in (".xml", ".param") and weights.exists() else [file]


def is_engine(artifact: Path) -> bool:
    return model_file(artifact).suffix.lower() in LIBRARIES

"""yolox-deploy diverge: the first layer in which an artifact leaves its checkpoint, and why.

Both run on one image, and every convolution of one is compared with that of the other. Prints a table of the layers
with the error's growth, the verdict, and one JSON line. Exits with 1 where the artifact is not its reference.

For the backends of a processor: of an engine, give the ONNX file that it was built from. Graphs run as they stand in
the file; what a backend's optimizations change is seen by the comparison that `export` makes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import tyro
from torch import Tensor

from exporters.graph import rewrite
from runtimes.errors import InvalidInput
from runtimes.foreign import Preprocessing
from runtimes.load import RUNTIMES, model_file
from runtimes.preprocess import Image, preprocess
from runtimes.runtime import check_input
from runtimes.spec import ModelSpec
from yolox_deploy.console import require, run
from yolox_deploy.data.images import read_image
from yolox_deploy.files import check_output_file
from yolox_deploy.json_output import NotPassed
from yolox_deploy.model.open import TrainedModel, open_trained
from yolox_deploy.model.trained_with import NetworkOptions
from yolox_deploy.model_argument import FirstModel, ModelOption, find_artifact, find_checkpoint, model_and_other
from yolox_deploy.options import ForeignOptions, Json, open_artifact

from .causes import Judge, explain_network
from .input import SAME, as_floats, explain_input, recipe_of
from .output import OUTPUT_TOLERANCE, explain_output, output_error
from .report import INPUT, OUTPUT, Divergence, Row, plot
from .taps import TAPS, Seen, Tap
from .walk import TOLERANCES, Layer, align, find_layers, relative_error, walk

TYPE_NEXT = "yolox-deploy diverge CHECKPOINT ARTIFACT --image FILE"


@dataclass(frozen=True, kw_only=True)
class DivergeConfig:
    """Find the first layer in which an artifact differs from its checkpoint, and the cause."""

    reference: FirstModel = ""
    """Checkpoint, or a variant's name for the official weights."""
    artifact: Annotated[str, tyro.conf.Positional] = ""
    """Artifact for ONNX Runtime, OpenVINO or NCNN: its folder, or the model file in it."""
    weights: ModelOption = ()
    """The same as REFERENCE; then ARTIFACT stands alone."""
    image: Path
    """Image that both run on."""
    input: Path | None = None
    """What your own code feeds the artifact for this image (.npy), in place of what its spec says."""
    tolerance: float | None = None
    """Relative error that a layer may add; unset, that of the precision which the artifact's spec promises."""
    bf16: bool = False
    """Compute in bfloat16 (OpenVINO, NCNN), to see what that costs."""
    plot: Path | None = None
    """Draw the error's growth into this file (PNG)."""
    reference_preprocessing: Preprocessing | None = None
    """How the checkpoint was trained: official (BGR, 0..255) or legacy (release 0.0.1: RGB, ImageNet mean and std);
    unset, what it says itself, else official."""
    json: Json = None
    """File for the result as JSON, {"sound", "first", "cause", "rows", "findings", ...}; "-" is standard output, which
    then holds nothing else."""
    network: Annotated[NetworkOptions, tyro.conf.arg(name="checkpoint")] = field(default_factory=NetworkOptions)
    foreign: Annotated[ForeignOptions, tyro.conf.arg(name="third-party files")] = field(default_factory=ForeignOptions)


def diverge(
    reference: TrainedModel,
    path: Path,
    spec: ModelSpec,
    image: Image,
    fed: npt.NDArray[Any] | None = None,
    tolerance: float | None = None,
    bf16: bool = False,
) -> Divergence:
    """Compare the artifact in `path`, of which `spec` is the promise, with its reference, on one image.

    fed: (1, ...), what the artifact gets in place of what its spec says. tolerance, bf16: see `DivergeConfig`. Raises
    `InvalidInput` for an artifact of another variant or other classes.
    """
    own = reference.spec  # of which only the preprocessing counts
    right = replace(spec, channel_order=own.channel_order, normalization=own.normalization, pad_value=own.pad_value)
    expected, _ = preprocess([image], replace(right, uint8_input=False))
    fed = preprocess([image], spec)[0] if fed is None else fed
    found = as_floats(fed, spec)
    network = rewrite(reference.model)
    layers, outputs, raw = find_layers(network, expected)
    seen = _tap(path, spec, fed, bf16)
    taps, aligned = align(layers, seen.taps)
    errors = _errors(layers, outputs, taps)
    rows = [Row(INPUT, relative_error(expected, found), None, relative_error(expected, found) > SAME)]

    findings = explain_input(image, recipe_of(right), recipe_of(spec), expected, found)
    total = output_error(raw.numpy(), seen.output, spec)
    if findings:  # from here on with the right input, so that what it does is not taken for the network's
        seen = _tap(path, spec, preprocess([image], right)[0], bf16)
        taps, _ = align(layers, seen.taps)
    steps, forced = walk(network, taps, expected)
    judge = Judge(spec.precision, tolerance)
    off = judge.off(steps)
    rows += [Row(step.path, errors[step.path], step.own, step in off, step.unexplained) for step in steps]
    findings += explain_network(reference.model, layers[0], taps, expected, judge, off)
    notes = []
    if findings and max(errors.values()) <= TOLERANCES["fp32"]:
        findings, notes = [], ["the input differs, and the first layer makes up for it."]
    findings += explain_output(forced.numpy(), seen.output, spec)
    own_error = output_error(forced.numpy(), seen.output, spec)
    if total is None or own_error is None:
        notes.append("the output comes from NMS in the graph, and was not compared.")
    else:
        rows.append(Row(OUTPUT, total, own_error, own_error > OUTPUT_TOLERANCE))
    order = [row.name for row in rows]
    findings.sort(key=lambda finding: order.index(finding.layers[0]))
    return Divergence(own.name, str(path), spec.precision, aligned, tuple(rows), tuple(findings), tuple(notes))


def _tap(path: Path, spec: ModelSpec, fed: npt.NDArray[Any], bf16: bool) -> Seen:
    images = np.repeat(fed, spec.batch or 1, axis=0)
    check_input(images, spec)
    seen = TAPS[path.suffix.lower()](path, images, bf16)
    return seen if spec.nms else replace(seen, output=seen.output[:1])


def _errors(layers: Sequence[Layer], outputs: Mapping[str, Tensor], taps: Mapping[str, Tap]) -> dict[str, float]:
    """How far each layer's output is from that of the reference by itself."""
    return {
        layer.path: relative_error(outputs[layer.path], layer.artifact_output(taps[layer.path])) for layer in layers
    }


def read_spec(path: Path, foreign: ForeignOptions) -> ModelSpec:
    """What an artifact promises, checked against its graph, whether or not it is the file that was proven."""
    if path.suffix.lower() not in TAPS:
        raise InvalidInput(f"{path} does not show its layers: give the ONNX file that it was built from.")
    if foreign.given and path.suffix.lower() == ".param":
        raise InvalidInput(f"{path}: the layers of a third party's NCNN file are not shown: compare it by `parity`.")
    if foreign.given:
        runtime = open_artifact(path, foreign, 1.0, None, 1).runtime
    else:
        runtime = RUNTIMES[path.suffix.lower()](path, threads=1)
    runtime.close()
    return runtime.spec


def read_input(path: Path) -> npt.NDArray[Any]:
    """The first image of a batch in a `.npy` file, (1, ...); floats become float32. Raises `InvalidInput`."""
    try:
        values: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidInput(f"--input {path} is not an array that numpy saved: {error}.") from None
    batch = values if values.ndim == 4 else values[None]
    return batch[:1].astype(np.float32) if batch.dtype.kind == "f" else batch[:1]


def command(config: DivergeConfig) -> dict[str, Any]:
    reference, artifact = model_and_other(config.reference, config.artifact, config.weights, TYPE_NEXT)
    if config.plot is not None:
        check_output_file(config.plot, "--plot")
        require("matplotlib")
    path = model_file(find_artifact(artifact))
    spec = read_spec(path, config.foreign)
    trained_with = config.network.with_input(config.reference_preprocessing)
    checkpoint = find_checkpoint(reference)
    trained = open_trained(checkpoint, trained_with, name=checkpoint.stem)
    trained.say()
    fed = None if config.input is None else read_input(config.input)
    result = diverge(trained, path, spec, read_image(config.image), fed, config.tolerance, config.bf16)
    print(result)
    if config.plot is not None:
        plot(result, config.plot)
    print(result.last_line(), flush=True)
    if not result:
        says = f"{artifact} is not the model in {reference}: see the verdict."
        raise NotPassed(says, result.to_dict())
    return result.to_dict()


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy diverge", DivergeConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

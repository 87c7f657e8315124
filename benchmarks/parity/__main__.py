"""yolox-deploy parity: are these artifacts still the model that was trained? For your own CI, before shipping.

    yolox-deploy parity artifacts/* --reference my_yolox.pth --images my_images --junit parity.xml

Each artifact is compared with the reference in tensors and detections, by the tolerances of its precision, and in what
its spec says. Prints one line a check, ends with one JSON line, and exits with 1 where a check fails.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from runtimes.errors import InvalidInput
from runtimes.json_file import json_text
from runtimes.load import is_artifact
from yolox_deploy.console import run
from yolox_deploy.files import check_output_file, write_text
from yolox_deploy.json_output import NotPassed
from yolox_deploy.model_argument import ModelOption, find_model, one_model
from yolox_deploy.options import Images, Json, ModelOptions
from yolox_deploy.progress import progress_bar
from yolox_deploy.verification import GivenImages, given_images

from ..reference import check_wanted, open_reference
from .checks import Examined, Result, examine
from .junit import junit_xml

TYPE_NEXT = "yolox-deploy parity ARTIFACT ... --reference MODEL, with the checkpoint that they were made from"
WORDS: dict[Result, str] = {"passed": "passed ", "failed": "FAILED ", "skipped": "skipped"}


@dataclass(frozen=True)
class ParityConfig:
    """Prove that artifacts are the reference model: same spec, same tensors, same detections."""

    artifacts: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="ARTIFACT ...")]
    """Artifacts: their folders, or the model files in them."""
    reference: str | None = None
    """What they have to equal: the checkpoint, a variant's name (official weights), or an artifact in fp32 without
    NMS or TopK in its graph."""
    weights: ModelOption = ()
    """The same as --reference."""
    images: Images = None
    """Images to compare on, all of them: a folder, or a data set (DATA:SPLIT; unset, val). Unset, generated ones."""
    junit: Path | None = None
    """Write a JUnit report (XML) to this file, one test case a check."""
    skip_missing: bool = False
    """Skip artifacts whose backend is not on this machine, instead of failing."""
    json: Json = None
    """File for JSON, {"passed", "reference", "images", "source", "artifacts"}; "-" is standard output, which then holds
    nothing else."""
    foreign: Annotated[ModelOptions, tyro.conf.arg(name="third-party files")] = field(default_factory=ModelOptions)


def check(config: ParityConfig) -> None:
    """Raise for what can be known to be wrong before any work."""
    if not any(map(is_artifact, config.artifacts)):
        raise InvalidInput("name the artifacts to compare with the reference.")
    if config.reference is None and not config.weights:
        raise InvalidInput(f"--reference names what the artifacts are compared with: {TYPE_NEXT}.")
    if config.junit is not None:
        check_output_file(config.junit, "--junit")


def print_checks(examined: Examined) -> None:
    for check in examined.checks:
        print(f"{WORDS[check.result]}  {examined.artifact}  {check.name}" + (check.message and f": {check.message}"))
    for note in examined.notes:
        print(f"note     {examined.artifact}: {note}")


def summary(examined: Sequence[Examined]) -> str:
    """Artifacts and checks, counted."""
    results = [check.result for one in examined for check in one.checks]
    counts = ", ".join(f"{results.count(result)} {result}" for result in WORDS)
    unseen = sum(one.report is None for one in examined)
    return f"artifacts: {len(examined)}; checks: {len(results)}, {counts}" + (
        f"; {unseen} of the artifacts could not be compared" if unseen else ""
    )


def to_dict(reference: Path, given: GivenImages, examined: Sequence[Examined]) -> dict[str, Any]:
    return {
        "passed": all(examined),
        "reference": str(reference),
        "images": len(given),
        "source": given.source,
        "artifacts": [one.to_dict() for one in examined],
    }


def command(config: ParityConfig) -> dict[str, Any]:
    check(config)
    named = find_model(one_model(config.reference, *config.weights, type_next=TYPE_NEXT))
    given = given_images(config.images)
    artifacts = [artifact for artifact in config.artifacts if is_artifact(artifact)]
    check_wanted(config.foreign, [named, *artifacts])
    reference = open_reference(named, config.foreign, given.real)
    if config.images is None:
        print(f"note     compared on {len(given)} generated images; --images DIR with your own says more.")
    examined = []
    for artifact in progress_bar(artifacts, unit="artifact", disable=len(artifacts) < 2 or None):
        examined.append(examine(artifact, reference, given.images, config.skip_missing, config.foreign))
        print_checks(examined[-1])
    reference.close()
    content = to_dict(named, given, examined)
    if config.junit is not None:
        write_text(config.junit, junit_xml(examined))
    print(summary(examined))
    print(json_text(content))
    failed = sum(not one for one in examined)
    if failed:
        raise NotPassed(f"{failed} of {len(examined)} artifacts are not proven to be the reference model.", content)
    return content


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy parity", ParityConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

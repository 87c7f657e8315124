"""yolox-deploy kit-score KIT RESULTS: does a runtime, in whatever language, do each step right?

RESULTS holds files of the kit's names, `<case>/<step>.bin`, any subset. Each step is judged by what it should make of
the step before it: of the runtime's own file, or the kit's where there is none; the detections from end to end as
well. Prints a line a step, ends with one JSON line, and exits with 1 where a step fails.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from exporters.kit.manifest import Kit
from exporters.kit.steps import ROWS, Array, make_step, read_step
from runtimes.errors import InvalidInput
from runtimes.json_file import json_text
from runtimes.spec import Precision
from yolox_deploy.console import run
from yolox_deploy.json_output import NotPassed
from yolox_deploy.options import Json

from .rows import Score, compare_outputs, compare_pixels, compare_rows


@dataclass(frozen=True)
class KitScoreConfig:
    """Score the results of a runtime against a conformance kit."""

    kit: Annotated[Path, tyro.conf.Positional]
    """Folder that `yolox-deploy kit` wrote."""
    results: Annotated[Path, tyro.conf.Positional]
    """Folder with the runtime's files, of the same names."""
    precision: Annotated[Precision | None, tyro.conf.arg(metavar="NAME")] = None
    """What the runtime computes in: fp32, fp16 or int8; unset, what the kit's model does."""
    json: Json = None
    """File for the scores as JSON, {"passed", "failed", "steps"}; "-" is standard output, which then holds nothing
    else."""


@dataclass(frozen=True)
class StepScore:
    """One step over all cases. largest: the largest of each figure. case: the first that fails, and why."""

    result: Literal["PASS", "FAIL", "absent"]
    cases: int
    of: int
    largest: dict[str, float] = field(default_factory=dict)
    case: str = ""
    problem: str = ""

    def __str__(self) -> str:
        if self.result == "absent":
            return "absent"
        figures = ", ".join(f"{name} {value:.2g}" for name, value in self.largest.items())
        text = f"{self.result}    {self.cases} of {self.of} cases, largest differences: {figures or 'none measured'}"
        return f"{text}; {self.case}: {self.problem}" if self.problem else text


def score_case(kit: Kit, case: str, folder: Path, precision: Precision) -> dict[str, Score]:
    """Each step of one case that the results have."""
    settings, ratio = kit.settings, float(kit.cases[case]["ratio"])
    own: dict[str, Array] = {}
    scores: dict[str, Score] = {}
    for step in kit.steps(case):
        path = folder / case / f"{step}.bin"
        if not path.exists():
            continue
        try:
            found = read_step(path, step, settings.spec)
        except InvalidInput as error:
            scores[step] = Score(str(error))
            continue
        before = own.get(settings.before(step) or "")
        expected = (
            kit.load(case, step) if before is None else make_step(step, before, settings, ratio, image_size(kit, case))
        )
        exact = before is not None or case == "made"
        scores[step] = compare(kit, step, expected, found, "exact" if exact else precision)
        if step == "detections" and before is not None and scores[step].problem is None:
            scores[step] = end_to_end(kit, case, found, precision)
        own[step] = found
    return scores


def image_size(kit: Kit, case: str) -> tuple[int, int] | None:
    """(height, width), where the case has an image."""
    image = kit.cases[case]["files"].get("image")
    return (int(image["shape"][0]), int(image["shape"][1])) if image else None


def end_to_end(kit: Kit, case: str, found: Array, precision: Precision) -> Score:
    """Detections against the kit's own, whatever they were made of: what one step may be off can add up."""
    score = compare(kit, "detections", kit.load(case, "detections"), found, precision)
    return score if score.problem is None else replace(score, problem=f"from end to end, {score.problem}")


def compare(kit: Kit, step: str, expected: Array, found: Array, tolerance: str) -> Score:
    """tolerance: "exact", or the precision of the network that lies between the two."""
    if step in ("letterbox", "input"):
        return compare_pixels(expected, found, kit.limits[step])
    limit = kit.tolerance(tolerance)
    if step in ROWS:
        return compare_rows(expected, found, limit, None if tolerance == "exact" else kit.settings.nms_threshold)
    return compare_outputs(expected, found, limit)


def score_step(step: str, kit: Kit, scores: Mapping[str, Mapping[str, Score]]) -> StepScore:
    """One step over the scores of all cases."""
    of = sum(step in kit.steps(case) for case in kit.cases)
    own = {case: found[step] for case, found in scores.items() if step in found}
    if not own:
        return StepScore("absent", 0, of)
    largest: dict[str, float] = {}
    for score in own.values():
        largest |= {name: max(value, largest.get(name, 0)) for name, value in score.figures.items()}
    for case, score in own.items():
        if score.problem is not None:
            return StepScore("FAIL", len(own), of, largest, case, score.problem)
    return StepScore("PASS", len(own), of, largest)


def score_results(kit: Kit, folder: Path, precision: Precision | None = None) -> dict[str, StepScore]:
    """Every step. Raises `InvalidInput` where the folder holds nothing of the kit's names."""
    scores = {case: score_case(kit, case, folder, precision or kit.settings.spec.precision) for case in kit.cases}
    if not any(scores.values()):
        first = next(iter(kit.cases))
        raise InvalidInput(f"{folder} holds no file of the kit's names, such as {first}/detections.bin.")
    return {step: score_step(step, kit, scores) for step in kit.settings.steps}


def command(config: KitScoreConfig) -> dict[str, Any]:
    kit = Kit.read(config.kit)
    steps = score_results(kit, config.results, config.precision)
    failed = [step for step, score in steps.items() if score.result == "FAIL"]
    for step, score in steps.items():
        print(f"{step:<12}{score}")
    content = {"passed": not failed, "failed": failed, "steps": {step: asdict(score) for step, score in steps.items()}}
    print(json_text(content))
    if failed:
        raise NotPassed(f"{len(failed)} of {len(steps)} steps fail; begin with {failed[0]}.", content)
    return content


def main(arguments: Sequence[str] | None = None) -> int:
    return run("yolox-deploy kit-score", KitScoreConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""kit.json: what lies in a conformance kit, and how close is close enough."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from runtimes.errors import InvalidInput
from runtimes.json_file import json_text
from runtimes.preprocess import IMAGENET_STD
from runtimes.spec import ModelSpec

from ..report import TOLERANCES, Tolerance
from .steps import STEPS, Array, Settings, read_step

MANIFEST = "kit.json"
FORMAT = 1


def tolerances(settings: Settings) -> dict[str, Any]:
    """By name, for the manifest: numbers for bytes and inputs, a `Tolerance` for each other kind of comparison.

    A resize other than OpenCV's may round a byte the other way. exact: every row of a list counts.
    """
    threshold = settings.score_threshold
    raw = settings.spec.uint8_input or settings.spec.normalization is None
    exact = Tolerance(tensor=1e-3, min_score=threshold, alone_score=threshold)
    return {
        "letterbox": 1.0,
        "input": 1.0 if raw else round(1.01 / 255 / min(IMAGENET_STD), 4),
        "exact": asdict(exact),
        **{precision: asdict(limit) for precision, limit in TOLERANCES.items()},
    }


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def describe_file(path: Path, array: Array, folder: Path) -> dict[str, Any]:
    """What the manifest says of a file that holds an array."""
    dtype = "uint8" if array.dtype == np.uint8 else "float32"
    name = path.relative_to(folder).as_posix()
    return {"file": name, "shape": list(array.shape), "dtype": dtype, "sha256": sha256(path)}


@dataclass(frozen=True)
class Kit:
    """A kit on disk. cases: what the manifest says of each, by name. limits: see `tolerances`."""

    folder: Path
    settings: Settings
    cases: Mapping[str, Mapping[str, Any]]
    limits: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Kit:
        """Raises `InvalidInput` where there is none, or one of another version."""
        path = folder / MANIFEST
        if not path.is_file():
            raise InvalidInput(f"{folder} is no conformance kit: it holds no {MANIFEST}.")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise InvalidInput(f"{path} has format {content['format']}, and this reads {FORMAT}: write a new kit.")
            spec, thresholds = ModelSpec.from_dict(content["spec"], str(path)), content["thresholds"]
            settings = Settings(spec, float(thresholds["score"]), float(thresholds["nms"]))
            return cls(folder, settings, {case["name"]: case for case in content["cases"]}, content["tolerances"])
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(f"{path} is damaged: {error!r}. Write a new kit.") from None

    def to_json(self) -> str:
        settings = self.settings
        content = {
            "format": FORMAT,
            "spec": asdict(settings.spec),
            "thresholds": {"score": settings.score_threshold, "nms": settings.nms_threshold},
            "tolerances": self.limits,
            "byte_order": "little",
            "cases": list(self.cases.values()),
        }
        return json_text(content, indent=2) + "\n"

    def steps(self, case: str) -> list[str]:
        """Those that this case has, in order."""
        return [step for step in STEPS if step in self.cases[case]["files"]]

    def load(self, case: str, step: str) -> Array:
        """What a step left here. Raises `InvalidInput` where the file is not what was written."""
        entry = self.cases[case]["files"][step]
        path = self.folder / entry["file"]
        if not path.is_file() or sha256(path) != entry["sha256"]:
            raise InvalidInput(f"{path} is missing or was changed: write a new kit.")
        return read_step(path, step, self.settings.spec)

    def tolerance(self, name: str) -> Tolerance:
        """That of "exact" or of a precision."""
        return replace(Tolerance(), **self.limits[name])

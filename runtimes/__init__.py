"""Run YOLOX artifacts: `load(path)` gives a `Detector`. Needs numpy and OpenCV, and the package of the backend used."""

from .coco import COCO_CATEGORY_IDS, COCO_CLASS_NAMES
from .detections import Detections
from .detector import Detector
from .errors import InvalidInput, MissingBackend, UserError
from .foreign import foreign_spec
from .load import load
from .runtime import Runtime
from .spec import GraphNMS, ModelSpec

__all__ = [
    "COCO_CATEGORY_IDS",
    "COCO_CLASS_NAMES",
    "Detections",
    "Detector",
    "GraphNMS",
    "InvalidInput",
    "MissingBackend",
    "ModelSpec",
    "Runtime",
    "UserError",
    "foreign_spec",
    "load",
]

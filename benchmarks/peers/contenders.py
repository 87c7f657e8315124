"""What takes part: the plain programs and libraries that are installed, and our artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtimes.errors import InvalidInput
from runtimes.foreign import foreign_spec
from runtimes.load import model_file
from runtimes.spec import ModelSpec
from yolox_deploy.console import is_installed
from yolox_deploy.options import default_class_names

from ..baselines.numpy_pipeline import CONTRACT, Rules
from ..compare.contenders import check_one_at_a_time, contenders_of
from ..compare.speed import Contender, is_bf16
from ..compare.task import read_specs, size_text

DEMO = "official demo"


@dataclass(frozen=True)
class Peer:
    """A program of `benchmarks.baselines`. needs: the module that has to be installed; install: what pip calls it."""

    name: str
    program: str
    needs: str
    install: str


# Those that run the official exporter's file. NCNN has files of its own.
PEERS = (
    Peer(DEMO, "official_demo:OfficialDemo", "onnxruntime", "onnxruntime"),
    Peer("plain OpenVINO", "plain_openvino:PlainOpenVINO", "openvino", "openvino"),
    Peer("OpenCV dnn", "opencv_dnn:OpenCVDnn", "cv2", "opencv-python-headless"),
    Peer("rtmlib", "rtmlib_yolox:RtmlibYolox", "rtmlib", "--no-deps rtmlib"),
)
PLAIN_NCNN = Peer("plain NCNN", "plain_ncnn:PlainNcnn", "ncnn", "ncnn")


def read_official(path: Path) -> ModelSpec:
    """What the official exporter's file is like. Raises `InvalidInput` for another."""
    import onnx

    if path.suffix != ".onnx" or not path.is_file():
        raise InvalidInput(f"--official {path} is no ONNX file.")
    try:
        [output] = onnx.load(path, load_external_data=False).graph.output
        columns = output.type.tensor_type.shape.dim[-1].dim_value
    except Exception as error:  # protobuf's decoding errors and others share no base class
        raise InvalidInput(f"--official {path} is not the ONNX file of a YOLOX model: {error}") from None
    spec = foreign_spec(path, default_class_names(columns - 5)[0], "official")
    if spec.decoded or spec.batch not in (1, None):
        raise InvalidInput(
            f"--official {path} has to be as the official exporter writes it, with batch 1 and boxes not decoded;"
            " so does yolox-deploy export --no-decode --no-uint8-input."
        )
    return spec


def ours_of(
    arguments: Sequence[str], threads: int, bf16: bool, official: ModelSpec
) -> tuple[list[Contender], dict[str, ModelSpec]]:
    """The artifacts, named. Raises `InvalidInput` for those of another size or class count, and with NMS inside."""
    found = contenders_of(arguments, threads, bf16)
    specs = read_specs(found, None)
    check_one_at_a_time(specs)
    for name, spec in specs.items():
        if (spec.input_size, spec.num_classes) != (official.input_size, official.num_classes):
            raise InvalidInput(
                f"{name} has {spec.num_classes} classes at {size_text(spec)}, --official has {official.num_classes} at"
                f" {size_text(official)}: they have to be of one model."
            )
        if spec.nms is not None:
            raise InvalidInput(f"{name} has NMS in its graph, whose thresholds cannot be those of the others.")
    return found, specs


def plain_ncnn_file(ours: Sequence[Contender], specs: Mapping[str, ModelSpec]) -> Path | None:
    """The first NCNN file in fp32."""
    files = [model_file(one.artifact) for one in ours if specs[one.name].precision == "fp32" and not is_bf16(one)]
    return next((file for file in files if file.suffix == ".param"), None)


def peers_of(official: Path, ncnn: Path | None, options: Mapping[str, Any]) -> tuple[list[Contender], list[str]]:
    """The programs that can run, and a sentence for each that cannot. options: those of them all."""
    found, absent = [], []
    for peer, file in (*((peer, official) for peer in PEERS), (PLAIN_NCNN, ncnn)):
        if not is_installed(peer.needs):
            absent.append(f"{peer.name} is left out, since it is not installed: pip install {peer.install}")
        elif file is None:
            absent.append(f"{peer.name} is left out, since no NCNN artifact in fp32 is given.")
        else:
            found.append(Contender(peer.name, file, dict(options), f"benchmarks.baselines.{peer.program}"))
    return found, absent


def at_thresholds(contender: Contender, rules: Rules) -> dict[str, Any]:
    """A contender's options, with the thresholds of `rules`, all of which only the programs follow."""
    own = {"score_threshold": rules.score_threshold, "nms_threshold": rules.nms_threshold}
    return {**contender.options, **({"rules": rules} if contender.program else own)}


def by_contract(contender: Contender) -> dict[str, Any]:
    """A contender's options, to detect as `runtimes` does."""
    return at_thresholds(contender, CONTRACT)

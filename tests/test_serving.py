"""What servers load. Real where the server's part can be had: OpenVINO reads its folder, ONNX Runtime runs the network
behind Triton's model, g++ compiles DeepStream's parser; the files' own syntax by golden text and their parsers."""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from exporters.artifact import Artifact
from exporters.serving.contract import Served, open_served
from exporters.serving.deepstream import check_deepstream, write_deepstream
from exporters.serving.deepstream import config as deepstream_config
from exporters.serving.ovms import check_ovms
from exporters.serving.triton import check_triton, detector_config, network_config
from runtimes import Detections, InvalidInput, ModelSpec, load
from runtimes.openvino import RT_INFO
from runtimes.postprocess import best_rows, corners
from runtimes.preprocess import Image, preprocess
from runtimes.spec import GraphNMS
from runtimes.trt_engine import EngineInfo, sha256
from tests import fake_triton
from yolox_deploy import serving

# Those of nvinfer's file that are used here, as NVIDIA's documentation of Gst-nvinfer lists them.
NVINFER_KEYS = {
    "gpu-id", "gie-unique-id", "onnx-file", "model-engine-file", "labelfile-path", "network-type", "network-mode",
    "num-detected-classes", "batch-size", "process-mode", "infer-dims", "network-input-order", "model-color-format",
    "net-scale-factor", "offsets", "maintain-aspect-ratio", "symmetric-padding", "scaling-filter", "cluster-mode",
    "custom-lib-path", "parse-bbox-func-name",
}  # fmt: skip

PLAIN = ModelSpec("toys", (64, 96), ("cat", "dog"))


def served(suffix: str = ".onnx", profile: tuple[int, int, int] | None = None, **changes: Any) -> Served:
    return Served(Path(f"model{suffix}"), replace(PLAIN, **changes), profile)


def lay_out(artifact: Path, output: Path, *options: str) -> int:
    return serving.main([str(artifact), "--output", str(output), *options])


@pytest.fixture(scope="module")
def laid_out(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dynamic ONNX artifact for every server."""
    output = tmp_path_factory.mktemp("serving")
    assert lay_out(artifact.folder, output, "--server", "triton", "deepstream", "ovms") == 0
    return output


GOLDEN = """name: "toys-network"
backend: "onnxruntime"
max_batch_size: 8
input [ { name: "images" data_type: TYPE_UINT8 dims: [ 64, 96, 3 ] } ]
output [ { name: "output" data_type: TYPE_FP32 dims: [ 126, 7 ] } ]
dynamic_batching { }
"""


def test_the_network_in_triton() -> None:
    assert network_config(served(batch=None, uint8_input=True)) == GOLDEN
    fixed = network_config(served(batch=3))
    assert "max_batch_size: 0\n" in fixed and "dynamic_batching" not in fixed
    assert "data_type: TYPE_FP32 dims: [ 3, 3, 64, 96 ]" in fixed and "dims: [ 3, 126, 7 ]" in fixed
    assert "max_batch_size: 32\n" in network_config(served(".engine", (1, 4, 32), batch=None))
    openvino = network_config(served(".xml", batch=None))  # whose backend computes the largest batch each time
    assert 'backend: "openvino"\nmax_batch_size: 0\n' in openvino and "dims: [ -1, 3, 64, 96 ]" in openvino
    rows = network_config(served(batch=None, nms=GraphNMS(0.25, 0.65)))  # no batch of anything
    assert "max_batch_size: 0\n" in rows and "dims: [ -1, 7 ]" in rows
    assert "dims: [ 50, 6 ]" in network_config(served(batch=None, topk=50))


@pytest.mark.parametrize("name", ["toys", 'a "b" ä', "..", "<script>"])
def test_triton_reads_its_files(name: str) -> None:
    """By Triton's own protobuf definition."""
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs tritonclient and grpcio")
    from google.protobuf import text_format

    one = served(batch=None, uint8_input=True, name=name)
    network = text_format.Parse(network_config(one), messages.ModelConfig())
    assert (network.name, network.backend, network.max_batch_size) == (f"{one.name}-network", "onnxruntime", 8)
    assert [*network.input[0].dims], [*network.output[0].dims] == ([64, 96, 3], [126, 7])
    assert network.HasField("dynamic_batching") and network.input[0].data_type == messages.TYPE_UINT8
    detector = text_format.Parse(detector_config(one), messages.ModelConfig())
    assert detector.parameters["network"].string_value == network.name
    assert [output.name for output in detector.output] == ["xyxy", "confidence", "class_id", "class_name"]


@pytest.mark.parametrize(
    ("name", "folder"), [("toys", "toys"), ("..", "model"), ("a b/c".replace("/", "ä"), "a-b-c"), (".x-", "x")]
)
def test_a_name_stays_in_its_folder_and_in_an_address(name: str, folder: str) -> None:
    assert served(name=name).name == folder


@pytest.fixture
def triton_model(laid_out: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The Python model as Triton imports it: the runtime beside it, not this repository's."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", fake_triton)
    monkeypatch.setattr(fake_triton, "repository", laid_out / "triton")
    version = laid_out / "triton" / "yolox-nano" / "1"
    monkeypatch.syspath_prepend(str(version))
    found = importlib.util.spec_from_file_location("triton_model_under_test", version / "model.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    assert Path(sys.modules["yolox_runtimes"].__file__ or "").parent == version / "yolox_runtimes"
    yield module
    for name in [name for name in sys.modules if name.split(".")[0] == "yolox_runtimes"]:
        del sys.modules[name]


def model_config(thresholds: tuple[float, float], network: str = "yolox-nano-network") -> dict[str, str]:
    """As Triton hands it over."""
    values = {"network": network, "score_threshold": str(thresholds[0]), "nms_threshold": str(thresholds[1])}
    return {"model_config": json.dumps({"parameters": {name: {"string_value": text} for name, text in values.items()}})}


def test_triton_detects_what_we_detect(triton_model: ModuleType, artifact: Artifact, images: list[Image]) -> None:
    model = triton_model.TritonPythonModel()
    model.initialize(model_config((0.02, 0.65)))
    files = [cv2.imencode(".png", image)[1].tobytes() for image in images]
    responses = model.execute([fake_triton.request_of(file) for file in [*files, b"no image", b""]])
    with load(artifact.folder, score_threshold=0.02) as detector:
        expected = detector(images)
    assert sum(map(len, expected)) > 20
    for response, right in zip(responses, expected, strict=False):
        found = {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors}
        np.testing.assert_allclose(found["xyxy"], right.xyxy, atol=1e-3)
        np.testing.assert_allclose(found["confidence"], right.confidence, atol=1e-5)
        assert found["class_id"].tolist() == right.class_id.tolist()
        assert [name.decode() for name in found["class_name"]] == [
            detector.spec.class_names[class_id] for class_id in right.class_id
        ]
    for response in responses[5:]:  # an error of its own, and of nobody else
        assert response.error().code == fake_triton.TritonError.INVALID_ARG
        assert response.error().message() == "this is not an image that OpenCV reads."
    model.spec = replace(model.spec, batch=3)  # is filled up, and the copies are forgotten
    (response,) = model.execute([fake_triton.request_of(files[2])])
    assert response.output_tensors[0].as_numpy().shape == expected[2].xyxy.shape
    model.initialize(model_config((0.02, 0.65), "another"))
    (response,) = model.execute([fake_triton.request_of(files[0])])
    assert response.error().message() == "there is no model another"


def test_the_files_of_triton(laid_out: Path, artifact: Artifact) -> None:
    folder = laid_out / "triton"
    network = folder / "yolox-nano-network"
    assert (network / "1" / "model.onnx").read_bytes() == (artifact.folder / "model.onnx").read_bytes()
    assert (network / "labels.txt").read_text().splitlines()[:2] == ["person", "bicycle"]
    assert "instance_group [ { kind: KIND_CPU count: 2 } ]" in (folder / "yolox-nano" / "config.pbtxt").read_text()
    readme = (folder / "README.md").read_text()
    assert "| `images` | float32 | (N, 3, 256, 320) | BGR, 0..255; letterboxed |" in readme
    assert "| `output` | float32 | (N, 1680, 85) |" in readme


@pytest.fixture(scope="module")
def openvino_folder(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OpenVINO artifact, and what is laid out of it."""
    import openvino

    output = tmp_path_factory.mktemp("ovms")
    spec = replace(ModelSpec.read(artifact.folder / "spec.json"), name="small one")
    model = openvino.convert_model(artifact.model)
    model.set_rt_info(spec.to_json(), RT_INFO)
    (output / "artifact").mkdir()
    openvino.save_model(model, output / "artifact" / "model.xml", compress_to_fp16=False)
    (output / "artifact" / "spec.json").write_text(spec.to_json())
    assert lay_out(output / "artifact", output, "--server", "ovms", "triton") == 0
    return output


def test_openvino_model_server(openvino_folder: Path, images: list[Image], monkeypatch: pytest.MonkeyPatch) -> None:
    """config.json as documented; OpenVINO runs what it names, asked by the code in README.md."""
    import openvino

    folder = openvino_folder / "ovms"
    (entry,) = json.loads((folder / "config.json").read_text())["model_config_list"]
    config = entry["config"]
    assert config == {
        "name": "small-one",
        "base_path": "small-one",
        "target_device": "CPU",
        "plugin_config": {"INFERENCE_PRECISION_HINT": "f32"},
    }
    core = openvino.Core()
    compiled = core.compile_model(folder / config["base_path"] / "1" / "model.xml", "CPU", config["plugin_config"])

    class Client:
        """What the code asks of tritonclient.grpc, for which there is no server here."""

        def __init__(self, name: str, *_: object) -> None:
            self.name = name

        def set_data_from_numpy(self, values: Any) -> None:
            self.values = values

        def infer(self, model: str, inputs: list[Any]) -> Client:
            assert model == config["name"]
            self.values = compiled({one.name: one.values for one in inputs})["output"]
            return self

        def as_numpy(self, name: str) -> Any:
            assert name == "output"
            return self.values

    fake = ModuleType("tritonclient.grpc")
    fake.InferInput, fake.InferenceServerClient = Client, Client  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tritonclient", ModuleType("tritonclient"))
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", fake)
    monkeypatch.setattr(sys.modules["tritonclient"], "grpc", fake, raising=False)
    monkeypatch.chdir(folder)
    cv2.imwrite("street.jpg", images[2])
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert code
    script = code[1].replace("yolox_runtimes", "runtimes").replace("0.25, 0.65", "0.02, 0.65")
    found: list[Detections] = []
    exec(script.replace("print(", "keep("), {"keep": lambda *parts: found.append(Detections(*parts))})
    with load(openvino_folder / "artifact", score_threshold=0.02) as detector:
        expected = detector(cv2.imread("street.jpg"))  # type: ignore[arg-type]
    (folder / "street.jpg").unlink()
    assert len(expected) > 2
    np.testing.assert_allclose(found[0].xyxy, expected.xyxy, atol=1e-3)
    assert found[0].class_id.tolist() == expected.class_id.tolist()


def test_openvino_in_triton_brings_its_weights(openvino_folder: Path) -> None:
    version = openvino_folder / "triton" / "small-one-network" / "1"
    assert sorted(path.name for path in version.iterdir()) == ["model.bin", "model.xml"]
    assert "bf16" in (openvino_folder / "triton" / "README.md").read_text()


def test_the_configuration_of_nvinfer() -> None:
    parsed = configparser.ConfigParser()
    parsed.read_string(deepstream_config(served(batch=None)))
    assert parsed.sections() == ["property", "class-attrs-all"]
    values = dict(parsed["property"])
    assert set(values) <= NVINFER_KEYS
    assert dict(parsed["class-attrs-all"]) == {"pre-cluster-threshold": "0.25", "nms-iou-threshold": "0.65"}
    assert (values["net-scale-factor"], values["offsets"]) == ("1.0", "0;0;0")
    assert (values["maintain-aspect-ratio"], values["symmetric-padding"]) == ("1", "0")
    assert values["infer-dims"] == "3;64;96"
    assert (values["model-color-format"], values["network-mode"], values["num-detected-classes"]) == ("1", "0", "2")
    assert values["parse-bbox-func-name"] == "NvDsInferParseYolox"
    half = deepstream_config(served(precision="fp16", channel_order="RGB", batch=4, topk=9))
    for line in ("network-mode=2", "model-color-format=0", "batch-size=4", "=NvDsInferParseYoloxBest"):
        assert f"{line}\n" in half
    assert "trained with 114" in half


def test_an_engine_in_deepstream_brings_what_it_was_built_from(tmp_path: Path) -> None:
    source = tmp_path / "artifact"
    source.mkdir()
    for name in ("model.engine", "model.onnx"):
        (source / name).write_text(name)
    for precision, files in (("fp16", ["model.engine", "model.onnx"]), ("int8", ["model.engine"])):
        folder = tmp_path / precision
        folder.mkdir()
        one = Served(source / "model.engine", replace(PLAIN, precision=precision), None)
        write_deepstream(one, folder)
        assert sorted(path.name for path in folder.glob("model*")) == files
        text = (folder / "config_infer_primary.txt").read_text()
        assert "model-engine-file=model.engine\n" in text
        assert ("onnx-file=model.onnx\n" in text) == (len(files) == 2)


def test_an_engine_in_triton_takes_what_it_was_built_for(tmp_path: Path) -> None:
    (tmp_path / "model.engine").write_text("a plan")
    (tmp_path / "spec.json").write_text(replace(PLAIN, batch=None).to_json())
    info = EngineInfo(
        library="tensorrt", version="10", gpu="a GPU", compute_capability="9.0", driver=None, precision="fp16",
        flags=(), profile=(1, 4, 32), optimization_level=None, workspace_mib=None, onnx_sha256="",
        build_seconds=1.0, rebuild="", engine_sha256=sha256(b"a plan"),
    )  # fmt: skip
    (tmp_path / "engine.json").write_text(info.to_json())
    assert lay_out(tmp_path, tmp_path / "out", "--server", "triton") == 0
    network = tmp_path / "out" / "triton" / "toys-network"
    assert (network / "1" / "model.plan").read_text() == "a plan"
    assert 'backend: "tensorrt"\nmax_batch_size: 32\n' in (network / "config.pbtxt").read_text()
    (tmp_path / "model.onnx").write_text("of another")  # from which a server may build it anew
    with pytest.raises(InvalidInput, match=r"not the file that model\.engine was built from"):
        open_served(tmp_path)
    (tmp_path / "model.engine").write_text("another plan")
    with pytest.raises(InvalidInput, match=r"not the file that engine\.json tells of"):
        open_served(tmp_path)


HEADER = """// The part of DeepStream's header that the parser uses, with the same names and types.
#pragma once
#include <vector>
typedef enum { FLOAT = 0, HALF = 1, INT8 = 2, INT32 = 3 } NvDsInferDataType;
typedef struct { unsigned int numDims; unsigned int d[8]; unsigned int numElements; } NvDsInferDims;
typedef struct { NvDsInferDataType dataType; union { NvDsInferDims inferDims; NvDsInferDims dims; };
  int bindingIndex; const char* layerName; void* buffer; int isInput; } NvDsInferLayerInfo;
typedef struct { unsigned int width, height, channels; } NvDsInferNetworkInfo;
typedef struct { unsigned int classId; float left, top, width, height, detectionConfidence; float rotation_angle; }
  NvDsInferObjectDetectionInfo;
#define NvDsInferParseObjectInfo NvDsInferObjectDetectionInfo
typedef struct { unsigned int numClassesConfigured; std::vector<float> perClassPreclusterThreshold;
  std::vector<float> perClassPostclusterThreshold; } NvDsInferParseDetectionParams;
typedef bool (*NvDsInferParseCustomFunc)(std::vector<NvDsInferLayerInfo> const&, NvDsInferNetworkInfo const&,
  NvDsInferParseDetectionParams const&, std::vector<NvDsInferObjectDetectionInfo>&);
#define CHECK_CUSTOM_PARSE_FUNC_PROTOTYPE(name) static NvDsInferParseCustomFunc check_##name = name;
"""
DRIVER = """#include <cstdio>
#include <cstdlib>
#include <cstring>
#include "nvdsinfer_yolox.cpp"
int main(int, char** words) {  // function, rows, columns, classes, width, height, threshold; floats from stdin
  unsigned rows = atoi(words[2]), columns = atoi(words[3]), classes = atoi(words[4]);
  std::vector<float> values(rows * columns);
  if (fread(values.data(), 4, values.size(), stdin) != values.size()) return 2;
  NvDsInferLayerInfo layer{};
  layer.dataType = FLOAT;
  layer.inferDims.numDims = 2;
  layer.inferDims.d[0] = rows;
  layer.inferDims.d[1] = columns;
  layer.buffer = values.data();
  NvDsInferNetworkInfo network{(unsigned)atoi(words[5]), (unsigned)atoi(words[6]), 3};
  NvDsInferParseDetectionParams wanted{classes, std::vector<float>(classes, atof(words[7])), {}};
  Objects objects;
  auto parse = strcmp(words[1], "best") ? NvDsInferParseYolox : NvDsInferParseYoloxBest;
  if (!parse({layer}, network, wanted, objects)) return 3;
  for (auto& one : objects)
    printf("%.9g %.9g %.9g %.9g %.9g %u\\n", one.left, one.top, one.left + one.width, one.top + one.height,
           one.detectionConfidence, one.classId);
}
"""


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """DeepStream's parser as a program."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    folder = tmp_path_factory.mktemp("parser")
    (folder / "nvdsinfer_custom_impl.h").write_text(HEADER)
    (folder / "driver.cpp").write_text(DRIVER)
    shutil.copy(Path(serving.__file__).parents[1] / "exporters" / "serving" / "nvdsinfer_yolox.cpp", folder)
    command = ["g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Wno-unused-variable", "-Werror", "driver.cpp", "-o"]
    subprocess.run([*command, "parse"], cwd=folder, check=True)

    def run(kind: str, rows: np.ndarray, classes: int, size: tuple[int, int], threshold: float) -> Any:
        words = [kind, *rows.shape, classes, size[1], size[0], threshold]
        content = np.ascontiguousarray(rows, np.float32).tobytes()
        return subprocess.run(
            [str(folder / "parse"), *map(str, words)], input=content, capture_output=True, check=False
        )

    return run


def rows_of(output: np.ndarray) -> np.ndarray:
    """(A, 5 + C) as (A, 6): corners, score, class, by NumPy."""
    class_ids = output[:, 5:].argmax(axis=1)
    scores = output[:, 4] * output[np.arange(len(output)), 5 + class_ids]
    return np.concatenate([corners(output[:, :4]), scores[:, None], class_ids[:, None]], axis=1)


def candidates(rows: np.ndarray, threshold: float, size: tuple[int, int]) -> np.ndarray:
    """What is left of (n, 6) before NMS, clipped to the input."""
    boxes = rows[:, :4].clip(0, [size[1], size[0], size[1], size[0]])
    kept = (rows[:, 4] >= threshold) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return np.concatenate([boxes, rows[:, 4:]], axis=1)[kept]


THRESHOLD = 0.0056  # seeded weights are sure of nothing


def test_deepstreams_parser_reads_the_real_output(
    parser: Callable[..., Any], artifact: Artifact, images: list[Image]
) -> None:
    with load(artifact.folder) as detector:
        inputs, _ = preprocess(images, detector.spec)
        output = detector.runtime.infer(inputs)
        size = detector.spec.input_size
    seen = 0
    for one, best in zip(output, best_rows(output, 300), strict=True):
        for kind, rows, right in (("all", one, rows_of(one)), ("best", best, best)):
            found = parser(kind, rows, 80, size, THRESHOLD).stdout.decode().splitlines()
            expected = candidates(right, THRESHOLD, size)
            seen += len(expected)
            np.testing.assert_allclose(np.loadtxt(found, ndmin=2), expected, rtol=1e-5, atol=1e-3)
    assert seen > 500


def test_deepstreams_parser_refuses_and_drops(parser: Callable[..., Any]) -> None:
    good = [10, 10, 4, 4, 1, 0.5, 0.25]
    odd = [[np.nan, *good[1:]], [*good[:4], np.nan, *good[5:]], [*good[:2], np.inf, *good[3:]], [900, *good[1:]]]
    done = parser("all", np.array([*odd, good], np.float32), 2, (64, 96), 0.3)
    assert done.stdout.split() == [b"8", b"8", b"12", b"12", b"0.5", b"0"]
    assert parser("all", np.zeros((3, 6)), 2, (64, 96), 0.3).returncode == 3  # another class count
    rows = np.array([[1, 1, 5, 5, 0.9, 2], [1, 1, 5, 5, 0.9, -1], [1, 1, 5, 5, 0.9, 1]])
    assert parser("best", rows, 2, (64, 96), 0.3).stdout.split()[4:] == [b"0.899999976", b"1"]


@pytest.mark.parametrize(
    ("check", "one", "says"),
    [
        (check_deepstream, served(uint8_input=True), "--no-uint8-input"),
        (check_deepstream, served(nms=GraphNMS(0.25, 0.65)), "without --nms"),
        (check_deepstream, served(decoded=False), "without --no-decode"),
        (check_deepstream, served(precision="int8"), "--target trt"),
        (check_deepstream, served(channel_order="RGB", normalization="imagenet"), "--server triton"),
        (check_deepstream, served(".xml"), "--target trt, or onnx"),
        (check_ovms, served(".engine"), "--target openvino or onnx"),
        (check_triton, served(".engine", nms=GraphNMS(0.25, 0.65)), "--topk"),
        (check_triton, served(".engine", (2, 4, 8), batch=None), "--batch-profile 1 4 8"),
    ],
)
def test_what_a_server_cannot_run_is_refused_with_what_to_do(
    check: Callable[[Served], None], one: Served, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        check(one)
    check(served())  # which every server takes


@pytest.mark.parametrize(("name", "says"), [("model.param", "NCNN"), ("model.rtx", "TensorRT-RTX")])
def test_artifacts_that_no_server_runs(
    name: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).touch()
    (tmp_path / "spec.json").write_text(PLAIN.to_json())
    assert lay_out(tmp_path, tmp_path / "out", "--server", "triton") == 1
    assert f"no server here runs {says}" in capsys.readouterr().err
    (tmp_path / "spec.json").unlink()
    assert lay_out(tmp_path, tmp_path / "out", "--server", "triton") == 1
    assert "no spec.json beside it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_unless_every_server_can_run_it(
    openvino_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = openvino_folder / "artifact"
    assert lay_out(artifact, tmp_path / "out", "--server", "triton", "deepstream") == 1
    assert "DeepStream runs TensorRT" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_lost(artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = (artifact.folder, tmp_path, "--server", "ovms")
    assert lay_out(*options) == 0
    assert lay_out(*options) == 1
    assert "--overwrite" in capsys.readouterr().err
    config = tmp_path / "ovms" / "config.json"
    config.write_text("{}")
    assert lay_out(*options, "--overwrite") == 0
    assert "model_config_list" in config.read_text()
    (tmp_path / "ovms" / "yolox-nano" / "2").mkdir()
    (tmp_path / "ovms" / "yolox-nano" / "2" / "model.onnx").write_text("mine")
    config.write_text("{}")
    assert lay_out(*options, "--overwrite") == 1
    assert "yolox-nano/2/model.onnx, which would be lost" in capsys.readouterr().err
    assert config.read_text() == "{}"
    assert [path.name for path in tmp_path.iterdir()] == ["ovms"]
    (tmp_path / "triton").write_text("mine")
    assert lay_out(artifact.folder, tmp_path, "--server", "triton", "--overwrite") == 1
    assert (tmp_path / "triton").read_text() == "mine"


def test_only_what_was_proven_is_laid_out(artifact: Artifact, tmp_path: Path) -> None:
    shutil.copytree(artifact.folder, tmp_path / "changed")
    with (tmp_path / "changed" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(InvalidInput, match="not the file that was proven"):
        open_served(tmp_path / "changed")


def test_it_runs_without_torch(
    artifact: Artifact, tmp_path: Path, run_without: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    missing = ["torch", "onnx", "onnxsim", "onnxscript", "hotcoco"]
    done = run_without(missing, "serving", str(artifact.folder), "--server", "triton", "--output", str(tmp_path / "s"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "s" / "triton" / "README.md").exists()

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnx.parser
import pytest

from exporters.artifact import Artifact
from runtimes import Detections, Detector, GraphNMS, InvalidInput, MissingBackend, ModelSpec, cores, load
from runtimes.onnx import OnnxRequest, OnnxRuntime
from runtimes.preprocess import Image

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def detector(artifact: Artifact) -> Detector:
    return load(artifact.folder, score_threshold=0.01)


def equal(left: Detections, right: Detections, tolerance: float = 0.0) -> bool:
    return np.array_equal(left.class_id, right.class_id) and bool(
        np.abs(left.xyxy - right.xyxy).max(initial=0) <= tolerance
        and np.abs(left.confidence - right.confidence).max(initial=0) <= tolerance
    )


def test_folder_and_file_are_the_same_artifact(artifact: Artifact, images: list[Image]) -> None:
    with load(artifact.folder) as by_folder, load(artifact.model) as by_file:
        assert equal(by_folder(images[0]), by_file(images[0]))


def test_a_fixed_batch_takes_any_number_of_images(artifact: Artifact, images: list[Image], tmp_path: Path) -> None:
    model = onnx.load(artifact.model)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 3
    next(entry for entry in model.metadata_props if entry.key == "yolox.batch").value = "3"
    onnx.save(model, tmp_path / "model.onnx")
    with load(tmp_path, score_threshold=0.01) as fixed, load(artifact.folder, score_threshold=0.01) as free:
        found = fixed(images)
        assert len(found) == len(images) == 5
        assert all(equal(a, free(image), 1e-3) for a, image in zip(found, images, strict=True))


def test_providers_threads_and_session_options(artifact: Artifact) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    runtime = OnnxRuntime(artifact.model, providers=["CPUExecutionProvider"], threads=1, session_options=options)
    assert options.intra_op_num_threads == 1
    assert runtime.spec.name == "yolox-nano"


def test_streams_share_the_threads(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a session, each stream brings its own thread, and the pool's are those of all."""

    def read(**options: int) -> tuple[int, str]:
        found = OnnxRuntime(artifact.model, **options)._session.get_session_options()  # type: ignore[arg-type]
        return found.intra_op_num_threads, found.get_session_config_entry("session.intra_op.spin_duration_us")

    assert read(threads=1) == read(threads=1, streams=4) == (1, "50")
    assert read(threads=3, streams=2) == (5, "50")
    monkeypatch.setattr(cores, "usable_cores", lambda: 4)
    assert read(streams=2) == (3, "50")
    monkeypatch.setattr(cores, "_is_limited", lambda: True)
    assert read() == (4, "50")


def test_the_input_is_bound_before_every_run(small_spec: ModelSpec) -> None:
    """A provider of a GPU copies it when it is bound."""
    calls: list[str] = []

    class Binding:
        def bind_input(self, *arguments: object) -> None:
            calls.append("bind")

        def bind_output(self, *arguments: object) -> None: ...

    class Session:
        def io_binding(self) -> Binding:
            return Binding()

        def get_inputs(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(name="images")]

        get_outputs = get_inputs

        def run_with_iobinding(self, binding: Binding) -> None:
            calls.append("run")

    request = OnnxRequest(Session(), replace(small_spec, batch=1), 1)
    request.run()
    request.run()
    assert calls == ["bind", "run"] * 2


def test_without_onnxruntime_it_says_what_to_type(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingBackend, match="pip install onnxruntime"):
        load(artifact.folder)


def test_paths_that_are_no_artifact(artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="does not exist"):
        load(tmp_path / "nothing")
    with pytest.raises(InvalidInput, match="holds 0 model files"):
        load(tmp_path)
    shutil.copy(artifact.model, tmp_path / "a.onnx")
    shutil.copy(artifact.model, tmp_path / "b.onnx")
    with pytest.raises(InvalidInput, match="holds 2 model files"):
        load(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InvalidInput, match="not a model file"):
        load(tmp_path / "notes.txt")


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def renamed(content: bytes) -> bytes:
    """A tensor that no node knows: the file is sound as Protocol Buffers go, but no graph."""
    return content.replace(b"images", b"imagez", 1)


def foreign(content: bytes) -> bytes:
    """Another network, of nothing but one node."""
    text = '<ir_version: 8, opset_import: ["": 17]> other (float[N] x) => (float[N] y) { y = Relu(x) }'
    return bytes(onnx.parser.parse_model(text).SerializeToString())


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda content: b"", "cannot load"),
    "text": (lambda content: b"text, not a graph", "damaged or cut short"),
    "truncated": (truncated, "damaged or cut short"),
    "renamed": (renamed, "cannot load"),
    "foreign": (foreign, "carries no spec"),
}
LOADED = "import sys; from runtimes import UserError, load\ntry: load(sys.argv[1])\nexcept UserError as e: print(e)"


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_end_in_a_sentence_in_a_process_of_their_own(
    damage: str, artifact: Artifact, tmp_path: Path
) -> None:
    change, says = DAMAGES[damage]
    path = tmp_path / "model.onnx"
    path.write_bytes(change(artifact.model.read_bytes()))
    done = subprocess.run([sys.executable, "-c", LOADED, path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert says in done.stdout and len(done.stdout.splitlines()) == 1, done.stdout


@pytest.mark.parametrize(
    "change",
    [
        {"input_size": (320, 256)},
        {"batch": 1},
        {"class_names": ("cat",), "category_ids": (1,)},
        {"uint8_input": True},
        {"nms": GraphNMS(0.1, 0.65)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_spec_that_does_not_fit_the_graph_is_refused(
    change: dict[str, object], artifact: Artifact, small_spec: ModelSpec, tmp_path: Path
) -> None:
    model = onnx.load(artifact.model)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "model.onnx")
    assert load(tmp_path / "model.onnx", small_spec).spec == small_spec
    with pytest.raises(InvalidInput, match=r"promises|80 classes, but 1|NMS inside"):
        load(tmp_path / "model.onnx", replace(small_spec, **change))  # type: ignore[arg-type]


def test_a_file_with_a_spec_takes_no_other(artifact: Artifact, small_spec: ModelSpec) -> None:
    assert load(artifact.model, small_spec).spec == small_spec
    with pytest.raises(InvalidInput, match="a spec of its own"):
        load(artifact.model, replace(small_spec, channel_order="RGB"))


def test_a_provider_that_is_not_there_is_no_silent_fallback(artifact: Artifact) -> None:
    with pytest.raises(MissingBackend, match="FastExecutionProvider"):
        load(artifact.folder, providers=["FastExecutionProvider", "CPUExecutionProvider"])


@pytest.mark.parametrize("threshold", [-1, 50, float("nan")])
def test_thresholds_are_checked(threshold: float, artifact: Artifact) -> None:
    with pytest.raises(InvalidInput, match="score_threshold"):
        load(artifact.folder, score_threshold=threshold)
    with pytest.raises(InvalidInput, match="nms_threshold"):
        load(artifact.folder, nms_threshold=threshold)


def test_damaged_metadata_is_named(artifact: Artifact, tmp_path: Path) -> None:
    model = onnx.load(artifact.model)
    model.metadata_props[0].value = "{"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(InvalidInput, match="metadata"):
        load(tmp_path)


def test_thresholds_of_nms_in_the_graph_are_fixed(artifact: Artifact, small_spec: ModelSpec) -> None:
    class Fixed:
        spec = replace(small_spec, nms=GraphNMS(0.3, 0.65))

        def infer(self, images: object) -> np.ndarray:  # type: ignore[type-arg]
            return np.zeros((0, 7), np.float32)

        def close(self) -> None: ...

    assert Detector(Fixed()).score_threshold == 0.3
    assert Detector(Fixed(), score_threshold=0.5).score_threshold == 0.5
    with pytest.raises(InvalidInput, match=r"from 0\.3 on"):
        Detector(Fixed(), score_threshold=0.1)
    with pytest.raises(InvalidInput, match=r"NMS at 0\.65"):
        Detector(Fixed(), nms_threshold=0.5)

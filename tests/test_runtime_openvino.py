from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openvino
import pytest

from exporters.artifact import Artifact
from runtimes import InvalidInput, MissingBackend, ModelSpec, cores, load
from runtimes.openvino import RT_INFO, OpenVINORuntime
from runtimes.preprocess import Image, preprocess

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def openvino_artifact(exported: Callable[[str, ModelSpec], Artifact], small_spec: ModelSpec) -> Artifact:
    return exported("openvino", small_spec)


@pytest.fixture
def copied(openvino_artifact: Artifact, tmp_path: Path) -> Path:
    """The model file of an artifact that a test may spoil."""
    shutil.copytree(openvino_artifact.folder, tmp_path / "artifact")
    (tmp_path / "artifact" / "parity.json").unlink()  # which would tell at once
    return tmp_path / "artifact" / "model.xml"


def test_what_is_computed_in_is_set_and_not_left_to_openvino(openvino_artifact: Artifact) -> None:
    with load(openvino_artifact.folder) as detector:
        assert isinstance(detector.runtime, OpenVINORuntime)
        compiled = detector.runtime.compiled
        assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32


def test_streams_share_the_threads(openvino_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(**options: int) -> tuple[int, int]:
        compiled = OpenVINORuntime(openvino_artifact.model, **options).compiled  # type: ignore[arg-type]
        return compiled.get_property("NUM_STREAMS"), compiled.get_property("INFERENCE_NUM_THREADS")

    assert read(streams=2, threads=1) == (2, 2)
    assert read(threads=1) == (1, 1)
    monkeypatch.setattr(cores, "usable_cores", lambda: 2)
    assert read(streams=2) == (2, 2)
    monkeypatch.setattr(cores, "_is_limited", lambda: True)
    monkeypatch.setattr(cores, "usable_cores", lambda: 1)
    assert read() == (1, 1)


def test_options_reach_openvino(openvino_artifact: Artifact, tmp_path: Path) -> None:
    options = {"threads": 1, "performance_hint": "THROUGHPUT", "cache": tmp_path / "cache"}
    with load(openvino_artifact.folder, **options) as detector:
        compiled = detector.runtime.compiled  # type: ignore[attr-defined]
        assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
        assert compiled.get_property("PERFORMANCE_HINT") == "THROUGHPUT"
    assert list((tmp_path / "cache").iterdir())


def test_bf16_where_the_processor_has_it(openvino_artifact: Artifact, images: list[Image]) -> None:
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(InvalidInput, match="no bf16"):
            load(openvino_artifact.folder, inference_precision="bf16")
        return
    with load(openvino_artifact.folder, inference_precision="bf16") as rough, load(openvino_artifact.folder) as exact:
        outputs = [detector.infer(images)[0][..., 4:] for detector in (rough, exact)]
    assert 0 < np.abs(outputs[0] - outputs[1]).max() < 0.1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"performance_hint": "fast"}, "must be one of LATENCY, THROUGHPUT"),
        ({"inference_precision": "fp16"}, "must be one of f32, bf16, f16"),
        ({"threads": 0}, "threads must be a number from 1"),
        ({"bf16": True}, r"\.xml files have no option 'bf16'; theirs are .*device, performance_hint"),
    ],
)
def test_wrong_options_say_which_are_right(options: dict[str, object], says: str, openvino_artifact: Artifact) -> None:
    with pytest.raises(InvalidInput, match=says):
        load(openvino_artifact.folder, **options)


def test_an_unknown_device_is_no_silent_fallback(openvino_artifact: Artifact) -> None:
    with pytest.raises(MissingBackend, match="finds no FPGA here, only CPU"):
        load(openvino_artifact.folder, device="FPGA")


def test_several_inferences_at_once(openvino_artifact: Artifact, images: list[Image], small_spec: ModelSpec) -> None:
    inputs, _ = preprocess(images, small_spec)
    with load(openvino_artifact.folder) as detector:
        runtime = detector.runtime
        assert isinstance(runtime, OpenVINORuntime)
        started = [runtime.start(inputs[index : index + 1]) for index in range(3)]
        results = [wait() for wait in reversed(started)][::-1]
        for index, result in enumerate(results):
            assert np.array_equal(result, runtime.infer(inputs[index : index + 1]))
        assert started[0]() is results[0]  # and the request was given back once only
        again = [runtime.start(inputs[index : index + 1]) for index in range(4)]
        assert all(np.array_equal(wait(), result) for wait, result in zip(again, results, strict=False))


def test_memory_lives_as_long_as_it_is_read(
    openvino_artifact: Artifact, images: list[Image], small_spec: ModelSpec
) -> None:
    inputs, _ = preprocess(images[:1], small_spec)
    strided = np.ascontiguousarray(inputs.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    with load(openvino_artifact.folder) as detector:
        runtime = detector.runtime
        assert isinstance(runtime, OpenVINORuntime)
        expected = runtime.infer(inputs)
        for _ in range(10):
            wait = runtime.start(strided)
            rubbish = [np.full_like(inputs, 7) for _ in range(8)]
            assert np.array_equal(wait(), expected)
            del rubbish


DROPPED = """
import sys
import numpy as np
from runtimes import load

runtime = load(sys.argv[1], threads=1).runtime
pixels = np.zeros((40, 3, *runtime.spec.input_size), np.float32)
for _ in range(60):
    own = pixels.copy()  # large enough that it goes back to the system as soon as nothing holds it
    wait = runtime.start(own)
    del own, wait
print("alive")
"""


@pytest.mark.slow
def test_a_result_that_nobody_waits_for_harms_nobody(openvino_artifact: Artifact) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DROPPED, str(openvino_artifact.folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def test_two_threads_may_wait_for_one_result(
    openvino_artifact: Artifact, images: list[Image], small_spec: ModelSpec
) -> None:
    inputs, _ = preprocess(images[:1], small_spec)
    with load(openvino_artifact.folder) as detector, ThreadPoolExecutor(4) as threads:
        runtime = detector.runtime
        assert isinstance(runtime, OpenVINORuntime)
        for _ in range(30):
            wait = runtime.start(inputs)
            results = [future.result() for future in [threads.submit(wait) for _ in range(4)]]
            assert all(result is results[0] for result in results)
            assert len(runtime._idle) == 1  # the request came back once


def test_a_precision_that_the_processor_has_not_is_no_silent_other(openvino_artifact: Artifact) -> None:
    if "FP16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor computes fp16")
    with pytest.raises(InvalidInput, match="where it is asked for f16"):
        load(openvino_artifact.folder, inference_precision="f16")


def test_closed_while_one_is_running(openvino_artifact: Artifact, images: list[Image], small_spec: ModelSpec) -> None:
    inputs, _ = preprocess(images[:1], small_spec)
    detector = load(openvino_artifact.folder)
    runtime = detector.runtime
    assert isinstance(runtime, OpenVINORuntime)
    expected = runtime.infer(inputs)
    wait = runtime.start(inputs)
    detector.close()
    assert np.array_equal(wait(), expected)
    assert not runtime._idle  # nothing holds the model any more


def test_without_openvino_it_says_what_to_type(openvino_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingBackend, match="pip install openvino"):
        load(openvino_artifact.folder)


def test_an_ir_of_others_says_what_it_needs(copied: Path, small_spec: ModelSpec, tmp_path: Path) -> None:
    model = openvino.Core().read_model(copied)
    model.set_rt_info("", RT_INFO)  # there is no way to take an entry out
    openvino.save_model(model, tmp_path / "damaged.xml")
    with pytest.raises(InvalidInput, match="the spec in"):
        load(tmp_path / "damaged.xml")
    text = copied.read_text()
    start = text.index(f"<{RT_INFO} ")
    copied.write_text(text[:start] + text[text.index("/>", start) + 2 :])
    with pytest.raises(InvalidInput, match="carries no spec"):
        load(copied)
    assert load(copied, small_spec).spec == small_spec


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no weights": lambda path: path.with_suffix(".bin").unlink(),
    "empty weights": lambda path: path.with_suffix(".bin").write_bytes(b""),
    "half the weights": lambda path: path.with_suffix(".bin").write_bytes(
        path.with_suffix(".bin").read_bytes()[: path.with_suffix(".bin").stat().st_size // 2]
    ),
    "empty graph": lambda path: path.write_bytes(b""),
    "half the graph": lambda path: path.write_text(path.read_text()[: path.stat().st_size // 2]),
    "no XML": lambda path: path.write_text("a shopping list"),
    "another XML": lambda path: path.write_text("<html><body>hello</body></html>"),
    "bytes": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
    "a wrong offset": lambda path: path.write_text(path.read_text().replace('offset="0"', 'offset="99999999999"')),
    "a huge shape": lambda path: path.write_text(
        path.read_text().replace('shape="16, 3, 6, 6"', 'shape="99999, 3, 6, 6"')
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_end_in_a_sentence_in_a_process_of_their_own(damage: str, copied: Path) -> None:
    before = copied.read_bytes(), copied.with_suffix(".bin").read_bytes()
    DAMAGE[damage](copied)
    weights = copied.with_suffix(".bin")
    assert (copied.read_bytes(), weights.read_bytes() if weights.exists() else None) != before
    code = f"""
from runtimes import InvalidInput, load
try:
    load({str(copied)!r})
except InvalidInput as error:
    print("refused:", error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused: ")
    assert done.stdout.count("\n") == 1
    assert ".cpp" not in done.stdout

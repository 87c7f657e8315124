from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exporters.ncnn import export_ncnn
from exporters.ncnn_format import to_bytes, write_model
from exporters.options import ExportOptions
from exporters.parity import StageCheck
from exporters.torch_runtime import TorchRuntime
from runtimes import Detector, InvalidInput, MissingBackend, ModelSpec, cores
from runtimes.ncnn import NcnnRuntime
from runtimes.ncnn_format import Layer, Weights, parse_bin, parse_param, read_model
from runtimes.ncnn_graph import blob_shapes, output_shape
from runtimes.preprocess import Image, preprocess
from yolox_deploy.model.yolox import YOLOX

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def spec(small_spec: ModelSpec) -> ModelSpec:
    return replace(small_spec, decoded=False)


@pytest.fixture(scope="module")
def model_file(
    seeded_nano: YOLOX, spec: ModelSpec, images: list[Image], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A seeded Nano as an fp32 NCNN artifact. Tests only read it."""
    folder = tmp_path_factory.mktemp("ncnn")
    (folder / "spec.json").write_text(spec.to_json())
    check = StageCheck(TorchRuntime(seeded_nano, spec), spec, images)
    return export_ncnn(seeded_nano, spec, folder, ExportOptions(), check)


@pytest.fixture(scope="module")
def inputs(images: list[Image], spec: ModelSpec) -> np.ndarray:  # type: ignore[type-arg]
    return np.ascontiguousarray(preprocess(images[:3], spec)[0], np.float32)


@pytest.fixture
def copy_of(model_file: Path, tmp_path: Path) -> Path:
    for file in model_file.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / model_file.name


def test_it_reads_the_spec_beside_it(model_file: Path, spec: ModelSpec, copy_of: Path) -> None:
    assert NcnnRuntime(model_file).spec == spec
    copy_of.with_name("spec.json").unlink()
    assert NcnnRuntime(str(copy_of), spec).spec == spec
    with pytest.raises(InvalidInput, match=r"needs the spec\.json"):
        NcnnRuntime(copy_of)


def test_a_batch_is_what_its_images_are(model_file: Path, inputs: np.ndarray, spec: ModelSpec) -> None:  # type: ignore[type-arg]
    runtime = NcnnRuntime(model_file, threads=1)
    output = runtime.infer(inputs)
    assert output.shape == (3, spec.num_anchors, 85)
    assert output.dtype == np.float32
    for index in range(3):
        assert np.array_equal(output[index : index + 1], runtime.infer(inputs[index : index + 1]))
    assert np.abs(output[0] - output[1]).max() > 0.1


def test_input_that_does_not_lie_in_order_is_read_right(model_file: Path, inputs: np.ndarray) -> None:  # type: ignore[type-arg]
    runtime = NcnnRuntime(model_file, threads=1)
    expected = runtime.infer(inputs)
    turned = np.ascontiguousarray(inputs.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert not turned.flags.c_contiguous
    assert np.array_equal(runtime.infer(turned), expected)
    padded = np.repeat(inputs, 2, axis=3)[..., ::2]
    assert np.array_equal(runtime.infer(padded), expected)


def test_results_are_the_callers_own_and_the_input_stays(model_file: Path, inputs: np.ndarray) -> None:  # type: ignore[type-arg]
    runtime, given = NcnnRuntime(model_file, threads=1), inputs.copy()
    first = runtime.infer(given)
    before = first.copy()
    second = runtime.infer(given[::-1])
    assert np.array_equal(first, before)
    assert not np.shares_memory(first, second)
    assert np.array_equal(given, inputs)
    runtime.close()
    assert np.array_equal(first, before)


def test_other_sizes(model_file: Path, seeded_nano: YOLOX, images: list[Image], spec: ModelSpec) -> None:
    runtime = NcnnRuntime(model_file, threads=1, input_size=(352, 288))
    assert runtime.spec == replace(spec, input_size=(352, 288))
    pixels, _ = preprocess(images, runtime.spec)
    reference = TorchRuntime(seeded_nano, runtime.spec).infer(pixels)
    assert np.abs(runtime.infer(pixels) - reference).max() < 1e-3
    with pytest.raises(InvalidInput, match="multiples of 32"):
        NcnnRuntime(model_file, input_size=(350, 288))
    with pytest.raises(InvalidInput, match=r"takes float32 of shape \(N, 3, 352, 288\)"):
        runtime.infer(np.zeros((1, 3, 256, 320), np.float32))


def test_threads(model_file: Path, inputs: np.ndarray) -> None:  # type: ignore[type-arg]
    one, two = NcnnRuntime(model_file, threads=1), NcnnRuntime(model_file, threads=2)
    expected = one.infer(inputs)
    assert np.abs(two.infer(inputs) - expected).max() < 1e-5
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(one.infer, [inputs] * 8))
    assert all(np.array_equal(output, expected) for output in found)
    assert NcnnRuntime(model_file, streams=2)._net.opt.num_threads == max(cores.usable_cores() // 2, 1)
    for threads in (0, -1):
        with pytest.raises(InvalidInput, match="threads must be a number from 1"):
            NcnnRuntime(model_file, threads=threads)
    assert np.abs(NcnnRuntime(model_file, threads=4096).infer(inputs) - expected).max() < 1e-5


def test_bf16_is_close_and_only_on_request(model_file: Path, inputs: np.ndarray) -> None:  # type: ignore[type-arg]
    exact, rounded = (NcnnRuntime(model_file, threads=1, bf16=bf16).infer(inputs) for bf16 in (False, True))
    assert 1e-5 < np.abs(exact[..., 4:] - rounded[..., 4:]).mean() < 5e-3


def test_wrong_input_and_closed(model_file: Path, images: list[Image]) -> None:
    detector = Detector(NcnnRuntime(model_file))
    for wrong in (np.zeros((1, 3, 320, 256), np.float32), np.zeros((1, 3, 256, 320)), np.zeros((0, 3, 256, 320), "f4")):
        with pytest.raises(InvalidInput, match=r"takes float32 of shape \(N, 3, 256, 320\)"):
            detector.runtime.infer(wrong)
    detector.close()
    detector.close()
    with pytest.raises(InvalidInput, match="closed"):
        detector(images[0])


def test_a_fixed_batch_is_kept(model_file: Path, spec: ModelSpec, inputs: np.ndarray) -> None:  # type: ignore[type-arg]
    runtime = NcnnRuntime(model_file, replace(spec, batch=2))
    assert runtime.infer(inputs[:2]).shape[0] == 2
    with pytest.raises(InvalidInput, match=r"shape \(2, 3, 256, 320\)"):
        runtime.infer(inputs)


def test_without_ncnn_it_says_what_to_type(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ncnn", None)
    with pytest.raises(MissingBackend, match="pip install ncnn"):
        NcnnRuntime(model_file)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"decoded": True}, "more than NCNN files hold"),
        ({"uint8_input": True}, "more than NCNN files hold"),
        ({"class_names": ("cat",), "category_ids": (1,)}, "promises output"),
        ({"strides": (8, 16)}, "promises output"),
        ({"precision": "fp16"}, "promises fp16, its weights are float32"),
        ({"precision": "int8"}, "promises int8, its weights are float32"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused(
    change: dict[str, object], says: str, model_file: Path, spec: ModelSpec
) -> None:
    with pytest.raises(InvalidInput, match=says):
        NcnnRuntime(model_file, replace(spec, **change))  # type: ignore[arg-type]


def edit(old: str, new: str) -> Callable[[Path], None]:
    """Change the first place in the `.param` that reads like this."""

    def change(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def edit_bin(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        weights = path.with_suffix(".bin")
        weights.write_bytes(change(weights.read_bytes()))

    return apply


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty graph": (lambda path: path.write_text(""), "does not begin"),
    "no graph": (Path.unlink, "No such file"),
    "another format": (lambda path: path.write_bytes(b"\x08\x07\x12\xff" * 99), "no NCNN graph"),
    "cut graph": (lambda path: path.write_text(path.read_text()[:5000]), "damaged"),
    "no weights": (lambda path: path.with_suffix(".bin").unlink(), "No such file"),
    "empty weights": (edit_bin(lambda content: b""), "shorter than the graph needs"),
    "cut weights": (edit_bin(lambda content: content[:-4]), "shorter than the graph needs"),
    "longer weights": (edit_bin(lambda content: content + bytes(4)), "4 bytes longer"),
    "unknown storage": (edit_bin(lambda content: b"\x07" + content[1:]), "unknown way"),
    "stored as halves": (edit_bin(lambda content: b"\x47\x6b\x30\x01" + content[4:]), "does not fit"),
    "wide kernel": (edit("1=6 11=6", "1=7 11=6"), "does not fit its kernel"),
    "another kernel": (edit("1=6 11=6", "1=9 11=6"), "do not fit what comes into it"),
    "turned kernel": (edit("0=32 1=1 11=1", "0=32 1=2 11=1"), "do not fit what comes into it"),
    "fewer outputs": (edit("0=16 1=6", "0=8 1=6"), "does not fit"),
    "no outputs": (edit("0=16 1=6", "0=0 1=6"), "does not fit"),
    "negative weight": (edit("6=1728", "6=-1728"), "shorter than the graph needs"),
    "more groups": (edit("6=144 7=16", "6=144 7=8"), "do not fit what comes into it"),
    "no groups": (edit("6=144 7=16", "6=144 7=0"), "do not fit what comes into it"),
    "no stride": (edit("13=2", "13=0"), "do not fit what comes into it"),
    "wide padding": (edit("14=2", "14=999999999"), "do not fit what comes into it"),
    "dilation": (edit("12=1", "12=7"), "do not fit what comes into it"),
    "an activation without its slope": (edit("6=1728", "6=1728 9=2"), "do not fit what comes into it"),
    "int8 by name": (edit("6=1728", "6=1728 8=2"), "do not agree"),
    "unknown parameter": (edit("6=1728", "6=1728 19=1"), "do not fit what comes into it"),
    "fraction": (edit("6=1728", "6=1728.5"), "not a whole number"),
    "unknown layer": (edit("Swish", "Crop"), "of the kind Crop, which is not run here"),
    "a value used twice": (edit(" 1 1 8 9 ", " 1 1 7 9 "), "use every value once"),
    "a value from nowhere": (edit(" 1 1 1 2\n", " 1 1 nowhere 2\n"), "not connected"),
    "a value of its own": (edit(" 1 1 1 2\n", " 1 1 2 2\n"), "not connected"),
    "input missing": (edit(" 1 1 1 2\n", " 0 1 2\n"), "do not fit what comes into it"),
    "more inputs": (edit(" 1 1 1 2\n", " 999 1 1 2\n"), "damaged"),
    "other counts": (edit("283 314", "283 315"), "announces 283 and 315"),
    "no counts": (edit("283 314\n", "\n"), "announces"),
    "an input of its own": (edit("Input in0 0 1 in0", "Input in0 0 1 in1"), "begin with the input"),
    "renamed output": (edit(" out0", " out1"), "one output"),
    "another slice": (edit("-23300=2,4,-233", "-23300=2,85,-233"), "do not fit what comes into it"),
    "long slice": (edit("-23300=2,4,-233", "-23300=3,4,-233"), "do not fit what comes into it"),
    "another axis": (edit("-233 1=0", "-233 1=7"), "do not fit what comes into it"),
    "another sum": (edit(" 0=1\n", " 0=3\n"), "do not fit what comes into it"),
    "large enlargement": (edit("1=2.0 2=2.0", "1=99999 2=2.0"), "do not fit what comes into it"),
    "other rows": (edit("0=-1 1=85", "0=-1 1=84"), "do not fit what comes into it"),
    "average pooling": (edit("0=0 1=5", "0=1 1=5"), "do not fit what comes into it"),
    "control characters": (edit(" 1 1 1 2\n", "\x1c1 1 1 2\n"), "more than text"),
    "a very long name": (edit("Swish", "S" * 300), "no layer"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_one_sentence(damage: str, copy_of: Path) -> None:
    change, says = DAMAGE[damage]
    change(copy_of)
    with pytest.raises(InvalidInput, match=says) as failure:
        NcnnRuntime(copy_of)
    assert "\n" not in str(failure.value)
    assert "model." in str(failure.value)


FUZZ = """
import sys
from pathlib import Path
import numpy as np
from runtimes import InvalidInput
from runtimes.ncnn import NcnnRuntime

random, path = np.random.default_rng(int(sys.argv[2])), Path(sys.argv[1])
files = {suffix: path.with_suffix(suffix).read_bytes() for suffix in (".param", ".bin")}
ran = refused = 0
for round in range(int(sys.argv[3])):
    suffix = (".param", ".param", ".bin")[round % 3]
    damaged = bytearray(files[suffix])
    if round % 4 == 3:
        del damaged[random.integers(len(damaged)) :]
    else:
        printable = random.integers(32, 127, 3, dtype=np.uint8)
        digits = random.choice(list(b" 0123456789=-,."), 3)
        for value in (printable if round % 2 else digits):
            damaged[random.integers(len(damaged))] = value
    path.with_suffix(suffix).write_bytes(damaged)
    try:
        NcnnRuntime(path, threads=1).infer(np.full((1, 3, 256, 320), 50, np.float32))
        ran += 1
    except InvalidInput as error:
        assert "\\n" not in str(error)
        refused += 1
    path.with_suffix(suffix).write_bytes(files[suffix])
print(ran, refused)
"""


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_no_damage_reaches_native_code(seed: int, copy_of: Path) -> None:
    rounds = 100 if seed == 0 else 600
    command = [sys.executable, "-c", FUZZ, str(copy_of), str(seed), str(rounds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    ran, refused = map(int, done.stdout.split()[-2:])
    assert ran > 0  # weights and names may change without harm
    assert refused > rounds / 3


def test_the_format_is_read_as_it_was_written(tmp_path: Path, random: np.random.Generator) -> None:
    kernel = random.normal(size=(3, 2, 1, 1))
    weights = {
        "float": Weights(kernel.astype(np.float32), None),
        "half": Weights(kernel.astype(np.float16), np.arange(3, dtype=np.float32)),
        "bytes": Weights(
            (kernel * 50).astype(np.int8), np.ones(3, np.float32), np.full(3, 2, np.float32), np.ones(1, np.float32)
        ),
    }
    sizes = {0: "3", 1: "1", 11: "1", 6: "6"}
    layers = [
        Layer("Convolution", "float", ("in0",), ("1",), sizes),
        Layer("Convolution", "half", ("1",), ("2",), sizes | {5: "1"}),
        Layer("Convolution", "bytes", ("2",), ("out0",), sizes | {5: "1", 8: "2"}),
    ]
    path = write_model(tmp_path / "model.param", layers, weights)
    # a flag and the weight, padded to four bytes; then bias, scales and one more scale of four bytes each
    assert [len(to_bytes(one)) for one in weights.values()] == [4 + 24, 4 + 12 + 12, 4 + 8 + 12 + 12 + 4]
    found, values = read_model(path)
    assert found == layers
    for name, one in weights.items():
        for left, right in zip(vars(one).values(), vars(values[name]).values(), strict=True):
            assert (left is None) == (right is None)
            assert left is None or (left.dtype == right.dtype and np.array_equal(left, right))


def test_shapes_are_those_that_ncnn_computes(model_file: Path, spec: ModelSpec, inputs: np.ndarray) -> None:  # type: ignore[type-arg]
    from runtimes.ncnn import open_net, run_image

    layers, _ = read_model(model_file)
    shapes = blob_shapes(layers, (3, 256, 320))
    assert output_shape(layers, (3, 256, 320)) == (85, spec.num_anchors)
    names = list(shapes)[1:]
    found = run_image(open_net(model_file, threads=1), inputs[0], names)
    assert [values.shape for values in found] == [shapes[name] for name in names]


def test_reading_needs_no_file() -> None:
    layers = parse_param("7767517\n1 1\nInput in0 0 1 in0\n")
    assert layers == [Layer("Input", "in0", (), ("in0",))]
    assert parse_bin(b"", layers) == {}


INTERRUPTED = """
import gc, itertools, os, signal, sys, threading
import numpy as np
from runtimes import load

signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored in what a shell runs in the background

def detect():
    failure = None
    with load(sys.argv[1], streams=1, threads=1) as detector:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            for _ in detector.detect_stream(itertools.repeat(np.full((300, 300, 3), 90, np.uint8))):
                pass
        except KeyboardInterrupt as error:
            failure = error  # a circle: its traceback holds this frame
    raise failure

try:
    detect()
except KeyboardInterrupt:
    pass
gc.collect()
print("alive")
"""


def test_an_error_may_outlive_the_memory_that_ncnn_worked_in(model_file: Path) -> None:
    """Ctrl-C comes while NCNN works; whoever keeps it keeps the frames, which are freed in no particular order."""
    command = [sys.executable, "-c", INTERRUPTED, str(model_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr

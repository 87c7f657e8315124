"""Checkpoints of every container, what they say of classes and of the network, and what is no checkpoint."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor

from runtimes import COCO_CATEGORY_IDS, COCO_CLASS_NAMES, InvalidInput
from runtimes.coco import category_ids
from yolox_deploy import checkpoint as command
from yolox_deploy.model.checkpoint import read_checkpoint, save_checkpoint
from yolox_deploy.model.containers import are_placeholders
from yolox_deploy.model.mmdet_keys import mmdet_keys
from yolox_deploy.model.open import describe, open_trained
from yolox_deploy.model.trained_with import TrainedWith
from yolox_deploy.model.yolox import YOLOX

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(0)
    return YOLOX("yolox-nano", 2).state_dict()


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Any]:
    def read(content: Any, name: str = "model.pth") -> Any:
        torch.save(content, tmp_path / name)
        return read_checkpoint(tmp_path / name)

    return read


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> State:
    return {prefix + key: value for key, value in state.items()}


def zeros(state: State) -> State:
    return {key: torch.zeros_like(value) for key, value in state.items()}


def assert_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


CONTAINERS: dict[str, Callable[[State], Any]] = {
    "torch.compile": lambda state: {"model": prefixed("_orig_mod.", state)},
    "compiled and distributed": lambda state: {"model": prefixed("module._orig_mod.", state)},
    "Lightning": lambda state: {
        "state_dict": prefixed("model.", state) | {"loss.weight": torch.ones(1)},
        "pytorch-lightning_version": "2.2.0",
        "global_step": 10,
    },
    "Lightning, net": lambda state: {"state_dict": prefixed("net.", state)},
    "EMA alone": lambda state: {"ema": state, "epoch": 3},
    "EMA holding a module": lambda state: {"ema": {"module": state, "updates": 7}},
    "EMA holding a state dict": lambda state: {"ema": {"state_dict": prefixed("module.", state)}},
    "AveragedModel": lambda state: {"model_ema": prefixed("module.", state) | {"n_averaged": torch.tensor(4)}},
    "student": lambda state: {"state_dict": prefixed("student.", state)},
    "network alone": lambda state: {"net": state},
    "bare, with a prefix": lambda state: prefixed("module.", state),
    "mmdetection in Lightning": lambda state: {"state_dict": prefixed("model.", mmdet_keys(state))},
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_container_is_read(kind: str, state: State, read: Callable[..., Any]) -> None:
    assert_same(read(CONTAINERS[kind](state), "model.pth.tar").state_dict, state)


@pytest.mark.parametrize(
    "both",
    [
        lambda ema, raw: {"model": raw, "ema": ema},
        lambda ema, raw: {"ema_model": ema, "state_dict": raw},
        lambda ema, raw: {"state_dict": prefixed("model.", raw) | prefixed("ema_model.module.", ema)},
        lambda ema, raw: {"state_dict": prefixed("student.", raw) | prefixed("teacher.", ema)},
        lambda ema, raw: {"state_dict": raw, "state_dict_ema": ema},
    ],
)
def test_averaged_weights_come_before_raw_ones_and_it_is_said(
    both: Callable[[State, State], Any], state: State, read: Callable[..., Any]
) -> None:
    found = read(both(state, zeros(state)))
    assert_same(found.state_dict, state)
    assert "EMA" in found.weights and "others are" in found.weights
    other = read(both(state, {}))  # without raw ones
    assert "EMA" in other.weights and "others" not in other.weights


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_number_formats_become_float32(dtype: torch.dtype, state: State, read: Callable[..., Any]) -> None:
    stored = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
    found = read({"model": prefixed("module.", stored)})
    assert {value.dtype for value in found.state_dict.values()} == {torch.float32, torch.int64}
    assert_same(found.state_dict, {key: value.to(state[key].dtype) for key, value in stored.items()})
    found.build()(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("name", ["x.pth.tar", "X.PTH", "epoch_300", "x.CKPT"])
def test_reading_does_not_depend_on_the_suffix(name: str, state: State, read: Callable[..., Any]) -> None:
    assert_same(read({"model": state}, name).state_dict, state)


def test_safetensors_in_capitals(state: State, read: Callable[..., Any], tmp_path: Path) -> None:
    save_checkpoint(read({"model": state}), tmp_path / "x.SAFETENSORS", "safetensors")
    assert read_checkpoint(tmp_path / "x.SAFETENSORS").source == "safetensors"


def test_keys_that_fit_nothing_are_named(tmp_path: Path, read: Callable[..., Any]) -> None:
    with pytest.raises(InvalidInput, match=r"state_dict, epoch.*encoder\.layer\.weight") as caught:
        read({"state_dict": {"encoder.layer.weight": torch.zeros(1)}, "epoch": 3})
    assert "\n" not in str(caught.value)
    with pytest.raises(InvalidInput, match="x1b"):
        read({"\x1b[2J": torch.zeros(1)})


@pytest.mark.parametrize("kind", ["dicts that hold themselves", "very many sets"])
def test_a_trap_takes_no_time(kind: str, state: State, read: Callable[..., Any]) -> None:
    if kind == "very many sets":
        anchor = torch.zeros(1)
        content: dict[str, Any] = {f"a{index}.head.cls_preds.0.weight": anchor for index in range(20_000)}
    else:
        content = {}
        content |= {f"a{index}": content for index in range(5_000)}
    start = time.perf_counter()
    with pytest.raises(InvalidInput):
        read(content)
    assert time.perf_counter() - start < 20


def other_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Files of other kinds under a checkpoint's name, and what the message has to say."""
    files = {name: folder / f"{name}.pth" for name in ("script", "program", "onnx", "engine", "module", "gzip", "page")}
    torch.jit.script(torch.nn.Linear(2, 2)).save(files["script"])
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    torch.export.save(program, folder / "program.pt2")
    (folder / "program.pt2").rename(files["program"])
    graph = onnx.parser.parse_graph("g (float[1] x) => (float[1] y) { y = Identity(x) }")
    onnx.save(onnx.helper.make_model(graph, producer_name="pytorch"), files["onnx"])
    files["engine"].write_bytes(b"ptrt" + bytes(200))
    torch.save({"model": torch.nn.Sequential(torch.nn.Linear(2, 2))}, files["module"])
    files["gzip"].write_bytes(gzip.compress(b"weights"))
    files["page"].write_text("<!DOCTYPE html><html></html>")
    says = {
        "script": "is a TorchScript program, not a checkpoint",
        "program": "is a torch.export program, not a checkpoint",
        "onnx": "is an ONNX file, not a checkpoint",
        "engine": "is a TensorRT engine, not a checkpoint",
        "module": r"whole pickled model \(torch.nn.modules.*state_dict",
        "gzip": "compressed by gzip",
        "page": "web page",
    }
    return {name: (path, says[name]) for name, path in files.items()}


@pytest.mark.parametrize("kind", ["script", "program", "onnx", "engine", "module", "gzip", "page"])
def test_files_of_other_kinds_are_called_what_they_are(kind: str, tmp_path: Path) -> None:
    path, says = other_files(tmp_path)[kind]
    with pytest.raises(InvalidInput, match=says) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


NAMES: dict[str, dict[str, Any]] = {
    "ours": {"class_names": ("helmet", "vest")},
    "a dict": {"names": {0: "helmet", 1: "vest"}},
    "a dict with texts as keys": {"names": {"1": "vest", "0": "helmet"}},
    "a list": {"names": ["helmet", "vest"]},
    "mmdetection 2": {"meta": {"CLASSES": ("helmet", "vest")}},
    "mmengine": {"meta": {"dataset_meta": {"classes": ["helmet", "vest"], "palette": [(1, 2, 3), (4, 5, 6)]}}},
    "mmengine, old": {"meta": {"dataset_meta": {"CLASSES": ["helmet", "vest"]}}},
    "Lightning": {"hyper_parameters": {"classes": ["helmet", "vest"], "lr": 0.1}},
    "classes": {"classes": ["helmet", "vest"]},
}


@pytest.mark.parametrize("kind", NAMES)
def test_class_names_are_read_whoever_wrote_them(kind: str, state: State, read: Callable[..., Any]) -> None:
    found = read({"model": state, **NAMES[kind]})
    assert (found.class_names, found.category_ids, found.notes) == (("helmet", "vest"), (1, 2), ())
    assert describe(found.build(), found).spec.class_names == ("helmet", "vest")


@pytest.mark.parametrize(
    "names", [["class 0", "class 1"], ["class_0", "class_1"], ["0", "1"], ["Class1", "Class2"], {0: "0", 1: "1"}]
)
def test_numbers_are_no_names(names: Any, state: State, read: Callable[..., Any]) -> None:
    found = read({"model": state, "names": names})
    assert (found.class_names, found.category_ids, found.notes) == ((), (), ())


def test_names_that_hold_numbers_are_names() -> None:
    assert not are_placeholders(["class A", "class B"])
    assert not are_placeholders(["5", "10"])  # coins
    assert not are_placeholders(["0", "person"])


@pytest.mark.parametrize(
    ("names", "says"),
    [(["cat", "dog", "owl"], "names 3 classes, but its weights have 2"), ({1: "cat", 2: "dog"}, "not from 0 on")],
)
def test_names_that_do_not_fit_are_not_dropped_in_silence(
    names: Any, says: str, state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"model": state, "names": names}, tmp_path / "m.pth")
    assert command.main([str(tmp_path / "m.pth")]) == 0
    assert says in capsys.readouterr().err
    trained = open_trained(tmp_path / "m.pth", TrainedWith())
    assert trained.spec.class_names == ("class 0", "class 1")
    assert says in trained.notes[0]


def test_coco_names_bring_coco_ids(state: State, read: Callable[..., Any]) -> None:
    assert category_ids(COCO_CLASS_NAMES) == COCO_CATEGORY_IDS
    assert category_ids(("person", "chair", "car")) == (1, 62, 3)
    assert category_ids(("person", "helmet")) == (1, 2)
    assert category_ids(("car", "car")) == (1, 2)
    found = read({"model": state, "names": ["chair", "car"]})
    assert found.category_ids == (62, 3)
    own = read({"model": state, "class_names": ["chair", "car"], "category_ids": [5, 9]})
    assert own.category_ids == (5, 9)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("vest\nhelmet", "class 0 'helmet', and --class-names 'vest'"),
        ("helmet\ngloves", "class 1 'vest', and --class-names 'gloves'"),
        ("helmet", r"2 classes \(helmet, vest\), and --class-names 1 \(helmet\)"),
    ],
)
def test_class_names_that_contradict_the_file_are_refused(
    given: str, says: str, state: State, read: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "names.txt").write_text(given)
    found = read({"model": state, "class_names": ("helmet", "vest"), "category_ids": (4, 7)})
    with pytest.raises(InvalidInput, match=f"{says}: leave --class-names out"):
        describe(found.build(), found, class_names=str(tmp_path / "names.txt"))


def test_class_names_in_another_spelling_are_accepted(state: State, read: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("Hard hat\nVEST\n")
    found = read({"model": state, "class_names": ("hard_hat", "vest"), "category_ids": (4, 7)})
    spec = describe(found.build(), found, class_names=str(tmp_path / "names.txt")).spec
    assert (spec.class_names, spec.category_ids) == (("Hard hat", "VEST"), (4, 7))


KNOWN = TrainedWith("relu", 1e-5, "legacy")


@pytest.mark.parametrize("layout", ["official", "mmdet", "safetensors"])
def test_what_weights_were_trained_with_is_kept_in_every_layout(
    layout: str, state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "m.pth", tmp_path / "out.safetensors"
    torch.save({"model": state}, source)
    options = ["--activation", "relu", "--batch-norm-eps", "1e-5", "--preprocessing", "legacy"]
    assert command.main([str(source), "--convert", layout, "--output", str(output), *options]) == 0
    if layout != "safetensors":
        output = output.rename(tmp_path / "out.pth")
    found = read_checkpoint(output)
    assert (found.trained_with, found.assumed) == (KNOWN, "")
    capsys.readouterr()
    assert command.main([str(output)]) == 0
    printed = capsys.readouterr().out
    assert "ReLU" in printed and "1e-05" in printed and "ImageNet" in printed and "assumed" not in printed
    model = found.build()
    assert (model.activation, model.batch_norm_eps) == ("relu", 1e-5)
    assert {type(module) for module in model.modules()} & {torch.nn.ReLU, torch.nn.SiLU} == {torch.nn.ReLU}
    assert {module.eps for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)} == {1e-5}
    spec = describe(model, found).spec
    assert (spec.activation, spec.batch_norm_eps, spec.channel_order, spec.normalization) == (
        "relu",
        1e-5,
        "RGB",
        "imagenet",
    )


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (["--activation", "silu"], "says relu, not the silu of --activation"),
        (["--batch-norm-eps", "0.001"], r"says 1e-05, not the 0\.001 of --batch-norm-eps"),
        (["--preprocessing", "official"], "says legacy, not the official of --preprocessing"),
    ],
)
def test_options_that_contradict_the_file_are_refused(
    option: list[str], says: str, state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = {"activation": "relu", "batch_norm_eps": 1e-5, "preprocessing": "legacy"}
    torch.save({"model": state, **facts}, tmp_path / "m.pth")
    assert command.main([str(tmp_path / "m.pth"), *option]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    with pytest.raises(InvalidInput, match=says):
        read_checkpoint(tmp_path / "m.pth").with_options(
            TrainedWith(**{option[0][2:].replace("-", "_"): float(option[1]) if option[1][0] == "0" else option[1]})
        )  # type: ignore[arg-type]


@pytest.mark.parametrize("eps", ["0", "-1e-3", "2", "nan"])
def test_an_eps_out_of_range_is_refused(eps: str, state: State, tmp_path: Path) -> None:
    torch.save({"model": state}, tmp_path / "m.pth")
    with pytest.raises((InvalidInput, SystemExit)):
        TrainedWith(batch_norm_eps=float(eps))


@pytest.mark.parametrize("facts", [{"activation": "mish"}, {"batch_norm_eps": "x"}, {"preprocessing": 3}])
def test_facts_that_are_no_sound_values_are_as_good_as_absent(
    facts: dict[str, Any], state: State, read: Callable[..., Any]
) -> None:
    found = read({"model": state, **facts})
    assert found.trained_with == TrainedWith()
    assert found.assumed == "SiLU, batch-norm eps 0.001, BGR 0..255"


def test_what_is_assumed_is_said(state: State, read: Callable[..., Any]) -> None:
    found = read({"model": state}).with_options(TrainedWith(batch_norm_eps=1e-5))
    assert found.assumed == "SiLU, BGR 0..255"
    darknet = YOLOX("yolox-darknet53", 1)
    assert darknet.activation == "lrelu"


def test_old_libreyolo_is_warned_of(state: State, read: Callable[..., Any]) -> None:
    assert "--batch-norm-eps 1e-5" in read({"model": state, "libreyolo_version": "1.4.2"}).notes[0]
    assert read({"model": state, "libreyolo_version": "1.6.0"}).notes == ()


def test_the_libreyolo_case(shared: Path) -> None:
    found = read_checkpoint(shared / "cases" / "files" / "libreyolo_two_classes.pt")
    assert (found.source, found.class_names, found.input_size) == ("LibreYOLO", ("helmet", "vest"), (416, 416))


def test_the_cases_of_real_weights(shared: Path, read: Callable[..., Any]) -> None:
    """The recipe of ../shared/cases: one set of weights in every container, and COCO's names without ids."""
    weights = torch.load(shared / "weights" / "yolox_nano.pth", map_location="cpu", weights_only=True)["model"]
    compiled = read({"model": prefixed("_orig_mod.", weights)})
    lightning = read({"state_dict": prefixed("model.", weights), "pytorch-lightning_version": "2.2.0"}, "m.ckpt")
    ema = read({"ema": dict(weights), "epoch": 3})
    for found in (compiled, lightning, ema):
        assert_same(found.state_dict, weights)
    half = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    found = read({"model": prefixed("module.", half)})
    for key, value in weights.items():
        assert torch.allclose(found.state_dict[key].double(), value.double(), rtol=1e-3, atol=1e-6)
    meta = {"dataset_meta": {"classes": COCO_CLASS_NAMES}, "mmengine_version": "0.10.4", "cfg": "model = dict()\n"}
    zoo = read({"meta": meta, "state_dict": mmdet_keys(weights)})
    assert describe(zoo.build(), zoo).spec.category_ids == COCO_CATEGORY_IDS


def test_lightning_hyperparameters_are_read_without_its_classes(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning keeps them in a dict of its own class, which runs nothing here."""
    import sys
    from types import ModuleType

    class AttributeDict(dict[str, Any]):
        pass

    module = "pytorch_lightning.utilities.parsing"
    AttributeDict.__module__, AttributeDict.__qualname__ = module, "AttributeDict"
    for name in ("pytorch_lightning", "pytorch_lightning.utilities", module):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules[module], "AttributeDict", AttributeDict, raising=False)
    content = {"state_dict": prefixed("model.", state), "hyper_parameters": AttributeDict(class_names=["a", "b"])}
    torch.save(content, tmp_path / "m.ckpt")
    monkeypatch.undo()
    assert read_checkpoint(tmp_path / "m.ckpt").class_names == ("a", "b")

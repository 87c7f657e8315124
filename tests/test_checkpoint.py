from __future__ import annotations

import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from runtimes import InvalidInput
from yolox_deploy import checkpoint as command
from yolox_deploy.model.checkpoint import read_checkpoint, recognise, save_checkpoint
from yolox_deploy.model.mmdet_keys import mmdet_keys, official_keys
from yolox_deploy.model.variants import VARIANTS, VariantName
from yolox_deploy.model.yolox import YOLOX

IN_MMDETECTION = [variant for variant in VARIANTS if variant != "yolox-darknet53"]


def randomised(variant: VariantName, num_classes: int = 80) -> YOLOX:
    """A model whose every tensor is different from its initial value, batch norm statistics included."""
    torch.manual_seed(0)
    model = YOLOX(variant, num_classes).eval()
    for name, value in model.state_dict().items():
        if name.endswith(("running_var", "bn.weight")):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point():
            value.add_(torch.randn_like(value) * 0.05)
    return model


def save(content: Any, folder: Path, name: str = "model.pth") -> Path:
    torch.save(content, folder / name)
    return folder / name


@pytest.fixture(scope="module")
def nano() -> YOLOX:
    return randomised("yolox-nano")


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return list(left) == list(right) and all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_and_classes_are_recognised(variant: VariantName) -> None:
    with torch.device("meta"):
        assert recognise(YOLOX(variant, 7).state_dict()) == (variant, 7)


def test_official_file_with_a_numpy_scalar(nano: YOLOX, tmp_path: Path) -> None:
    content = {"model": nano.state_dict(), "start_epoch": 3, "best_ap": np.float64(0.25), "curr_ap": np.float32(0.2)}
    checkpoint = read_checkpoint(save(content, tmp_path))
    assert (checkpoint.source, checkpoint.variant, checkpoint.num_classes) == ("official", "yolox-nano", 80)
    assert "EMA" in checkpoint.weights
    assert same(checkpoint.state_dict, nano.state_dict())


def test_official_file_with_numpy_1_names(nano: YOLOX, tmp_path: Path) -> None:
    """NumPy 1 called the module numpy.core: both names have to be read, whichever NumPy is installed."""
    path = save({"model": nano.state_dict(), "best_ap": np.float64(0.25)}, tmp_path)
    names = {b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"}
    found = 0
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "other.pth", "w") as target:
        for entry in source.namelist():
            content = source.read(entry)
            here = next((name for name in names if entry.endswith("data.pkl") and name in content), None)
            if here:
                content = content.replace(here, (names - {here}).pop())
                found += 1
            target.writestr(entry, content)
    assert found == 1
    assert read_checkpoint(tmp_path / "other.pth").source == "official"


def test_bare_and_distributed_state_dicts(nano: YOLOX, tmp_path: Path) -> None:
    assert read_checkpoint(save(nano.state_dict(), tmp_path)).source == "bare state dict"
    wrapped = {f"module.{key}": value for key, value in nano.state_dict().items()}
    assert same(read_checkpoint(save(wrapped, tmp_path)).state_dict, nano.state_dict())


def test_mmdetection_2_with_ema_buffers(nano: YOLOX, tmp_path: Path) -> None:
    plain = mmdet_keys(nano.state_dict())
    raw = {f"ema_{key.replace('.', '_')}": torch.zeros_like(value) for key, value in plain.items()}
    meta = {"CLASSES": ("cat",) * 80, "mmdet_version": "2.18.0"}
    checkpoint = read_checkpoint(save({"meta": meta, "state_dict": {**plain, **raw}}, tmp_path))
    assert checkpoint.source == "mmdetection 2.x"
    assert "EMA" in checkpoint.weights
    assert checkpoint.class_names == ("cat",) * 80
    assert same(checkpoint.state_dict, nano.state_dict())


class HistoryBuffer:
    """Stands in for mmengine's class of this name, which its training checkpoints hold: arrays, and its own methods.

    pickle writes the methods as calls of `getattr`.
    """

    def __init__(self) -> None:
        self.history = np.zeros(3)
        self.methods = {"min": HistoryBuffer.min}

    def min(self) -> None: ...


HistoryBuffer.__module__ = "mmengine.logging.history_buffer"


def test_mmengine_with_its_own_objects_inside(nano: YOLOX, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import ModuleType

    for name in ("mmengine", "mmengine.logging", "mmengine.logging.history_buffer"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["mmengine.logging.history_buffer"], "HistoryBuffer", HistoryBuffer, raising=False)
    averaged = mmdet_keys(nano.state_dict())
    content = {
        "meta": {"dataset_meta": {"classes": tuple(f"thing {index}" for index in range(80))}},
        "state_dict": averaged,
        "ema_state_dict": {f"module.{key}": torch.zeros_like(value) for key, value in averaged.items()},
        "message_hub": {"loss": HistoryBuffer()},
    }
    path = save(content, tmp_path)
    assert "builtins.getattr" in torch.serialization.get_unsafe_globals_in_checkpoint(path)
    monkeypatch.undo()  # the reader does not have mmengine
    checkpoint = read_checkpoint(path)
    assert checkpoint.source == "mmdetection 3.x (mmengine)"
    assert checkpoint.class_names[2] == "thing 2"
    assert same(checkpoint.state_dict, nano.state_dict())


@pytest.mark.parametrize(
    "variant",
    [pytest.param(name, marks=[pytest.mark.slow] if name in ("yolox-l", "yolox-x") else []) for name in IN_MMDETECTION],
)
def test_mmdetection_round_trip_keeps_the_outputs(variant: VariantName, tmp_path: Path) -> None:
    model = randomised(variant, num_classes=3)
    classes = {"class_names": ("cat", "dog", "owl"), "category_ids": (7, 3, 30)}
    official = read_checkpoint(save({"model": model.state_dict(), **classes}, tmp_path, "official.pth"))
    save_checkpoint(official, tmp_path / "mmdet.pth", "mmdet")
    stored = torch.load(tmp_path / "mmdet.pth", weights_only=True)["state_dict"]
    assert {key.split(".")[0] for key in stored} == {"backbone", "neck", "bbox_head"}
    save_checkpoint(read_checkpoint(tmp_path / "mmdet.pth"), tmp_path / "back.pth", "official")
    back = read_checkpoint(tmp_path / "back.pth")
    assert same(back.state_dict, model.state_dict())
    assert (back.class_names, back.category_ids) == (("cat", "dog", "owl"), (7, 3, 30))
    images = torch.rand(1, 3, 64, 96) * 255
    with torch.inference_mode():
        assert (back.build()(images) - model(images)).abs().max() <= 1e-5


def test_safetensors_hold_half_and_say_what_they_are(tmp_path: Path) -> None:
    model = randomised("yolox-nano", num_classes=3)
    facts = {"class_names": ("cat", "dog", "owl"), "category_ids": (7, 3, 30), "input_size": (320, 416)}
    official = save({"model": model.state_dict(), **facts}, tmp_path, "official.pth")
    half = tmp_path / "half.safetensors"
    assert command.main([str(official), "--convert", "safetensors", "--output", str(half)]) == 0
    assert half.stat().st_size < 0.6 * official.stat().st_size
    found = read_checkpoint(half)
    assert (found.class_names, found.category_ids, found.input_size) == tuple(facts.values())
    assert (found.source, found.variant) == ("safetensors", "yolox-nano")
    for name, value in model.state_dict().items():
        expected = value.half().float() if value.ndim == 4 else value
        assert found.state_dict[name].dtype == value.dtype and torch.equal(found.state_dict[name], expected)
    assert command.main([str(official), "--convert", "mmdet", "--output", str(tmp_path / "mmdet.pth")]) == 0
    converted = read_checkpoint(tmp_path / "mmdet.pth")
    assert (converted.class_names, converted.category_ids, converted.input_size) == tuple(facts.values())
    half.write_bytes(half.read_bytes()[:5000])
    with pytest.raises(InvalidInput, match="is damaged, or no safetensors file"):
        read_checkpoint(half)
    assert command.main([str(official), "--convert", "safetensors", "--output", str(tmp_path / "x.pth")]) == 1


def test_an_input_size_that_is_none_is_ignored(tmp_path: Path) -> None:
    for size in ("416", (416,), (416, 400), (0, 0), (True, 416), torch.tensor([416, 416]), np.array([416, 416])):
        path = save({"model": YOLOX("yolox-nano", 2).state_dict(), "input_size": size}, tmp_path, "odd.pth")
        assert read_checkpoint(path).input_size is None


def test_key_map_follows_mmdetection(nano: YOLOX) -> None:
    """A few names from mmdetection's own files, where the map could go wrong."""
    keys = set(mmdet_keys(nano.state_dict()))
    assert {
        "backbone.stem.conv.conv.weight",
        "backbone.stage1.0.depthwise_conv.conv.weight",
        "backbone.stage1.1.main_conv.conv.weight",
        "backbone.stage1.1.blocks.0.conv2.pointwise_conv.bn.weight",
        "backbone.stage4.1.conv2.conv.weight",  # SPP keeps conv1 and conv2
        "neck.downsamples.0.depthwise_conv.conv.weight",
        "neck.bottom_up_blocks.1.final_conv.bn.bias",
        "bbox_head.multi_level_conv_obj.2.bias",
    } <= keys
    assert same(official_keys(mmdet_keys(nano.state_dict())), nano.state_dict())


def test_darknet53_has_no_counterpart() -> None:
    with torch.device("meta"), pytest.raises(InvalidInput, match="Darknet-53"):
        mmdet_keys(YOLOX("yolox-darknet53").state_dict())


class Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
def test_a_hostile_pickle_is_refused_and_not_run(zipped: bool, nano: YOLOX, tmp_path: Path) -> None:
    mark = tmp_path / "was-here"
    content = {"model": nano.state_dict(), "extra": Hostile(mark)}
    torch.save(content, tmp_path / "model.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InvalidInput, match=r"system.*refused"):
        read_checkpoint(tmp_path / "model.pth")
    assert not mark.exists()


def test_a_hostile_plain_pickle_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "was-here"
    (tmp_path / "model.pth").write_bytes(pickle.dumps(Hostile(mark)))
    with pytest.raises(InvalidInput):
        read_checkpoint(tmp_path / "model.pth")
    assert not mark.exists()


def test_what_would_unpack_to_more_is_refused_before_it_is(nano: YOLOX, tmp_path: Path) -> None:
    """A compressed archive, which PyTorch itself would unpack: here to 400 MB."""
    path = save({"model": nano.state_dict()}, tmp_path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data/999", bytes(400 << 20))
    assert path.stat().st_size < 10 << 20
    tracemalloc.start()
    with pytest.raises(InvalidInput, match=r"would unpack to \d+: refused"):
        read_checkpoint(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("way", ["zeros after it", "another list of contents"])
def test_an_archive_that_is_seen_otherwise_by_others_is_refused(way: str, nano: YOLOX, tmp_path: Path) -> None:
    """Python and PyTorch look for an archive's list of contents in different places."""
    content = save({"model": nano.state_dict()}, tmp_path).read_bytes()
    if way == "zeros after it":
        content += bytes(68_000)
    else:
        end = content.rindex(b"PK\x05\x06")
        start = int.from_bytes(content[end + 16 : end + 20], "little")
        content = content[:end] + content[start:end] + content[end:]
    (tmp_path / "odd.pth").write_bytes(content)
    with pytest.raises(InvalidInput, match="damaged or cut short"):
        read_checkpoint(tmp_path / "odd.pth")


def test_a_file_beyond_all_checkpoints_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "model.pth").open("wb") as file:
        file.truncate(5 << 30)  # takes no space on the disk
    with pytest.raises(InvalidInput, match=r"has 5 GiB, more than any YOLOX checkpoint: refused"):
        read_checkpoint(tmp_path / "model.pth")


def bad_files(folder: Path, nano: YOLOX) -> dict[str, tuple[Path, str]]:
    whole = save({"model": nano.state_dict()}, folder, "whole.pth").read_bytes()
    (folder / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (folder / "text.pth").write_text("these are no weights\n" * 50)
    (folder / "empty.pth").touch()
    damaged = nano.state_dict() | {"head.cls_preds.1.bias": torch.zeros(3)}
    return {
        "cut short": (folder / "cut.pth", "damaged or cut short"),
        "text": (folder / "text.pth", "not a PyTorch checkpoint"),
        "empty": (folder / "empty.pth", "not a PyTorch checkpoint"),
        "missing": (folder / "nothing.pth", "does not exist"),
        "folder": (folder, "not a file"),
        "list": (save([1, 2], folder, "list.pth"), "holds a list"),
        "another model": (save({"fc.weight": torch.zeros(2)}, folder, "other.pth"), "no YOLOX weights"),
        "one wrong tensor": (save(damaged, folder, "wrong.pth"), "nearest is yolox-nano.*head.cls_preds.1.bias"),
    }


@pytest.mark.parametrize(
    "case", ["cut short", "text", "empty", "missing", "folder", "list", "another model", "one wrong tensor"]
)
def test_bad_files_end_in_one_sentence(
    case: str, nano: YOLOX, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, says = bad_files(tmp_path, nano)[case]
    with pytest.raises(InvalidInput, match=says):
        read_checkpoint(path)
    output = tmp_path / "out" / "converted.pth"
    assert command.main([str(path), "--convert", "mmdet", "--output", str(output)]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert not output.parent.exists()


@pytest.mark.parametrize(
    "extra",
    [{"class_names": 5}, {"class_names": {"a": 1}}, {"category_ids": ["x"] * 80}, {"meta": 3}, {0: torch.zeros(1)}],
    ids=str,
)
def test_odd_metadata_is_left_aside(extra: dict[Any, Any], nano: YOLOX, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(save({"model": {**nano.state_dict(), 0: 1}, **extra}, tmp_path))
    assert (checkpoint.class_names, checkpoint.category_ids) == ((), ())


def test_a_conflict_names_both(nano: YOLOX, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(save(nano.state_dict(), tmp_path))
    with pytest.raises(InvalidInput, match=r"yolox-nano.*yolox-s"):
        checkpoint.require("yolox-s", None)
    with pytest.raises(InvalidInput, match=r"80 classes.*3"):
        checkpoint.require(None, 3)


def test_the_command_says_what_a_file_is_and_converts(
    nano: YOLOX, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save({"model": nano.state_dict()}, tmp_path)
    converted = tmp_path / "mmdet.pth"
    assert command.main([str(path), "--convert", "mmdet", "--output", str(converted)]) == 0
    printed = capsys.readouterr().out
    for fact in ("yolox-nano", "80: person", "official", "EMA", "912,159", "1.08 at 416x416", "0.001"):
        assert fact in printed
    assert read_checkpoint(converted).source == "mmdetection"
    before = converted.read_bytes()
    assert command.main([str(path), "--convert", "official", "--output", str(converted)]) == 1
    assert converted.read_bytes() == before


def test_names_that_steer_a_terminal_and_weights_that_are_no_numbers_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state_dict = YOLOX("yolox-nano", 2).state_dict()
    state_dict["head.stems.0.conv.weight"][0, 0] = float("nan")
    torch.save({"model": state_dict, "class_names": ["\x1b[2J", "dog"]}, tmp_path / "odd.pth")
    assert command.main([str(tmp_path / "odd.pth")]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and r"2: '\x1b[2J', dog" in printed
    assert "some are NaN or infinite" in " ".join(printed.split())


def test_a_small_file_cannot_ask_for_all_memory(tmp_path: Path) -> None:
    state_dict = YOLOX("yolox-nano", 2).state_dict()
    for level in range(3):
        for part, shape in (("weight", (10**9, 64, 1, 1)), ("bias", (10**9,))):
            state_dict[f"head.cls_preds.{level}.{part}"] = torch.zeros(1).expand(shape)
    torch.save({"model": state_dict}, tmp_path / "vast.pth")
    with pytest.raises(InvalidInput, match=r"holds less of head\.cls_preds\.0\.weight than it says"):
        read_checkpoint(tmp_path / "vast.pth")


@pytest.mark.parametrize("metadata", [{"class_names": "[" * 200_000}, {"class_names": "7"}])
def test_odd_metadata_of_safetensors_is_one_sentence(metadata: dict[str, str], tmp_path: Path) -> None:
    save_file(YOLOX("yolox-nano", 2).state_dict(), tmp_path / "odd.safetensors", metadata)
    with pytest.raises(InvalidInput, match="is damaged, or no safetensors file"):
        read_checkpoint(tmp_path / "odd.safetensors")

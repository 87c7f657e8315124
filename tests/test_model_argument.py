"""One way to name a model, in every command: its first argument, or an option; whatever its suffix."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.compare import __main__ as compare
from benchmarks.diverge import __main__ as diverge
from benchmarks.kit import __main__ as kit
from benchmarks.parity import __main__ as parity
from benchmarks.tune import __main__ as tune
from exporters.artifact import Artifact
from runtimes import Detections, InvalidInput, load
from runtimes.load import is_checkpoint, model_file
from runtimes.preprocess import Image
from yolox_deploy import checkpoint, detect, evaluate, export, serving, train
from yolox_deploy.data.scenes import main as draw_scenes
from yolox_deploy.drawing import write_picture
from yolox_deploy.model.checkpoint import read_checkpoint, save_checkpoint
from yolox_deploy.model.download import CACHE_VARIABLE, FILES
from yolox_deploy.model_argument import find_artifact, find_checkpoint, find_model, one_model

WEIGHTS = Path(__file__).parents[1] / "yolox_deploy" / "weights" / "yolox-nano-scenes.safetensors"
TARGETS = {"onnx": ["MODEL.ONNX"], "openvino": ["MODEL.XML", "MODEL.BIN"], "ncnn": ["MODEL.PARAM", "MODEL.BIN"]}

Main = Callable[[list[str]], int]


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled weights in the official format."""
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    save_checkpoint(read_checkpoint(WEIGHTS), path, "official")
    return path


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "scenes"
    assert draw_scenes([str(folder), "--train", "2", "--val", "2"]) == 0
    return folder


@pytest.fixture
def here(official: Path, artifact_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with models of every kind; the official weights of a variant were downloaded before."""
    folder = tmp_path / "here"
    (folder / "cache").mkdir(parents=True)
    (folder / "training").mkdir()
    shutil.copy(official, folder / "cache" / FILES["yolox-nano"])
    shutil.copy(official, folder / "training" / "best.pth")
    shutil.copy(official, folder / "other.pth")
    shutil.copytree(artifact_folder, folder / "artifact")
    (folder / "data.yaml").write_text("train: images\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv(CACHE_VARIABLE, str(folder / "cache"))
    return folder


@pytest.fixture(scope="module")
def artifact_folder(official: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("artifacts")
    assert export.main([str(official), "--input-size", "64", "64", "--output", str(output)]) == 0
    return output / "yolox-nano-onnx-fp32"


@pytest.mark.parametrize(
    "name", ["x.pth", "X.PTH", "x.pth.tar", "x.pt", "x.Ckpt", "x.safetensors", "epoch_300", "x.bin", "checkpoint.tar"]
)
def test_a_checkpoint_is_known_whatever_it_is_called(name: str, tmp_path: Path, official: Path) -> None:
    shutil.copy(WEIGHTS if "safe" in name else official, tmp_path / name)
    assert is_checkpoint(tmp_path / name)
    with pytest.raises(InvalidInput, match=f"yolox-deploy export {tmp_path / name} makes artifacts"):
        load(tmp_path / name)
    assert find_checkpoint(str(tmp_path / name)) == find_model(str(tmp_path / name)) == tmp_path / name


def test_a_checkpoint_of_before_archives_is_known_by_its_content(tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / "old", _use_new_zipfile_serialization=False)
    assert is_checkpoint(tmp_path / "old")


def test_other_files_are_no_checkpoints(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays", values=np.zeros(3))
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    (tmp_path / "damaged").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "text").write_text("text")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "model.onnx").write_bytes(b"\x80\x02")
    for name in ("arrays.npz", "archive", "damaged", "text", "empty", "folder", "missing", "model.onnx"):
        assert not is_checkpoint(tmp_path / name), name


@pytest.mark.parametrize("target", ["onnx", "openvino", "ncnn"])
def test_upper_case_models_are_what_they_are_in_lower_case(
    target: str, single: Callable[[str], Artifact], images: list[Image], tmp_path: Path
) -> None:
    folder = single(target).folder
    upper = tmp_path / "upper"
    upper.mkdir()
    shutil.copy(folder / "spec.json", upper)
    for name in TARGETS[target]:
        shutil.copy(folder / name.lower(), upper / name)

    def found(path: Path) -> Detections:
        with load(path, score_threshold=0.01, threads=1) as detector:
            [detections] = detector.detect_stream(images[:1])
            return detections

    assert model_file(upper).name == TARGETS[target][0]
    expected = found(folder)
    assert len(expected)
    for path in (upper, upper / TARGETS[target][0]):
        assert np.array_equal(found(path).xyxy, expected.xyxy)
    shutil.copy(folder / "parity.json", upper)  # which names other files
    with pytest.raises(InvalidInput, match=f"does not name {TARGETS[target][0]}"):
        load(upper)


EVALUATE = ["--data", "{scenes}", "--input-size", "64", "64"]
# A command with its other arguments, and models that it takes as its first argument.
COMMANDS: dict[str, tuple[Main, list[str], list[str]]] = {
    "export": (export.main, ["--dry-run"], ["other.pth", "training", "yolox-nano"]),
    "train": (
        train.main,
        ["--data", "{scenes}", "--output", "out", "--dry-run"],
        ["other.pth", "training", "yolox-nano"],
    ),
    "checkpoint": (checkpoint.main, [], ["other.pth", "training", "yolox-nano"]),
    "evaluate": (evaluate.main, EVALUATE, ["other.pth", "training", "yolox-nano"]),
    "evaluate artifact": (evaluate.main, EVALUATE[:2], ["artifact", "artifact/model.onnx"]),
    "kit": (kit.main, ["--output", "kit", "--input-size", "64", "64"], ["other.pth", "yolox-nano"]),
    "tune": (tune.main, ["--data", "{scenes}", "--min-ap", "1", "--dry-run"], ["other.pth", "training", "yolox-nano"]),
    "detect": (detect.main, [], ["artifact"]),
    "serving": (serving.main, ["--server", "ovms"], ["artifact"]),
    "diverge": (diverge.main, ["--image", "image.png"], ["other.pth", "training"]),
}
SECOND = {"detect": "image.png", "diverge": "artifact"}
PLACES = [
    pytest.param(command, model, marks=[pytest.mark.slow] if model in models[1:] and command != "checkpoint" else [])
    for command, (_, _, models) in COMMANDS.items()
    for model in models
]


@pytest.mark.parametrize(("command", "model"), PLACES)
def test_the_model_is_the_first_argument_or_an_option(
    command: str, model: str, here: Path, scenes: Path, images: list[Image], capsys: pytest.CaptureFixture[str]
) -> None:
    """The same result, first, last and by an option; of a training's folder, best.pth is taken, which is said once."""
    main, rest, _ = COMMANDS[command]
    rest = [word.replace("{scenes}", str(scenes)) for word in rest]
    write_picture(here / "image.png", images[0])
    second = [SECOND[command]] if command in SECOND else []
    option = "--model" if model == "yolox-nano" else "--weights"
    results = []
    places = [[model, *second, *rest], [*rest, option, model, *second]]
    if model != "yolox-nano" and command != "serving":  # whose --server takes any number of words
        places.append([*rest, model, *second])
    for words in places:
        shutil.rmtree(here / "kit", ignore_errors=True)
        shutil.rmtree(here / "serving", ignore_errors=True)
        shutil.rmtree(here / "detections", ignore_errors=True)
        assert main([*words, "--json", "result.json"]) == 0, words
        assert capsys.readouterr().err.count("its best.pth is taken") == (model == "training")
        results.append(json.loads((here / "result.json").read_text()))
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("command", COMMANDS)
def test_two_models_and_none_are_refused(
    command: str, here: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main, rest, models = COMMANDS[command]
    rest = [word.replace("{scenes}", str(scenes)) for word in rest]
    second = [SECOND[command]] if command in SECOND else []
    (here / "image.png").touch()
    shutil.copy(here / "other.pth", here / "third.pth")
    assert main([models[0], *second, "--weights", "third.pth", *rest]) == 1
    error = capsys.readouterr().err
    assert f"{models[0]} and third.pth are two models: name one of them" in error and error.count("\n") == 1
    if command not in ("export", "train"):  # whose --model is a variant
        assert main(["--model", "third.pth", "--weights", models[0], *second, *rest]) == 1
        assert "third.pth and" in capsys.readouterr().err
    if command != "train":  # which starts from random weights
        assert main(rest) == 1
        error = capsys.readouterr().err
        assert f"no model is named: yolox-deploy {command.split()[0]} " in error and error.count("\n") == 1


@pytest.mark.parametrize("main", [parity.main, compare.main])
def test_a_reference_by_any_of_its_options(main: Main, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = [] if main is parity.main else ["--dry-run"]
    size = ["--input-size", "64", "64"] if main is parity.main else []
    references = []
    for option, model in (("--reference", "training"), ("--weights", "other.pth"), ("--model", "yolox-nano")):
        assert main(["artifact", option, model, *short, *size, "--json", "result.json"]) == 0
        references.append(Path(json.loads((here / "result.json").read_text())["reference"]).name)
    assert references == ["best.pth", "other.pth", "yolox_nano.pth"]
    capsys.readouterr()
    assert main(["artifact", "--reference", "other.pth", "--model", "yolox-nano", *short]) == 1
    assert "other.pth and yolox-nano are two models" in capsys.readouterr().err
    assert main(["artifact", *short]) == 1
    assert "--reference" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("yolox_s", "yolox_s does not exist. Did you mean yolox-s?"),
        ("YOLOX-S", "YOLOX-S does not exist. Did you mean yolox-s?"),
        ("yolox-s.pth", "Did you mean yolox-s?"),
        ("yolox_darknet.pth.tar", "Did you mean yolox-darknet53?"),
        ("yolox-n", "yolox-nano?"),
        ("othr.pth", "othr.pth does not exist. Did you mean other.pth?"),
        ("trainig", "trainig does not exist. Did you mean training?"),
        ("nowhere/at/all.pth", "does not exist. A model is a checkpoint file, such as best.pth, or one of yolox-nano"),
        ("artifact", "artifact is an artifact: name the checkpoint that it was made from"),
        ("artifact/model.onnx", "is an artifact"),
        ("data.yaml", "data.yaml is no checkpoint; a data set is named by --data"),
        ("cache", "cache holds no best.pth, but yolox_nano.pth: name the file, such as cache/yolox_nano.pth"),
        (".", "holds no best.pth, but other.pth: name the file"),
        ("empty", "empty is a folder without a checkpoint"),
        ("artifacts", "artifacts holds artifacts, each in a folder of its own"),
        ("notes.txt", "notes.txt is neither a checkpoint nor one of yolox-nano"),
        ("model.bin", "model.bin holds weights alone: name the .xml or .param file beside it"),
        ("yolox-m", "yolox-m is a variant, and a model in this folder too: ./yolox-m is the one here"),
    ],
)
@pytest.mark.parametrize("command", ["export", "train", "checkpoint"])
def test_what_is_no_checkpoint(
    command: str, model: str, says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "empty").mkdir()
    (here / "notes.txt").write_text("text")
    (here / "model.bin").write_bytes(bytes(9))
    shutil.copytree(here / "artifact", here / "artifacts" / "one")
    shutil.copytree(here / "training", here / "yolox-m")
    main, options, _ = COMMANDS[command]
    assert main([model, *(option.replace("{scenes}", "nowhere") for option in options)]) == 1
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert find_checkpoint("./yolox-m") == Path("yolox-m/best.pth")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("yolox-s", "yolox-s is a variant, not an artifact: yolox-deploy export yolox-s makes one"),
        ("training", "training is the folder of a training: yolox-deploy export training makes artifacts of it"),
        ("artifcat", "artifcat does not exist. Did you mean artifact?"),
        ("nowhere", "nowhere does not exist. An artifact is the folder that yolox-deploy export writes"),
        ("other.pth", "other.pth is a checkpoint: yolox-deploy export other.pth makes artifacts of it"),
    ],
)
def test_what_is_no_artifact(
    model: str, says: str, here: Path, images: list[Image], capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(here / "image.png", images[0])
    for main, words in ((detect.main, [model, "image.png"]), (serving.main, [model, "--server", "ovms"])):
        assert main(words) == 1
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1


def test_an_artifact_whose_replacement_was_killed_is_found(here: Path) -> None:
    (here / "artifact").rename(here / ".artifact.old")
    assert find_artifact("artifact") == find_model("artifact") == Path("artifact")
    with pytest.raises(InvalidInput, match="artifact is an artifact"):
        find_checkpoint("artifact")


def test_equal_names_are_one_model(here: Path) -> None:
    assert one_model("other.pth", "./other.pth", str(here / "other.pth"), type_next="") == "other.pth"
    with pytest.raises(InvalidInput, match="two models"):
        one_model("yolox-nano", "./yolox-nano", type_next="")

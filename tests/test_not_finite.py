"""Files whose weights became NaN or infinite after they were proven: on every backend, such numbers detect nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from exporters.artifact import write_artifact
from exporters.torch_runtime import TorchRuntime
from runtimes import COCO_CLASS_NAMES, Detections, Detector, GraphNMS, InvalidInput, ModelSpec, load
from runtimes.postprocess import decode_output, postprocess
from runtimes.preprocess import Image
from yolox_deploy import export
from yolox_deploy.training.start import open_weights

SPEC = ModelSpec("tiny", (64, 96), ("cat", "dog", "owl"), batch=1)
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "torch": ("torch", {}),
    "onnx": ("onnx", {}),
    "onnx, NMS in the graph": ("onnx", {"nms": GraphNMS(0.05, 0.65)}),
    "onnx, TopK in the graph": ("onnx", {"topk": 60}),
    "openvino": ("openvino", {}),
    "openvino, NMS in the graph": ("openvino", {"nms": GraphNMS(0.05, 0.65)}),
    "openvino, TopK in the graph": ("openvino", {"topk": 60}),
    "ncnn": ("ncnn", {"decoded": False, "uint8_input": False}),
}
# Of the level of stride 16: which numbers of its bias (a box's four, objectness, three classes) become what.
LEVEL = slice(96, 96 + 24)
SPOILT: dict[str, tuple[list[int], float]] = {
    "objectness is NaN": ([4], np.nan),
    "a class is NaN": ([6], np.nan),
    "boxes are NaN": ([0, 1, 2, 3], np.nan),
    "centres are infinite": ([0, 1], np.inf),
    "sizes are infinite": ([2, 3], np.inf),
    "all is NaN": ([*range(8)], np.nan),
}


class Tiny(nn.Module):
    """A detector of one convolution a level, which finds something in every anchor."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.levels = nn.ModuleList(nn.Conv2d(3, 8, stride, stride) for stride in (8, 16, 32))
        with torch.no_grad():
            for level in self.levels:
                level.weight.mul_(1e-2)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([level(images).flatten(2) for level in self.levels], dim=2).transpose(1, 2)


@pytest.fixture(scope="module")
def images() -> list[Image]:
    """As large as the input: in a margin, anchors would have equal scores, of which each backend has its own order."""
    return list(np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8))


@pytest.fixture(scope="module", params=FORMS, ids=lambda form: form.replace(" ", "-"))
def form(request: pytest.FixtureRequest, images: list[Image], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Target, spec, and the folder of a sound artifact."""
    target, options = FORMS[request.param]
    spec = replace(SPEC, **options)
    if target == "torch":
        return target, spec, None
    return target, spec, write_artifact(Tiny(), spec, target, tmp_path_factory.mktemp("sound"), images).folder


def spoil(bias: npt.NDArray[np.float32], case: str) -> npt.NDArray[np.float32]:
    places, value = SPOILT[case]
    spoilt = bias.copy()
    spoilt[places] = value
    return spoilt


def open_spoilt(form: Any, case: str, folder: Path) -> Detector:
    """The artifact with other numbers in its file, and without the record that would refuse it."""
    target, _, sound = form
    model = Tiny()
    bias = model.levels[1].bias.detach().numpy()
    if target == "torch":
        model.levels[1].bias.data = torch.from_numpy(spoil(bias, case))
        return Detector(TorchRuntime(model, SPEC), 0.05, clip=False)
    shutil.copytree(sound, folder)
    (folder / "parity.json").unlink()
    file = next(file for file in (folder / "model.bin", folder / "model.onnx") if file.exists())
    content = file.read_bytes()
    assert content.count(bias.tobytes()) == 1
    file.write_bytes(content.replace(bias.tobytes(), spoil(bias, case).tobytes()))
    return load(folder, score_threshold=0.05, clip=False)


def without_the_level(images: list[Image]) -> list[Detections]:
    """What a sound model detects where the spoilt anchors have no objectness."""
    detector = Detector(TorchRuntime(Tiny(), SPEC))
    output, ratios = detector.infer(images)
    output = decode_output(output, detector.spec)
    output[:, LEVEL, 4] = 0
    return postprocess(output, ratios, replace(SPEC, batch=None), 0.05, 0.65)


@pytest.mark.parametrize("case", SPOILT)
def test_it_detects_what_the_other_anchors_detect(form: Any, case: str, images: list[Image], tmp_path: Path) -> None:
    with open_spoilt(form, case, tmp_path / "spoilt") as detector:
        found = detector(images)
    for own, expected in zip(found, without_the_level(images), strict=True):
        assert np.isfinite(own.xyxy).all() and np.isfinite(own.confidence).all()
        assert (np.diff(own.confidence) <= 0).all()
        # Graphs choose before us: their K best may be dropped, and their best class may be another than NaN. NCNN's
        # sigmoid makes 0 of NaN, so that other classes are left of an anchor.
        chosen = form[1].topk or (case == "a class is NaN" and (form[1].nms or form[0] == "ncnn"))
        if not chosen:
            assert len(own) == len(expected) > 5
            assert np.array_equal(own.class_id, expected.class_id)
            assert np.abs(own.xyxy - expected.xyxy).max() < 1e-2
            assert np.abs(own.confidence - expected.confidence).max() < 1e-5


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["backbone.backbone.stem.conv.conv.weight", "head.obj_preds.0.bias"])
def test_a_checkpoint_with_such_weights_is_refused(
    name: str, value: float, seeded_nano: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where it would show in no output: an infinite bias of the objectness makes it 1 everywhere."""
    weights = {key: tensor.clone() for key, tensor in seeded_nano.state_dict().items()}
    weights[name].view(-1)[0] = value
    torch.save({"model": weights}, tmp_path / "w.pth")
    assert export.main(["--weights", str(tmp_path / "w.pth"), "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert f"w.pth holds NaN or infinite weights, in {name}" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    with pytest.raises(InvalidInput, match="NaN or infinite"):
        open_weights(tmp_path / "w.pth", False, "yolox-nano", COCO_CLASS_NAMES, False)

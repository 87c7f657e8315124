from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from exporters.parity import compare
from exporters.report import Tolerance
from exporters.torch_runtime import TorchRuntime
from runtimes import GraphNMS, InvalidInput, ModelSpec
from runtimes.preprocess import Image
from yolox_deploy.model.seeded import seeded_model
from yolox_deploy.model.yolox import YOLOX


def test_its_spec_is_that_of_the_model_not_of_a_file(seeded_nano: YOLOX, small_spec: ModelSpec) -> None:
    written = replace(small_spec, batch=3, uint8_input=True, nms=GraphNMS(0.1, 0.5), precision="int8")
    assert TorchRuntime(seeded_nano, written).spec == replace(small_spec, decoded=False)


def test_scores_are_probabilities_and_boxes_raw(seeded_nano: YOLOX, small_spec: ModelSpec) -> None:
    inputs = np.full((2, 3, 256, 320), 100, np.float32)
    output = TorchRuntime(seeded_nano, small_spec).infer(inputs)
    with torch.inference_mode():
        raw = seeded_nano(torch.from_numpy(inputs)).numpy()
    assert output.shape == (2, small_spec.num_anchors, 85)
    assert np.array_equal(output[..., :4], raw[..., :4])
    assert np.abs(output[..., 4:] - 1 / (1 + np.exp(-raw[..., 4:]))).max() < 1e-6


def test_wrong_input_and_a_closed_runtime_are_refused(seeded_nano: YOLOX, small_spec: ModelSpec) -> None:
    runtime = TorchRuntime(seeded_nano, small_spec)
    with pytest.raises(InvalidInput, match="takes float32"):
        runtime.infer(np.zeros((1, 3, 64, 64), np.float32))
    runtime.close()
    runtime.close()
    with pytest.raises(InvalidInput, match="closed"):
        runtime.infer(np.zeros((1, 3, 256, 320), np.float32))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_detects_what_the_cpu_detects(small_spec: ModelSpec, images: list[Image]) -> None:
    """TF32 is off by default for matrix products, on for convolutions: switched off here to compare in float32."""
    torch.backends.cudnn.allow_tf32 = False
    reference = TorchRuntime(seeded_model("yolox-nano"), small_spec)
    candidate = TorchRuntime(seeded_model("yolox-nano"), small_spec, device="cuda")
    report = compare(reference, candidate, images, Tolerance(box=0.05, score=1e-3))
    assert report, report.problem()
    assert report.detections > 20

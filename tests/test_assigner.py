"""SimOTA against a plain reference that follows the paper object by object, and its appetite for memory."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from runtimes.postprocess import anchor_grid
from yolox_deploy.training.assigner import assign, near_centre, pairwise_iou

Array = npt.NDArray[np.float64]
ROOT = Path(__file__).parents[1]


STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class Scene:
    """Of one image. size: (height, width). centres (A, 2), strides (A,), predicted and boxes in centre form."""

    size: tuple[int, int]
    centres: Array
    strides: Array
    predicted: Array
    logits: Array
    boxes: Array
    classes: npt.NDArray[np.int64]

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Predicted boxes, logits and targets, as `assign` takes them for one image."""
        rows = np.concatenate([self.classes[:, None], self.boxes], axis=1)
        predicted, logits, targets = (torch.from_numpy(value).float() for value in (self.predicted, self.logits, rows))
        return predicted, logits, targets


def scene(random: np.random.Generator, largest: bool = False) -> Scene:
    """Sizes up to 120 objects, 8400 anchors, 80 classes; or just those.

    Every predicted box lies about one of the objects, better or worse, as those of a model under training do.
    """
    size = (640, 640) if largest else (32 * int(random.integers(2, 21)), 32 * int(random.integers(2, 21)))
    objects = 120 if largest else int(120 ** random.random())
    classes = 80 if largest else int(80 ** random.random())
    cells, strides = (values.astype(np.float64) for values in anchor_grid(size, STRIDES))
    centres = (cells + 0.5) * strides
    sides = np.exp(random.uniform(np.log(4), np.log(max(size)), (objects, 2)))
    boxes = np.concatenate([random.uniform((0, 0), size[::-1], (objects, 2)), sides], axis=1)
    nearest = np.abs(centres[:, None] - boxes[:, :2]).sum(axis=2).argmin(axis=1)
    noise = random.normal(0, random.uniform(0.05, 0.6), (len(centres), 4))
    predicted = boxes[nearest].copy()
    predicted[:, :2] += noise[:, :2] * predicted[:, 2:]
    predicted[:, 2:] *= np.exp(noise[:, 2:])
    logits = random.normal(-2, 2.5, (len(centres), 1 + classes))
    return Scene(size, centres, strides[:, 0], predicted, logits, boxes, random.integers(0, classes, objects))


def plain_iou(one: Array, many: Array) -> Array:
    low = np.maximum(one[:2] - one[2:] / 2, many[:, :2] - many[:, 2:] / 2)
    high = np.minimum(one[:2] + one[2:] / 2, many[:, :2] + many[:, 2:] / 2)
    shared = np.clip(high - low, 0, None).prod(axis=1)
    result: Array = shared / (one[2:].prod() + many[:, 2:].prod(axis=1) - shared)
    return result


def plain_assign(scene: Scene) -> dict[int, int] | None:
    """Anchor to object, in double precision; None where the choice hangs on less than rounding."""
    centres, strides = scene.centres, scene.strides
    inside = np.stack([(np.abs(centres - box[:2]) < 1.5 * strides[:, None]).all(axis=1) for box in scene.boxes])
    candidates = np.flatnonzero(inside.any(axis=0))
    scores = 1 / (1 + np.exp(-scene.logits[candidates]))
    joint = np.sqrt(scores[:, 1:] * scores[:, :1])
    costs, claims = [], []
    for box, class_id, near in zip(scene.boxes, scene.classes, inside, strict=True):
        iou = plain_iou(box, scene.predicted[candidates])
        truth = np.arange(joint.shape[1]) == class_id
        entropy = -np.where(truth, np.log(joint), np.log(1 - joint)).sum(axis=1)
        cost = entropy - 3 * np.log(iou + 1e-8) + 1e6 * ~near[candidates]
        best = np.sort(iou)[::-1][:10].sum()
        wanted = max(int(best), 1)
        order = np.argsort(cost, kind="stable")
        gap = cost[order[wanted]] - cost[order[wanted - 1]] if wanted < len(order) else np.inf
        rounding = 0.3 if cost[order[wanted - 1]] > 1e5 else 1e-3  # float32 has steps of 1/16 at a million
        if gap < rounding or abs(best - round(best)) < 1e-4:
            return None
        costs.append(cost)
        claims.append(set(order[:wanted].tolist()))
    matrix = np.stack(costs)
    result = {}
    for column, anchor in enumerate(candidates.tolist()):
        claimants = [number for number, claim in enumerate(claims) if column in claim]
        if len(claimants) > 1:
            first, second = np.sort(matrix[:, column])[:2]
            if second - first < (0.3 if first > 1e5 else 1e-3):
                return None
            claimants = [int(matrix[:, column].argmin())]
        if claimants:
            result[anchor] = claimants[0]
    return result


@pytest.mark.parametrize("cases", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_assignments_are_those_of_the_plain_reference(cases: int) -> None:
    ties = 0
    for case in range(cases):
        made = scene(np.random.default_rng([4, case]), largest=case < cases // 50)
        expected = plain_assign(made)
        if expected is None:
            ties += 1
            continue
        predicted, logits, targets = made.tensors()
        found = assign(predicted[None], logits[None], [targets], made.size, STRIDES)
        assert dict(zip(found.anchors.tolist(), found.objects.tolist(), strict=True)) == expected, case
        ious = pairwise_iou(targets[:, 1:], predicted)[found.objects, found.anchors]
        torch.testing.assert_close(found.ious, ious)
    print(f"{ties} of {cases} cases hang on a tie")
    assert ties < 0.1 * cases


def test_a_batch_is_its_images_one_by_one() -> None:
    """With other numbers of objects and candidates, and none at all; far from the border, where ties are rare."""
    random, size = torch.Generator().manual_seed(0), (320, 320)
    cells, strides = (torch.from_numpy(values) for values in anchor_grid(size, STRIDES))
    targets = []
    for objects in (5, 0, 1, 40, 17):
        classes, places = torch.randint(7, (objects, 1), generator=random), torch.rand(objects, 4, generator=random)
        targets.append(
            torch.cat([classes, places * torch.tensor([192, 192, 90, 90]) + torch.tensor([64, 64, 9, 9])], 1)
        )
    targets[2][:, 1:3] = 9000
    sides = torch.rand(len(targets), len(cells), 2, generator=random) * 90 + 9
    predicted = torch.cat([((cells + 0.5) * strides).expand(len(targets), -1, -1), sides], dim=2)
    logits = torch.randn(*predicted.shape[:2], 8, generator=random)
    whole = assign(predicted, logits, targets, size, STRIDES)
    assert set(whole.images.tolist()) == {0, 3, 4}
    for index in range(len(targets)):
        one = slice(index, index + 1)
        alone, own = assign(predicted[one], logits[one], targets[one], size, STRIDES), whole.images == index
        for name in ("anchors", "objects", "ious"):
            assert torch.equal(getattr(whole, name)[own], getattr(alone, name))


def test_near_is_within_one_and_a_half_strides() -> None:
    cells, strides = (torch.from_numpy(values) for values in anchor_grid((96, 160), STRIDES))
    centres = torch.rand(50, 2) * 150
    distances = ((cells + 0.5) * strides - centres[:, None]).abs()
    assert torch.equal(near_centre(centres[None], (96, 160), STRIDES)[0], (distances < 1.5 * strides).all(dim=2))


def test_no_objects_and_objects_beyond_every_anchor() -> None:
    predicted, logits = torch.rand(1, 84, 4), torch.randn(1, 84, 4)
    for targets in (torch.zeros(0, 5), torch.tensor([[0, 9000.0, 9000, 5, 5]])):
        found = assign(predicted, logits, [targets], (64, 64), STRIDES)
        assert len(found.anchors) == len(found.objects) == len(found.ious) == 0


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's memory figures")
def test_memory_grows_with_the_sum_not_the_product() -> None:
    """300 objects, 8400 anchors and 80 classes: a tensor of all three alone would take 806 MB."""
    code = """
import torch
from runtimes.postprocess import anchor_grid
from yolox_deploy.training.assigner import assign
torch.set_num_threads(1)
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
def run(objects):
    cells, strides = (torch.from_numpy(values) for values in anchor_grid((640, 640), (8, 16, 32)))
    classes, centres = torch.randint(80, (objects, 1)), torch.rand(objects, 2) * 640
    targets = torch.cat([classes, centres, torch.rand(objects, 2) * 200 + 8], dim=1)
    predicted = torch.cat([(cells + 0.5) * strides, torch.rand(8400, 2) * 200 + 8], dim=1)
    assign(predicted[None], torch.randn(1, 8400, 81), [targets], (640, 640), (8, 16, 32))
run(1)
open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
before = peak()
run(300)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    print(f"peak {done.stdout.strip()} MB")
    assert 1 < float(done.stdout) < 200

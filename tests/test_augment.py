"""Augmentation: boxes follow what they enclose, and every batch is a function of seed and step alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from runtimes.errors import InvalidInput
from runtimes.preprocess import Image, letterbox
from yolox_deploy.data.augment import AffineRange, Sample, affine, clip, fit, hsv, mirror, to_input
from yolox_deploy.data.dataset import MAX_LABELS, labelled_image
from yolox_deploy.data.loader import TrainingSet, collate, make_loader
from yolox_deploy.data.mosaic import mixup, mosaic
from yolox_deploy.data.store import SampleStore
from yolox_deploy.data.stream import Draw, Share, Stream
from yolox_deploy.training.recipe import Augmentation

GREEN = (0, 255, 0)


def square(left: int, top: int, side: int = 40, size: tuple[int, int] = (180, 240)) -> Sample:
    """A green square on grey, and its label."""
    image = np.full((*size, 3), 114, np.uint8)
    image[top : top + side, left : left + side] = GREEN
    return Sample(image, np.array([[left, top, left + side, top + side, 3]], np.float32))


def greenest(image: Image, at_least: int = 190) -> list[int]:
    """Left, top, right, bottom of what is green."""
    rows, columns = np.nonzero((image[..., 1] > at_least) & (image[..., 0] < 90))
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def assert_encloses(sample: Sample, within: float = 2.0) -> None:
    np.testing.assert_allclose(sample.labels[0, :4], greenest(sample.image, 180), atol=within)
    assert sample.labels[0, 4] == 3


def test_boxes_follow_resizing_and_mirroring() -> None:
    sample = square(30, 100)
    assert_encloses(fit(sample, (96, 96)))
    assert_encloses(fit(sample, (360, 480), 1.3))
    assert_encloses(mirror(sample), within=0)
    twice = mirror(mirror(sample))
    assert np.array_equal(twice.image, sample.image) and np.array_equal(twice.labels, sample.labels)


def test_the_input_is_letterboxed_as_at_inference() -> None:
    sample = square(30, 100, size=(187, 231))
    image = to_input(sample, (96, 128)).image
    expected, _ = letterbox(sample.image, (96, 128))
    assert np.array_equal(image, expected)


@pytest.mark.parametrize("rotation", [0.0, 90.0])
def test_boxes_follow_the_affine_map(rotation: float) -> None:
    sample = square(100, 60)
    turn = cv2.getRotationMatrix2D((100, 80), rotation, 0.7)
    assert_encloses(affine(sample, (200, 220), turn))


def test_boxes_are_cut_to_the_output() -> None:
    moved = affine(square(0, 0), (100, 100), np.array([[1, 0, -20.0], [0, 1, 80.0]]))
    assert moved.labels[0, :4].tolist() == [0, 80, 20, 100]
    gone = affine(square(0, 0), (100, 100), np.array([[1, 0, -200.0], [0, 1, 0.0]]))
    assert len(to_input(gone, (100, 100)).labels) == 0


def test_the_affine_map_stays_in_its_range() -> None:
    random = np.random.default_rng(0)
    span = AffineRange(rotation=10, scale=(0.5, 1.5), shear=0, translation=0.1)
    maps = [span.matrix((100, 200), random) for _ in range(300)]
    scales = [np.hypot(*matrix[0, :2]) for matrix in maps]
    angles = [np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0])) for matrix in maps]
    assert 0.5 <= min(scales) < 0.55 and 1.45 < max(scales) <= 1.5
    assert -10 <= min(angles) < -9 and 9 < max(angles) <= 10
    shifts = np.abs([matrix[:, 2] for matrix in maps]).max(axis=0)
    assert 19 < shifts[0] <= 20 and 9.5 < shifts[1] <= 10


def test_colours_are_those_of_the_plain_sum() -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for seed in range(20):
        random = np.random.default_rng(seed)
        gains = (random.uniform(-1, 1, 3) * (5, 30, 30) * random.integers(0, 2, 3)).astype(np.int16)
        plain = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.int16)
        plain[..., 0] = (plain[..., 0] + gains[0]) % 180
        plain[..., 1:] = np.clip(plain[..., 1:] + gains[1:], 0, 255)
        expected = cv2.cvtColor(plain.astype(np.uint8), cv2.COLOR_HSV2BGR)
        assert np.array_equal(hsv(image, np.random.default_rng(seed)), expected)


def test_a_mosaic_holds_four_images_about_a_point() -> None:
    samples = [square(30, 30, size=(96, 128)), *[square(10, 10, 0, size=(96, 128))] * 3]
    for seed in range(10):
        found = mosaic(samples, (96, 128), np.random.default_rng(seed))
        assert found.image.shape == (192, 256, 3)
        assert_encloses(found)
        assert len(found.labels) == 4


def test_mixup_is_half_of_each() -> None:
    black = Sample(np.zeros((96, 128, 3), np.uint8), np.zeros((0, 5), np.float32))
    found = mixup(black, square(40, 30, size=(96, 128)), (1.0, 1.0), 0.0, np.random.default_rng(0))
    assert found.labels[0, :4].tolist() == [40, 30, 80, 70]
    assert found.image[50, 60].tolist() == [0, 128, 0]
    assert found.image[5, 5].tolist() == [57, 57, 57]
    small = mixup(black, square(40, 30, size=(96, 128)), (0.5, 0.5), 0.0, np.random.default_rng(0))
    np.testing.assert_allclose(small.labels[0, :4], [20, 15, 40, 35])
    large = mixup(black, square(40, 30, size=(96, 128)), (1.5, 1.5), 1.0, np.random.default_rng(0))
    assert large.image.shape == (96, 128, 3)
    assert (clip(large.labels, (96, 128)) == large.labels).all()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    folder = tmp_path_factory.mktemp("images")
    images = []
    for index in range(6):
        sample = square(20 * index, 10 * index, size=(150 + 10 * index, 200))
        cv2.imwrite(str(folder / f"{index}.png"), sample.image)
        height, width = sample.image.shape[:2]
        images.append(labelled_image(index, folder / f"{index}.png", (height, width), sample.labels[:, :4], [3]))
    return SampleStore(images, (96, 128))


def test_a_sample_is_a_function_of_its_draw(store: SampleStore) -> None:
    dataset = TrainingSet(store, (96, 128), Augmentation(), seed=5)
    draws = [Draw(index, position, plain) for index in (0, 3) for position in (7, 8) for plain in (False, True)]
    first, second = [dataset[draw] for draw in draws], [dataset[draw] for draw in reversed(draws)]
    for one, other in zip(first, reversed(second), strict=True):
        assert isinstance(one, Sample) and isinstance(other, Sample)
        assert one.image.shape == (96, 128, 3)
        assert np.array_equal(one.image, other.image) and np.array_equal(one.labels, other.labels)
    assert len({sample.image.tobytes() for sample in first if isinstance(sample, Sample)}) >= 6  # few ways to be plain


def test_a_plain_image_keeps_its_one_box(store: SampleStore) -> None:
    quiet = TrainingSet(store, (96, 128), Augmentation(hsv=0, flip=0), seed=0)
    for index in range(len(store)):
        sample = quiet[Draw(index, 0, plain=True)]
        assert isinstance(sample, Sample)
        assert_encloses(sample)


def test_boxes_that_became_too_small_are_no_labels(store: SampleStore) -> None:
    far = Augmentation(mosaic=1.0, translation=0, mosaic_scale=(0.001, 0.001), mixup=0)
    sample = TrainingSet(store, (96, 128), far, seed=0)[Draw(0, 0, plain=False)]
    assert isinstance(sample, Sample) and len(sample.labels) == 0


def test_batches_hold_centres_and_at_most_120_labels() -> None:
    many = Sample(np.zeros((8, 8, 3), np.uint8), np.tile(np.float32([2, 2, 6, 4, 1]), (200, 1)))
    batch = collate([many] * 3)
    assert batch.images.shape == (3, 8, 8, 3) and batch.images.dtype == torch.uint8
    assert [len(labels) for labels in batch.labels] == [MAX_LABELS] * 3
    assert batch.labels[0][0].tolist() == [1, 4, 3, 4, 2]
    broken = collate([many, InvalidInput("x.png is not an image."), many])
    assert (broken.unreadable, broken.labels) == (("x.png is not an image.",), [])


def test_the_cache_changes_nothing(store: SampleStore, tmp_path: Path) -> None:
    expected = [sample.image for sample in store[:]]
    for cache in ("ram", "disk"):
        kept = SampleStore(store.images, store.size)
        assert kept.keep(cache, 1.0, tmp_path) == 6
        assert all(np.array_equal(one, other.image) for one, other in zip(expected, kept[:], strict=True))
    half = sum(image.nbytes for image in expected[:3]) / 2**30
    assert SampleStore(store.images, store.size).keep("ram", half, tmp_path) == 3
    assert len(list(tmp_path.glob("*.npy"))) == 6


def stream(steps: range, share: Share, seed: int = 0) -> list[list[Draw]]:
    return list(Stream(10, share, steps, lambda step: step >= 4, seed))


def test_the_stream_shows_every_image_equally_often_in_another_order_each_time() -> None:
    draws = [draw for batch in stream(range(5), Share(4)) for draw in batch]
    orders = [[draw.index for draw in draws[start : start + 10]] for start in (0, 10)]
    assert [sorted(order) for order in orders] == [list(range(10))] * 2
    assert orders[0] != orders[1]
    assert [draw.plain for draw in draws] == [False] * 16 + [True] * 4
    assert [draw.position for draw in draws] == list(range(20))
    assert orders[0] != [draw.index for batch in stream(range(5), Share(4), seed=1) for draw in batch][:10]


def test_processes_and_parts_share_the_same_stream() -> None:
    whole = stream(range(5), Share(4))
    halves = [stream(range(5), Share(4, 1, rank, 2)) for rank in (0, 1)]
    assert [first + second for first, second in zip(*halves, strict=True)] == whole
    parts = stream(range(5), Share(4, parts=2))
    assert [parts[index] + parts[index + 1] for index in range(0, 10, 2)] == whole
    assert stream(range(2, 5), Share(4)) == whole[2:]


def test_workers_change_nothing(store: SampleStore) -> None:
    dataset = TrainingSet(store, (96, 128), Augmentation(), seed=5)
    batches = []
    for workers in (0, 2):
        loader = make_loader(dataset, Stream(6, Share(4), range(4), lambda step: False, 5), workers)
        batches.append(list(loader))
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one.images, other.images)
        assert all(torch.equal(left, right) for left, right in zip(one.labels, other.labels, strict=True))

"""What evaluation is measured against gives the same as ours, or the measurement would mean nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks import evaluation
from benchmarks.made_detections import made_output, made_results
from benchmarks.plain_evaluation import coco_truth, plain_postprocess
from exporters.artifact import Artifact
from runtimes.postprocess import Floats
from runtimes.preprocess import Image
from yolox_deploy.data.dataset import Dataset, labelled_image

SMALL = ["--size", "20", "--detections", "30", "--outputs", "2"]


def test_the_truth_is_what_was_read() -> None:
    images = [labelled_image(9, Path("a/b.png"), (50, 100), [[8, 6, 40, 36], [0, 0, 5, 5]], [1, 0])]
    images.append(labelled_image(4, Path("c.png"), (60, 70), [[1, 2, 3, 5]], [1]))
    truth = coco_truth(Dataset(Path("d"), tuple(images), {3: "cat", 8: "dog"}))
    assert truth["images"][0] == {"id": 9, "file_name": "b.png", "height": 50, "width": 100}
    first = {"id": 1, "image_id": 9, "category_id": 8, "bbox": [8, 6, 32, 30], "area": 960, "iscrowd": 0}
    assert truth["annotations"][0] == first
    assert [entry["id"] for entry in truth["annotations"]] == [1, 2, 3]
    assert truth["categories"] == [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}]


def test_the_made_set_is_like_the_real_one() -> None:
    dataset, found = made_results(300, 100, 0)
    areas = np.concatenate([image.area for image in dataset.images])
    assert 6.5 < len(areas) / 300 < 8
    assert 0.3 < (areas < 32**2).mean() < 0.5
    assert 0.15 < (areas > 96**2).mean() < 0.35
    assert 0 < np.concatenate([image.crowd for image in dataset.images]).mean() < 0.03
    scores = np.concatenate([one.confidence for one in found])
    assert len(scores) == 30_000
    assert len(np.unique(scores)) < 0.75 * len(scores), "ties"
    again, same = made_results(300, 100, 0)
    assert all(np.array_equal(left.xyxy, right.xyxy) for left, right in zip(found, same, strict=True))
    assert [image.image_id for image in again.images] == [image.image_id for image in dataset.images]


def candidates(output: Floats) -> int:
    return int((output[:, 4] * output[:, 5:].max(axis=1) >= 0.001).sum())


def test_made_outputs_crowd_around_objects(random: np.random.Generator) -> None:
    outputs = [made_output(random) for _ in range(10)]
    counts = [candidates(output) for output in outputs]
    kept = [len(plain_postprocess(output, 1.0, 0.001, 0.65)) for output in outputs]
    assert min(counts) > 150 and max(counts) < 2500
    assert 0.05 < sum(kept) / sum(counts) < 0.5, "most overlap a better one"


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_the_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluation.main(SMALL) == 0
    rows = last_line(capsys)
    assert list(rows) == ["figures", "postprocessing"]
    assert all(row["plain"] > 0 and row["ours"] > 0 and row["apart"] <= 1e-12 for row in rows.values())
    assert rows["figures"]["ratio"] == rows["figures"]["plain"] / rows["figures"]["ours"]


def test_the_benchmark_on_an_artifact(
    artifact: Artifact, images: list[Image], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, image in enumerate(images[:2]):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    assert evaluation.main([*SMALL, "--artifact", str(artifact.folder), "--images", str(tmp_path)]) == 0
    assert last_line(capsys)["postprocessing"]["what"].startswith("postprocessing: 2 outputs")
    assert evaluation.main([*SMALL, "--artifact", str(artifact.folder)]) == 1
    assert "--artifact and --images go together" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "says"), [("coco_evaluation", "figures differ from"), ("postprocess", "other detections")]
)
def test_other_results_are_an_error(
    name: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = getattr(evaluation, name)

    def wrong(*arguments: Any) -> Any:
        result = ours(*arguments)
        if name == "postprocess":
            return [replace(one, confidence=one.confidence * np.float32(0.999)) for one in result]
        return replace(result, figures=replace(result.figures, APs=result.figures.APs + 1e-11))

    monkeypatch.setattr(evaluation, name, wrong)
    assert evaluation.main(SMALL) == 1
    assert says in capsys.readouterr().err

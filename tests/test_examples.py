"""The examples, run as their docstrings say, on the bundled model and generated images."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import importlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import psutil
import pytest
import requests

from exporters.artifact import write_artifact
from runtimes import Detections, Detector, InvalidInput, Runtime, load
from runtimes.preprocess import Image
from yolox_deploy.data.images import read_image
from yolox_deploy.data.outlines import OUTLINES, turned
from yolox_deploy.data.painting import background, paint
from yolox_deploy.data.scenes import scene
from yolox_deploy.model.checkpoint import read_checkpoint
from yolox_deploy.model.open import describe

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
BUNDLED = ROOT / "yolox_deploy" / "weights" / "yolox-nano-scenes.safetensors"
HIDDEN = range(20, 26)  # frames in which one object is behind something
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def example(name: str, *packages: str) -> ModuleType:
    """An example as a module; the test is skipped where what it is about is not installed."""
    for package in packages:
        pytest.importorskip(package, reason=f"needs {package}: examples/{name}.py says how to install it")
    if str(EXAMPLES) not in sys.path:
        sys.path.append(str(EXAMPLES))  # examples import each other as scripts do
    return importlib.import_module(name)


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model as an ONNX artifact of any batch."""
    checkpoint = read_checkpoint(BUNDLED)
    model = describe(checkpoint.build(), checkpoint)
    spec = replace(model.spec, decoded=True, uint8_input=True, batch=None)
    return write_artifact(model.model, spec, "onnx", tmp_path_factory.mktemp("scenes"), [scene(5, 0, 0).image]).folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six generated images, and one that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "below").mkdir()
    for number in range(6):
        name = folder / ("below" if number % 2 else ".") / f"{number}.jpg"
        assert cv2.imwrite(str(name), scene(6, 0, number).image)
    (folder / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    return folder


def rows_of(detections: Detections) -> list[tuple[list[float], float, int]]:
    return [(box.tolist(), confidence, class_id) for box, confidence, class_id in detections]


def test_each_example_says_how_to_run_it() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")} - {"batcher.py"}  # which is a part of service.py
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for name in names:
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        assert f"python examples/{name} " in text.split('"""')[1], name
        assert f"[{name}]({name})" in table and f"python examples/{name} " in table, name


def test_the_app_prints_what_the_detector_finds(trained: Path, pictures: Path, tmp_path: Path) -> None:
    done = run("app", trained, pictures / "0.jpg", tmp_path / "boxes.png")
    assert done.returncode == 0, done.stderr
    with load(trained, score_threshold=0.3) as detector:
        names = detector.spec.class_names
        expected = [
            " ".join([names[class_id], f"{confidence:.2f}", *(str(int(side)) for side in box.round())])
            for box, confidence, class_id in detector(read_image(pictures / "0.jpg"))
        ]
    assert expected and done.stdout.splitlines() == expected
    assert read_image(tmp_path / "boxes.png").shape == read_image(pictures / "0.jpg").shape

    wrong = run("app", trained, pictures / "damaged.jpg", tmp_path / "none.png")
    assert (
        wrong.returncode == 1
        and wrong.stderr.splitlines()[-1].startswith("error: ")
        and "Traceback" not in wrong.stderr
    )


# Supervision.


def test_detections_come_back_from_supervision_as_they_were(random: np.random.Generator) -> None:
    module = example("with_supervision", "supervision")
    for count in (0, 1, 50):
        scores = np.sort(random.random(count, np.float32).round(1))[::-1]  # with equal ones
        before = Detections(random.random((count, 4), np.float32) * 640, scores, random.integers(0, 3, count))
        there = module.to_supervision(before, ("disc", "ring", "square"))
        assert there["class_name"].tolist() == [("disc", "ring", "square")[index] for index in before.class_id]
        after = module.from_supervision(there)
        for name in ("xyxy", "confidence", "class_id"):
            one, other = getattr(before, name), getattr(after, name)
            assert one.dtype == other.dtype and np.array_equal(one, other)


def test_what_supervision_filtered_and_shuffled_is_best_first_again(random: np.random.Generator) -> None:
    module = example("with_supervision", "supervision")
    before = Detections(random.random((9, 4)), np.linspace(0.9, 0.1, 9), np.arange(9))
    there = module.to_supervision(before, tuple("abcdefghi"))
    after = module.from_supervision(there[random.permutation(9)][:9][there.confidence > 0])
    assert after.class_id.tolist() == list(range(9))
    there.confidence = None
    with pytest.raises(InvalidInput, match="no confidence"):
        module.from_supervision(there)


# Tracking.


def moving_objects(path: Path) -> dict[str, list[tuple[float, float]]]:
    """A video of four objects, each in a lane of its own; one is hidden for a while. Their centres, frame by frame."""
    random = np.random.default_rng(7)
    behind = background((360, 480), random)
    kinds = ("disc", "star", "triangle", "heart")
    sprites = [sprite(kind, random) for kind in kinds]
    centres: dict[str, list[tuple[float, float]]] = defaultdict(list)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (480, 360))
    for number in range(40):
        frame = behind.copy()
        for lane, (kind, (patch, mask)) in enumerate(zip(kinds, sprites, strict=True)):
            x, y = (20 + 5 * number if lane % 2 == 0 else 380 - 5 * number), 10 + 85 * lane
            centres[kind].append((x + 40, y + 40))
            if kind == "star" and number in HIDDEN:
                continue
            part = frame[y : y + 80, x : x + 80]
            part[:] = (part * (1 - mask) + patch * mask).round()
        writer.write(frame)
    writer.release()
    return centres


def sprite(kind: str, random: np.random.Generator) -> tuple[Image, npt.NDArray[np.float64]]:
    """80 x 80 pixels with an object, and which of them are the object."""
    mask, patch = np.zeros((80, 80), np.uint8), np.full((80, 80, 3), 128, np.uint8)
    outline = turned(OUTLINES[kind](random), 70, random)
    cv2.fillPoly(mask, [((contour + 40) * 16).round().astype(np.int32) for contour in outline], (255,), cv2.LINE_AA, 4)
    paint(patch, mask, 180 * list(OUTLINES).index(kind) / len(OUTLINES), random)
    return patch, mask[..., None] / 255


def test_each_object_keeps_its_number_through_the_video(trained: Path, tmp_path: Path) -> None:
    example("track_video", "norfair")
    centres = moving_objects(tmp_path / "video.mp4")
    done = run("track_video", trained, tmp_path / "video.mp4", tmp_path / "tracks", "--score-threshold", 0.5)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "tracks" / "tracks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = {kind: {row["track"] for row in rows if row["class"] == kind} for kind in centres}
    assert {len(found) for found in numbers.values()} == {1}, numbers
    assert len({row["track"] for row in rows}) == len(centres)
    for row in rows:
        x, y = centres[row["class"]][int(row["frame"])]
        middle = (float(row["left"]) + float(row["right"])) / 2, (float(row["top"]) + float(row["bottom"])) / 2
        assert np.hypot(middle[0] - x, middle[1] - y) < 20, row
    seen = {kind: {int(row["frame"]) for row in rows if row["class"] == kind} for kind in centres}
    assert all(len(frames) > 30 for frames in seen.values()) and not seen["star"] & set(HIDDEN)
    assert min(seen["star"]) < 4 and max(seen["star"]) > 36  # the same number before and after
    capture = cv2.VideoCapture(str(tmp_path / "tracks" / "tracks.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 40

    wrong = run("track_video", trained, tmp_path / "none.mp4", tmp_path / "other")
    assert wrong.returncode == 1 and "Traceback" not in wrong.stderr and not (tmp_path / "other").exists()


# The service.


class Served:
    """examples/service.py as a process, at a port of its own."""

    def __init__(self, artifact: Path, *options: object) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, EXAMPLES / "service.py", artifact, "--port", self.port, *options]
        self.process = subprocess.Popen(list(map(str, command)), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)

    def wait(self) -> Served:
        for _ in range(600):
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"{self.url}/health/ready").status_code == 200:
                    return self
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(0.1)
        raise AssertionError("the service does not get ready")

    def stop(self) -> str:
        """Ask it to end; what it wrote to stderr."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=60)[1]


@contextlib.contextmanager
def served(artifact: Path, *options: object) -> Iterator[Served]:
    service = Served(artifact, *options)
    try:
        yield service.wait()
    finally:
        service.process.kill()
        service.process.communicate()


def test_an_image_that_is_too_long_for_opencv_is_one_sentence() -> None:
    """2,000,000 x 1 pixels in a BMP of 54 bytes, for which OpenCV raises an error of its own."""
    service = example("service", "fastapi", "uvicorn", "prometheus_client")
    header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, 2_000_000, 1, 1, 24, 0, 0, 0, 0, 0, 0)
    with pytest.raises(service.HTTPException, match="damaged or cut short"):
        service.decode(header, 40_000_000)


def test_the_service_answers_what_the_detector_finds_and_refuses_in_sentences(trained: Path, pictures: Path) -> None:
    example("service", "fastapi", "uvicorn", "prometheus_client")
    with served(trained, "--megabytes", 0.3, "--megapixels", 1, "--streams", 2) as service:
        body = (pictures / "0.jpg").read_bytes()
        answer = requests.post(f"{service.url}/detect", data=body)
        with load(trained, score_threshold=0.3) as detector:
            image, names = read_image(pictures / "0.jpg"), detector.spec.class_names
            found = detector(image)
        assert answer.status_code == 200 and len(found) > 0
        got = answer.json()
        assert (got["height"], got["width"]) == image.shape[:2]
        assert [(one["box"], one["confidence"], one["class_id"]) for one in got["detections"]] == rows_of(found)
        assert all(one["class_name"] == names[one["class_id"]] for one in got["detections"])

        large = cv2.imencode(".png", np.zeros((1001, 1000, 3), np.uint8))[1].tobytes()
        for wrong, status, words in (
            (b"", 415, "not an image"),
            (b"hello", 415, "not an image"),
            (body[: len(body) // 2], 415, "cut short"),
            (large, 413, "1000 x 1001 pixels"),
            (body + b"\xff\xda" * 101, 413, "more than 100 scans"),
            (bytes(400_000), 413, "larger than 300000 bytes"),
            (iter([bytes(200_000)] * 2), 413, "larger than 300000 bytes"),  # without a length before
        ):
            refused = requests.post(f"{service.url}/detect", data=wrong)
            assert refused.status_code == status and words in refused.json()["error"]
        with socket.create_connection(("127.0.0.1", service.port)) as gone:  # in the middle of its body
            gone.sendall(b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\nbegins")
        assert requests.get(f"{service.url}/detect").status_code == 405
        assert requests.get(f"{service.url}/nothing").json() == {"error": "Not Found"}
        assert requests.get(f"{service.url}/health/live").json() == {"status": "live"}
        metrics = requests.get(f"{service.url}/metrics").text
        assert 'detect_requests_total{status="200"} 1.0' in metrics
        assert 'detect_requests_total{status="415"} 3.0' in metrics and "detect_places_taken 0.0" in metrics

        said = service.stop()
        assert "Traceback" not in said and "error" not in said.lower()


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    json: Any


class Gate:
    """A runtime that waits to be let go before each batch, notes its size, and fails for a black image."""

    def __init__(self, runtime: Runtime, batch: int | None = None) -> None:
        self.runtime, self.spec = runtime, replace(runtime.spec, batch=batch)
        self.open, self.entered, self.sizes = threading.Event(), False, list[int]()

    def infer(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        self.entered = True
        self.open.wait(60)
        self.sizes.append(len(images))
        if (images[:, 0, 0] == 0).all(axis=-1).any():
            raise RuntimeError("the backend fails")
        return self.runtime.infer(images)

    def close(self) -> None:
        self.open.set()


@contextlib.asynccontextmanager
async def in_this_process(gate: Gate, **options: Any) -> AsyncIterator[Any]:
    """The service's app in this process, and what asks it."""
    import aiohttp
    import uvicorn

    service = example("service")
    config = service.Service(Path(), **options)
    app = service.create_app(Detector(gate, config.score_threshold), config)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    serving = asyncio.create_task(server._serve())  # serve() would take this process's signals
    await until(lambda: server.started)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    async with aiohttp.ClientSession(url) as http:
        try:
            yield http
        finally:
            gate.open.set()
    server.should_exit = True
    await serving


async def ask(http: Any, path: str, body: bytes | None = None) -> Answer:
    async with http.request("GET" if body is None else "POST", path, data=body) as response:
        return Answer(response.status, response.headers, await response.json())


async def until(true: Callable[[], object]) -> None:
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("this does not come true")


@pytest.fixture
def runtime(trained: Path) -> Iterator[Runtime]:
    example("service", "fastapi", "uvicorn", "prometheus_client", "aiohttp")
    with load(trained) as detector:
        yield detector.runtime


BLACK = np.zeros((320, 320, 3), np.uint8)


@pytest.mark.parametrize(("batch", "sizes"), [(None, [1, 4, 4, 2]), (1, [1] * 11)])
def test_what_waits_is_detected_together_where_the_artifact_allows(
    runtime: Runtime, pictures: Path, batch: int | None, sizes: list[int]
) -> None:
    images = [read_image(path) for path in sorted(pictures.rglob("[0-9].jpg"))]
    images = (images * 2)[:11]
    gate, told = Gate(runtime, batch), list[int]()
    batcher = example("batcher").Batcher(Detector(gate), 4, 32, told.append)

    async def run() -> tuple[list[Detections], list[Any]]:
        batcher.start()
        asked = [asyncio.create_task(batcher.detect(images[0]))]
        await until(lambda: gate.entered)  # at work: the others wait
        asked += [asyncio.create_task(batcher.detect(image)) for image in images[1:]]
        await asyncio.sleep(0)
        gate.open.set()
        found = await asyncio.gather(*asked)
        pair = await asyncio.gather(batcher.detect(images[0]), batcher.detect(BLACK), return_exceptions=True)
        await batcher.stop()
        return found, pair

    found, (neighbour, failed) = asyncio.run(run())
    assert told[:-1] == sizes if batch is None else told == [*sizes, 1, 1]
    single = Detector(runtime)
    for one, image in [*zip(found, images, strict=True), (neighbour, images[0])]:
        expected = single(image)
        assert len(expected) == len(one) and one.class_id.tolist() == expected.class_id.tolist()
        assert np.abs(one.xyxy - expected.xyxy).max(initial=0) < 0.01
    assert sum(map(len, found)) > 20
    assert isinstance(failed, RuntimeError)  # and not its neighbour in the batch


def test_who_finds_no_place_is_told_when_to_come_again(runtime: Runtime, pictures: Path) -> None:
    gate, body = Gate(runtime), (pictures / "0.jpg").read_bytes()

    async def run() -> tuple[list[Any], Any, Any]:
        async with in_this_process(gate, places=3, seconds=30) as http:
            asked = [asyncio.create_task(ask(http, "/detect", body)) for _ in range(8)]
            await until(lambda: gate.entered and sum(task.done() for task in asked) == 5)
            full = await ask(http, "/health/ready")
            gate.open.set()
            return await asyncio.gather(*asked), full, await ask(http, "/health/ready")

    answers, full, ready = asyncio.run(run())
    assert sorted(one.status for one in answers) == [200] * 3 + [503] * 5
    shed = [one for one in answers if one.status == 503]
    assert all(one.headers["Retry-After"] == "1" and "try again" in one.json["error"] for one in shed)
    assert (full.status, ready.status) == (503, 200)


def test_a_request_gives_up_in_time_and_a_hanging_backend_is_told_of(runtime: Runtime, pictures: Path) -> None:
    gate, body = Gate(runtime), (pictures / "0.jpg").read_bytes()

    async def run() -> tuple[list[Any], Any, Any]:
        async with in_this_process(gate, places=2, seconds=0.2) as http:
            late = [await ask(http, "/detect", body) for _ in range(3)]  # more than there are places
            await asyncio.sleep(2)
            hanging = await ask(http, "/health/live")
            gate.open.set()
            await until(lambda: gate.sizes)
            await asyncio.sleep(0.1)
            return late, hanging, await ask(http, "/health/live")

    late, hanging, live = asyncio.run(run())
    assert [one.status for one in late] == [504] * 3 and "0.2 seconds" in late[0].json["error"]
    assert (hanging.status, live.status) == (503, 200)
    assert gate.sizes == [1]  # nobody waited for the other two any more


@pytest.mark.parametrize("seconds", [1.5, pytest.param(20, marks=pytest.mark.slow)])
def test_asked_for_more_than_it_can_the_service_loses_nothing(trained: Path, pictures: Path, seconds: float) -> None:
    example("load_test", "fastapi", "uvicorn", "prometheus_client", "aiohttp")
    with served(trained, "--places", 6, "--streams", 2) as service:
        options = ["--url", service.url, "--seconds", seconds, "--clients", 4, "--times", 3]
        done = run("load_test", pictures / "**" / "[0-9].jpg", "--artifact", trained, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        able, asked_for_more = json.loads(done.stdout.splitlines()[-1]).values()
        for part in (able, asked_for_more):
            assert part["sent"] == part["answered"] + part["shed"] and part["answered"] > 0
            assert part["wrong"] == 0 and not part["other"]
        assert able["shed"] == 0 and asked_for_more["shed"] > 0


# Many images.


def batch_of(trained: Path, images: Path, output: Path, **options: Any) -> Any:
    return example("batch_ray", "ray", "pyarrow").Batch(trained, images, output, **options)


def lines_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "detections.jsonl").read_text().splitlines()]


def test_parts_of_a_batch_are_whole_and_each_image_is_there_once(trained: Path, pictures: Path, tmp_path: Path) -> None:
    """The worker and the merging, without Ray's processes."""
    config = batch_of(trained, pictures, tmp_path)
    module = example("batch_ray")
    keys = module.find_keys(pictures)
    assert keys == sorted(["damaged.jpg", "0.jpg", "2.jpg", "4.jpg", "below/1.jpg", "below/3.jpg", "below/5.jpg"])
    worker = module.Worker(config)
    for part in (keys[:4], keys[:4], keys[2:6]):  # one done again, and one that overlaps
        assert worker({"item": np.array(list(map(os.fsencode, part)))})["done"].tolist() == [len(part)]
    assert len(list((tmp_path / "parts").iterdir())) == 2
    with pytest.raises(module.UserError, match=f"1 images are missing, such as {keys[6]}"):
        module.merge(config, keys)
    assert not (tmp_path / "detections.jsonl").exists()
    worker({"item": np.array(list(map(os.fsencode, keys[6:])))})
    assert module.merge(config, keys) == {"images": 7, "unread": 1}
    rows = lines_of(tmp_path)
    assert [row["image"] for row in rows] == keys
    with load(trained, score_threshold=config.score_threshold) as detector:
        for row in rows:
            if row["image"] == "damaged.jpg":
                assert "not an image" in row["error"]
                continue
            found = [(one["box"], one["confidence"], one["class_id"]) for one in row["detections"]]
            assert found == rows_of(detector(read_image(pictures / row["image"])))

    module.check_same_run(config)
    module.check_same_run(config)
    with pytest.raises(InvalidInput, match="of another model"):
        module.check_same_run(replace(config, score_threshold=0.5))


def children(process: subprocess.Popen[str], name: str) -> list[psutil.Process]:
    """The processes that this one started, whose name begins so."""
    found = []
    for one in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if " ".join(one.cmdline()).startswith(name):
                found.append(one)
    return found


@pytest.mark.slow
def test_workers_and_then_all_of_it_killed_leave_each_image_once(trained: Path, tmp_path: Path) -> None:
    example("batch_ray", "ray", "pyarrow")
    images, output, parts = tmp_path / "images", tmp_path / "output", tmp_path / "output" / "parts"
    images.mkdir()
    made = [cv2.imencode(".jpg", scene(6, 0, number).image)[1].tobytes() for number in range(50)]
    for number in range(3000):
        (images / f"{number:04}.jpg").write_bytes(made[number % 50] if number % 100 else b"damaged")
    command = [sys.executable, EXAMPLES / "batch_ray.py", trained, images, output, "--batch", "16"]

    def count() -> int:
        return len(list(parts.glob("*.jsonl")))

    def wait_for(number: int) -> None:
        for _ in range(3000):
            if count() >= number:
                return
            assert first.poll() is None, first.communicate()[1]
            time.sleep(0.05)
        raise AssertionError(f"after minutes there are only {count()} parts")

    first = subprocess.Popen(list(map(str, command)), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(10)
        workers = children(first, "ray::MapWorker")
        assert len(workers) == 2, [one.cmdline() for one in psutil.Process(first.pid).children(recursive=True)]
        workers[0].kill()
        before = count()
        wait_for(before + 40)
        assert len(children(first, "ray::MapWorker")) == 2 and not workers[0].is_running()
        started = psutil.Process(first.pid).children(recursive=True)
    finally:
        first.kill()
        first.communicate()
    psutil.wait_procs(started, timeout=60)
    done = count()
    assert 50 <= done < 188 and not (output / "detections.jsonl").exists()

    again = subprocess.run(list(map(str, command)), env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    summary = json.loads(again.stdout.splitlines()[-1])
    assert summary["images"] == 3000 and summary["unread"] == 30 and summary["done_before"] >= 45 * 16
    rows = lines_of(output)
    assert [row["image"] for row in rows] == [f"{number:04}.jpg" for number in range(3000)]
    assert not list(parts.glob(".*"))
    print(f"parts before the driver was killed: {done} of 188; {summary}")
    with load(trained, score_threshold=0.05, threads=1) as detector:
        for number in range(50):
            expected = rows_of(detector(cv2.imdecode(np.frombuffer(made[number], np.uint8), cv2.IMREAD_COLOR)))
            for row in rows[number::50]:
                if "error" not in row:
                    assert [(one["box"], one["confidence"], one["class_id"]) for one in row["detections"]] == expected

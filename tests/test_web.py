"""`--target web`, in a real browser: the page is served as `python -m http.server` would, and a script beside it works
as a visitor would, and posts what it finds."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import Any
from urllib.parse import unquote

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks.kit import __main__ as kit_command
from benchmarks.kit.score import score_results
from exporters import web
from exporters.kit.manifest import Kit
from exporters.web import ONNXRUNTIME_WEB, RUNTIME_FILES, NpmPackage
from runtimes import ModelSpec, load
from runtimes.errors import UserError
from runtimes.postprocess import postprocess
from yolox_deploy import export, web_runtime
from yolox_deploy.data.scenes import main as draw_scenes
from yolox_deploy.model.download import DownloadError
from yolox_deploy.web_runtime import onnxruntime_web

WEIGHTS = Path(__file__).parents[1] / "yolox_deploy" / "weights" / "yolox-nano-scenes.safetensors"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 120  # seconds for a page

needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")

# Waits until the page is ready, which is when its badge has come to a verdict.
READY = """
const at = (id) => document.getElementById(id);
const post = (path, body) => fetch(path, { method: "POST", body });
const until = async (done) => { while (!done()) await new Promise((again) => setTimeout(again, 20)); };
const texts = () => ({
  state: at("parity").dataset.state, verdict: at("parity-verdict").textContent,
  figures: at("parity-figures").textContent, status: at("status").textContent, found: at("found").textContent,
  objects: [...at("objects").children].map((item) => item.innerText), times: at("times").textContent,
  picture: at("picture").getAttribute("aria-label"), title: document.title, isolated: crossOriginIsolated,
});
addEventListener("error", (event) => post("/posted/error", event.message));
try {
  await until(() => at("parity").dataset.state !== "waiting" && !at("backend").disabled);
  %s
} catch (error) {
  post("/posted/error", String(error.stack));
}
"""


class Server(ThreadingHTTPServer):
    """A folder, with a script that is added to its page. posted: path and content of what the script sends."""

    script = ""
    posted: Queue[tuple[str, bytes]]


class Handler(SimpleHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path == "/script.mjs":
            self.reply(self.server.script.encode(), "text/javascript")
        elif self.path == "/":
            page = Path(self.translate_path("/index.html")).read_text(encoding="utf-8")
            self.reply(page.replace("</head>", '<script type="module" src="script.mjs"></script></head>').encode())
        else:
            super().do_GET()

    def do_POST(self) -> None:
        self.server.posted.put((unquote(self.path), self.rfile.read(int(self.headers["Content-Length"]))))
        self.reply(b"")

    def reply(self, content: bytes, kind: str = "text/html; charset=utf-8") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None: ...


Visit = Callable[..., dict[str, bytes]]  # of the folder, the script, and flags of the browser


@pytest.fixture
def visit(tmp_path: Path) -> Iterator[Visit]:
    """Open the page in a folder, run a script in it, and return what that posts, by path, until it posts "/done"."""

    def run(folder: Path, script: str, *flags: str) -> dict[str, bytes]:
        assert BROWSER is not None
        server = Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        server.script, server.posted = READY % script, Queue()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", *flags]
        address = f"http://127.0.0.1:{server.server_port}/"
        found = {}
        with subprocess.Popen(
            [BROWSER, *options, "--remote-debugging-port=0", address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as browser:
            try:
                while "/done" not in found:
                    path, content = server.posted.get(timeout=PATIENCE)
                    assert path != "/posted/error", content.decode()
                    found[path] = content
            except Empty:
                pytest.fail(f"the page was not ready within {PATIENCE} s")
            finally:
                browser.terminate()
                server.shutdown()
                server.server_close()
        return found

    yield run


@pytest.fixture(scope="module")
def package() -> Path:
    try:
        return onnxruntime_web()
    except DownloadError as error:
        pytest.skip(f"needs onnxruntime-web: {error}")


@pytest.fixture(scope="module")
def page(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained Nano of generated scenes, at 320x320. Tests only read it."""
    output = tmp_path_factory.mktemp("web")
    assert export.main(["--weights", str(WEIGHTS), "--target", "web", "--output", str(output)]) == 0
    return output / "yolox-nano-web-fp32"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "scenes"
    assert draw_scenes([str(folder), "--train", "1", "--val", "1"]) == 0
    return next(path for path in folder.rglob("*") if path.suffix in (".png", ".jpg"))


def linked(page: Path, folder: Path) -> Path:
    """A folder with all that the page has, to which more can be added."""
    folder.mkdir()
    for path in page.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


DETECT = """
  const bytes = Uint8Array.from(atob("%s"), (letter) => letter.charCodeAt(0));
  const give = (name, content) => {
    const choice = new DataTransfer();
    choice.items.add(new File([content], name));
    at("file").files = choice.files;
    at("file").dispatchEvent(new Event("change"));
  };
  give("scene.png", bytes);
  await until(() => at("times").textContent);
  await post("/shown", JSON.stringify(texts()));
  at("threshold").value = 99;
  at("threshold").dispatchEvent(new Event("input"));
  await post("/strict", JSON.stringify(texts()));
  give("letter.png", "no picture");
  await until(() => at("status").className === "error");
  await post("/refused", JSON.stringify(texts()));
  await post("/done", "");
"""


@needs_browser
def test_a_visitor_sees_what_onnx_runtime_finds(visit: Visit, page: Path, scene: Path) -> None:
    image = cv2.imread(str(scene))
    assert image is not None
    content = base64.b64encode(cv2.imencode(".png", image)[1].tobytes()).decode()
    found: dict[str, Any] = {path: json.loads(text or "0") for path, text in visit(page, DETECT % content).items()}
    with load(page) as detector:
        expected, names = detector(image), detector.spec.class_names
    shown = found["/shown"]
    assert (shown["state"], shown["verdict"]) == ("passed", "Parity proven in this browser")
    assert "0 missed, 0 extra" in shown["figures"] and not shown["figures"].startswith("4 images, 0 detections")
    assert (shown["isolated"] and "2 threads" in shown["status"]) or os.cpu_count() != 2
    entries = [f"{names[one]} {score:.0%}".split() for _, score, one in expected]
    assert [text.replace("%", " ").split() for text in shown["objects"]] == [
        [*name, score.removesuffix("%")] for *name, score in entries
    ]
    assert len(expected) > 0 and shown["found"].startswith(str(len(expected)))
    assert found["/strict"]["found"] == "No objects" and found["/strict"]["objects"] == []
    assert found["/refused"]["status"] == "letter.png is no picture that this browser can read."


WHOLE_KIT = """
  const { openModel } = await import("./model.mjs");
  const yolox = await import("./yolox.mjs");
  const kit = await (await fetch("whole/kit.json")).json();
  const model = await openModel("wasm");
  for (const { name, files, ratio } of kit.cases) {
    const read = async (step) => (await fetch(`whole/${files[step].file}`)).arrayBuffer();
    const leave = (step, values) => post(`/results/${name}/${step}.bin`, values);
    let output;
    if (files.image) {
      const [height, width] = files.image.shape;
      const canvas = yolox.letterbox({ width, height, data: new Uint8Array(await read("image")) }, kit.spec);
      await leave("letterbox", canvas.data);
      const { type, dims, data } = yolox.networkInput(canvas.data, kit.spec);
      await leave("input", data);
      const { session, ort } = model;
      const results = await session.run({ [session.inputNames[0]]: new ort.Tensor(type, data, dims) });
      output = results[session.outputNames[0]].data;
      await leave("decoded", output);
    } else {
      output = new Float32Array(await read("decoded"));
    }
    const { score, nms } = kit.thresholds;
    const flat = (rows) => Float32Array.from(rows.flatMap((row) => [...row]));
    const found = yolox.candidates(output, ratio, kit.spec, score);
    await leave("candidates", flat(found));
    await leave("nms", flat(yolox.nonMaximumSuppression(found, nms)));
    const rows = yolox.detections(output, ratio, kit.spec, score, nms);
    await leave("detections", flat(rows));
    if (files.image) {
      const [height, width] = files.image.shape;
      await leave("clipped", flat(yolox.clipped(rows, { width, height })));
    }
  }
  await post("/done", "");
"""


@needs_browser
def test_every_step_conforms(visit: Visit, page: Path, tmp_path: Path) -> None:
    folder = linked(page, tmp_path / "site")
    assert kit_command.main([str(page), "--output", str(folder / "whole")]) == 0
    for path, content in visit(folder, WHOLE_KIT).items():
        if path.startswith("/results/"):
            (tmp_path / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path[1:]).write_bytes(content)
    steps = score_results(Kit.read(folder / "whole"), tmp_path / "results")
    print("\n".join(f"{name}: {step}" for name, step in steps.items()))
    assert {name: step.result for name, step in steps.items()} == dict.fromkeys(steps, "PASS")
    assert steps["letterbox"].largest["value"] == 0  # to the byte what OpenCV makes
    assert steps["detections"].cases == steps["detections"].of == 5


@pytest.mark.slow
@needs_browser
def test_another_model_loses_the_badge(visit: Visit, page: Path, tmp_path: Path) -> None:
    folder = linked(page, tmp_path / "site")
    model = onnx.load(page / "model.onnx")
    weight = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.05), weight.name))
    (folder / "model.onnx").unlink()
    onnx.save(model, folder / "model.onnx")
    found = visit(folder, 'await post("/texts", JSON.stringify(texts())); await post("/done", "");')
    texts = json.loads(found["/texts"])
    assert (texts["state"], texts["verdict"]) == ("failed", "No parity in this browser")


@needs_browser
def test_a_model_that_detects_nothing_is_proven_by_its_output(visit: Visit, package: Path, tmp_path: Path) -> None:
    """With a badge that compared detections alone, any model would do."""
    options = ["--seeded", "--input-size", "64", "64", "--target", "web", "--output"]
    assert export.main([*options, str(tmp_path / "one")]) == 0
    assert export.main([*options, str(tmp_path / "other"), "--model", "yolox-tiny", "--name", "yolox-nano-seeded"]) == 0
    one, other = (tmp_path / name / "yolox-nano-seeded-web-fp32" for name in ("one", "other"))
    script = 'await post("/texts", JSON.stringify(texts())); await post("/done", "");'
    texts = json.loads(visit(one, script)["/texts"])
    assert texts["state"] == "passed" and "4 images, 0 detections" in texts["figures"]
    (one / "model.onnx").write_bytes((other / "model.onnx").read_bytes())
    texts = json.loads(visit(one, script)["/texts"])
    assert texts["state"] == "failed" and "the network's output differs" in texts["figures"]


POSTPROCESS = """
import { clipped, detections } from "%s";
const { output, ratio, spec, score, nms, image } = JSON.parse(require("fs").readFileSync(0, "utf8"), (key, value) =>
  ({ nan: NaN, inf: Infinity })[value] ?? value);
const found = detections(Float32Array.from(output), ratio, spec, score, nms);
process.stdout.write(JSON.stringify([found, clipped(found, image)].map((rows) => rows.map((row) => [...row]))));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
@pytest.mark.parametrize("decoded", [True, False])
def test_postprocessing_is_that_of_the_runtimes_at_its_edges(decoded: bool, tmp_path: Path) -> None:
    """NaN and infinity, scores on the threshold, boxes without an area, or too large once they are scaled back."""
    spec = ModelSpec("edges", (64, 64), ("a", "b", "c"), batch=1, decoded=decoded)
    random = np.random.default_rng(3)
    output = random.normal(2, 1, (spec.num_anchors, 8)).astype(np.float32)
    output[:, 4:] = random.uniform(0, 1, (spec.num_anchors, 4))
    output[0, 4:], output[1, 4:] = (0.01, 1, 0, 0), (1, 0, 0.01, 0)  # float32(0.01), which is less than 0.01
    output[2, 6], output[3, 4], output[4, 0], output[5, 4] = np.nan, np.nan, np.inf, np.inf
    output[6:8, :4], output[6:8, 4:] = ((9, 9, 0, 0) if decoded else (3, 3, -200, -200)), (0.9, 0, 1, 0)
    output[8, 2] = 3e38 if decoded else 88
    ratio = 0.31
    size = (120, 170)
    expected = [postprocess(output[None], [ratio], spec, 0.01, 0.65, sizes)[0] for sizes in (None, [size])]
    module = Path(web.__file__).with_name("web_page") / "yolox.mjs"
    (tmp_path / "run.mjs").write_text(
        'import { createRequire } from "module";\nconst require = createRequire(import.meta.url);\n'
        + POSTPROCESS % module.as_uri()
    )
    values = [{"nan": "nan", "inf": "inf"}.get(str(value), value) for value in output.ravel().tolist()]
    image = {"height": size[0], "width": size[1]}
    given = {"output": values, "ratio": ratio, "spec": asdict(spec), "score": 0.01, "nms": 0.65, "image": image}
    done = subprocess.run(
        ["node", str(tmp_path / "run.mjs")], input=json.dumps(given), capture_output=True, text=True, check=True
    )
    assert len(expected[0]) > len(expected[1]) > 10
    for rows, one in zip(json.loads(done.stdout), expected, strict=True):
        found = np.array(rows).reshape(-1, 6)
        assert np.array_equal(found[:, 5], one.class_id) and np.array_equal(found[:, 4], one.confidence)
        assert np.allclose(found[:, :4], one.xyxy, rtol=1e-5, atol=1e-3)


# A GPU in software, which computes as one would.
SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan,WebGPU")

CHANGE = """
  const adapter = navigator.gpu && await navigator.gpu.requestAdapter();
  if (adapter) {
    at("backend").value = "webgpu";
    at("backend").dispatchEvent(new Event("change"));
    await until(() => at("backend").disabled);
    await until(() => !at("backend").disabled);
  }
  await post("/texts", JSON.stringify({ ...texts(), adapter: Boolean(adapter) }));
  await post("/done", "");
"""


@pytest.mark.slow
@needs_browser
def test_webgpu_is_proven_too(visit: Visit, page: Path) -> None:
    texts = json.loads(visit(page, CHANGE, *SOFTWARE_GPU)["/texts"])
    if not texts["adapter"]:
        pytest.skip("this browser has no WebGPU")
    assert (texts["state"], texts["status"]) == ("passed", "Ready: WebGPU.")
    assert "0 missed, 0 extra" in texts["figures"]


def test_the_folder_is_whole_and_asks_no_other_host(page: Path) -> None:
    assert {path.name for path in (page / "ort").iterdir()} == {*RUNTIME_FILES, "LICENSE"}
    assert "MIT License" in (page / "ort" / "LICENSE").read_text(encoding="utf-8")
    ours = [path for path in page.iterdir() if path.suffix in (".html", ".css", ".mjs", ".js", ".svg")]
    assert len(ours) == 8
    for path in ours:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, path
    assert export.main(["--weights", str(WEIGHTS), "--target", "web", "--output", str(page.parent), "--dry-run"]) == 1
    arguments = ["--weights", str(WEIGHTS), "--target", "web", "--output", str(page.parent), "--dry-run", "--overwrite"]
    assert export.main(arguments) == 0  # a page of ours is no foreign folder


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--batch", "2"], "--batch"), (["--nms"], "--nms"), (["--topk", "10"], "--topk")],
)
def test_what_a_page_cannot_run(
    arguments: list[str], says: str, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--seeded", "--input-size", "64", "64", "--target", "web", "--output", str(tmp_path), *arguments]
    assert export.main(command) == 1
    said = capsys.readouterr().err
    assert says in said and "leave out web" in said
    assert list(tmp_path.iterdir()) == []


def test_what_is_refused_is_refused_before_anything_is_downloaded(
    registry: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A dry run says so as well."""
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "artifacts" / "yolox-nano-seeded-web-fp32" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.touch()
    for options, says in ((["--batch", "2"], "one image at a time"), ([], "mine.txt, which is not part of")):
        for dry in ([], ["--dry-run"]):
            assert export.main(["--seeded", "--input-size", "64", "64", "--target", "web", *options, *dry]) == 1
            assert says in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_files_of_others_are_not_lost(page: Path, tmp_path: Path) -> None:
    """Beside the page in its folders, and of a page's names in other artifacts."""
    output = tmp_path / "web"
    shutil.copytree(page, output / page.name)
    (output / page.name / "kit" / "mine.bin").touch()
    assert export.main(["--weights", str(WEIGHTS), "--target", "web", "--output", str(output), "--overwrite"]) == 1
    assert (output / page.name / "kit" / "mine.bin").exists()
    (tmp_path / "yolox-nano-scenes-onnx-fp32").mkdir()
    (tmp_path / "yolox-nano-scenes-onnx-fp32" / "index.html").touch()
    options = ["--weights", str(WEIGHTS), "--name", "yolox-nano-scenes", "--output", str(tmp_path), "--overwrite"]
    assert export.main(options) == 1
    assert (tmp_path / "yolox-nano-scenes-onnx-fp32" / "index.html").exists()


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[bytes]:
    """A registry of npm, with a package of its own, and an empty cache."""
    content = b"a package"
    name = tmp_path / "registry" / ONNXRUNTIME_WEB.address
    name.parent.mkdir(parents=True)
    name.write_bytes(content)
    server = Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path / "registry")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("YOLOX_DEPLOY_NPM", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("YOLOX_DEPLOY_CACHE", str(tmp_path / "cache"))
    yield content
    server.shutdown()
    server.server_close()


def test_a_package_that_is_another_is_not_kept(registry: bytes, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="is not what it was"):
        onnxruntime_web()
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_package_is_downloaded_once_and_checked_each_time(
    registry: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = base64.b64encode(hashlib.sha512(registry).digest()).decode()
    known = NpmPackage(ONNXRUNTIME_WEB.name, ONNXRUNTIME_WEB.version, f"sha512-{digest}")
    monkeypatch.setattr(web_runtime, "ONNXRUNTIME_WEB", known)
    path = onnxruntime_web()
    assert path.read_bytes() == registry and path.parent == tmp_path / "cache"
    monkeypatch.setenv("YOLOX_DEPLOY_NPM", "http://127.0.0.1:9")  # where nobody answers
    assert onnxruntime_web() == path
    path.write_bytes(b"another")
    with pytest.raises(DownloadError, match="has changed since it was downloaded"):
        onnxruntime_web()


def test_a_dry_run_downloads_nothing(
    registry: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert export.main(["--seeded", "--target", "web", "--dry-run"]) == 0
    assert "onnxruntime-web would be downloaded" in capsys.readouterr().out
    assert not (tmp_path / "cache").exists()


def test_an_address_has_to_be_one(registry: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOX_DEPLOY_NPM", "file:///etc")
    with pytest.raises(UserError, match="YOLOX_DEPLOY_NPM must start with https://"):
        onnxruntime_web()

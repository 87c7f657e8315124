"""Detection over HTTP: micro-batches, limits, health, metrics, and 503 before it drowns.

    pip install -e ".[examples,onnx]"
    python examples/service.py artifacts/yolox-s-onnx-fp32 --port 8000
    curl --data-binary @street.jpg localhost:8000/detect

POST /detect takes the bytes of an image and gives {"width", "height", "detections": [{"box", "confidence", "class_id",
"class_name"}]}, best first, boxes as left, top, right, bottom in pixels. Whatever is refused is {"error": one
sentence}. GET /health/live (restart it if not), /health/ready (send it nothing if not), /metrics (Prometheus' text).
SIGTERM and Ctrl-C let those at work finish.
"""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import PIL.Image
import tyro
import uvicorn
from batcher import Batcher, Full
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException as HTTPError
from starlette.requests import ClientDisconnect

from runtimes import Detections, Detector, InvalidInput, UserError, load
from runtimes.preprocess import Image
from yolox_deploy.data.images import decode_image
from yolox_deploy.options import check_positive

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
# Each scan of a progressive JPEG is a pass over the whole image, for some bytes of the file. Usual ones have about 10.
START_OF_SCAN, MOST_SCANS = b"\xff\xda", 100
BATCHES = (1, 2, 4, 8, 16, 32)
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


@dataclass(frozen=True)
class Service:
    """Detection over HTTP."""

    artifact: Annotated[Path, tyro.conf.Positional]
    """Artifact: its folder, or the model file in it."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 for all."""
    port: int = 8000
    """Port to listen at."""
    streams: int = 1
    """Batches that are detected at a time; they share the cores."""
    batch: int = 8
    """Most images of a batch, where the artifact takes any number."""
    places: int = 32
    """Requests that may be here at a time; the next gets 503. Over the images per second: the longest wait."""
    seconds: float = 5.0
    """Time for a request, from its first byte to its detections."""
    megabytes: float = 10.0
    """Largest body."""
    megapixels: float = 40.0
    """Largest image, read from its header before any memory is taken for it."""
    score_threshold: float = 0.3
    """Detections below it are dropped."""


def create_app(detector: Detector, config: Service) -> FastAPI:
    """The app for one detector, which stays the caller's to close."""
    registry = CollectorRegistry()  # one of its own, so that a process may hold several apps
    requests = Counter("detect_requests", "Requests by status.", ["status"], registry=registry)
    latency = Histogram("detect_seconds", "Time of answered requests.", buckets=SECONDS, registry=registry)
    batches = Histogram("detect_batch_images", "Images of each batch.", buckets=BATCHES, registry=registry)
    batcher = Batcher(detector, config.batch, config.places, batches.observe)
    Gauge("detect_places_taken", "Requests that are here.", registry=registry).set_function(lambda: batcher.taken)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await batcher.stop()

    app = FastAPI(title=detector.spec.name, lifespan=lifespan)

    @app.exception_handler(HTTPError)
    async def refuse(request: Request, error: HTTPError) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.middleware("http")
    async def count(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        start = time.monotonic()
        try:
            response = await call_next(request)
        except Exception:
            logging.getLogger("uvicorn.error").exception("a request failed")
            response = JSONResponse({"error": "The detector failed; the service's log says why."}, 500)
        if request.url.path == "/detect":
            requests.labels(response.status_code).inc()
            if response.status_code == 200:
                latency.observe(time.monotonic() - start)
        return response

    @app.post("/detect")
    async def detect(request: Request) -> dict[str, Any]:
        try:
            async with batcher.place():
                return await asyncio.wait_for(answer(request), config.seconds)
        except Full:
            raise HTTPException(503, "All places are taken; try again in a second.", {"Retry-After": "1"}) from None
        except ClientDisconnect:
            raise HTTPException(400, "The body ended early.") from None  # nobody reads this; it is counted
        except asyncio.TimeoutError:
            raise HTTPException(504, f"This took longer than {config.seconds:g} seconds.") from None

    async def answer(request: Request) -> dict[str, Any]:
        body = await read_body(request, int(config.megabytes * 1e6))
        image = await asyncio.to_thread(decode, body, int(config.megapixels * 1e6))
        found = await batcher.detect(image)
        return to_json(image, found, detector.spec.class_names)

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        if not batcher.is_alive(10 * config.seconds):
            raise HTTPException(503, "The detector hangs or is not running.")
        return {"status": "live"}

    @app.get("/health/ready")
    async def ready() -> dict[str, str]:
        await live()
        if batcher.taken >= batcher.places:
            raise HTTPException(503, "All places are taken.", {"Retry-After": "1"})
        return {"status": "ready"}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    return app


async def read_body(request: Request, most: int) -> bytes:
    """The body, which is left unread where it turns out to be too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"The body is larger than {most} bytes.")
    return bytes(body)


def decode(body: bytes, most_pixels: int) -> Image:
    """The image, upright, BGR. The header is looked at first: a small file can ask for gigabytes of pixels."""
    try:
        with PIL.Image.open(io.BytesIO(body), formats=FORMATS) as header:
            width, height = header.size
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        raise HTTPException(415, f"The body is not an image; {', '.join(FORMATS)} are read.") from None
    if width * height > most_pixels:
        raise HTTPException(413, f"The image has {width} x {height} pixels; at most {most_pixels} are taken.")
    if body.startswith(b"\xff\xd8") and body.count(START_OF_SCAN) > MOST_SCANS:
        raise HTTPException(413, f"The JPEG has more than {MOST_SCANS} scans.")
    try:
        return decode_image(body, "The image")
    except InvalidInput:
        raise HTTPException(415, "The image is damaged or cut short.") from None


def to_json(image: Image, detections: Detections, class_names: tuple[str, ...]) -> dict[str, Any]:
    found = [
        {"box": box.tolist(), "confidence": confidence, "class_id": class_id, "class_name": class_names[class_id]}
        for box, confidence, class_id in detections
    ]
    return {"width": image.shape[1], "height": image.shape[0], "detections": found}


def main(config: Service) -> None:
    check_positive(port=config.port, streams=config.streams, batch=config.batch, places=config.places)
    with load(config.artifact, score_threshold=config.score_threshold, streams=config.streams) as detector:
        detector.warmup()  # before the port is open, so that whoever gets through is answered soon
        app = create_app(detector, config)
        print(f"listening on http://{config.host}:{config.port}: POST an image to /detect", flush=True)
        uvicorn.run(
            app,
            host=config.host,
            port=config.port,
            log_level="warning",
            timeout_graceful_shutdown=int(config.seconds) + 25,
        )


if __name__ == "__main__":
    try:
        main(tyro.cli(Service))
    except UserError as error:
        sys.exit(f"error: {error}")

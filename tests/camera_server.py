"""A camera on the loopback address that serves MJPEG over HTTP, as network cameras do, and breaks as they do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np


def jpeg(number: int, size: tuple[int, int] = (320, 240)) -> bytes:
    """A grey picture of (width, height), whose brightness is twice the number."""
    picture = np.full((size[1], size[0], 3), 2 * number, np.uint8)
    return bytes(cv2.imencode(".jpg", picture)[1])


class CameraServer:
    """Each connection gets the next script: frames to send; None stands for a connection that is refused.

    The last script is used again. rate: frames a second. hang: after its frames a connection stays open and silent.
    asked: when each connection came.
    """

    def __init__(self, *scripts: list[bytes] | None, rate: float = 50, hang: bool = False) -> None:
        self.asked: list[float] = []
        self._closing = threading.Event()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.asked.append(time.monotonic())
                script = scripts[min(len(camera.asked), len(scripts)) - 1]
                if script is None:
                    self.send_error(503)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                for part in camera.parts(script, rate):
                    self.wfile.write(part)
                if hang:
                    camera._closing.wait()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/cam.mjpeg"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def parts(self, script: list[bytes], rate: float) -> Iterator[bytes]:
        for picture in script:
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            yield head.encode() + picture + b"\r\n"
            if self._closing.wait(1 / rate):
                return

    def __enter__(self) -> CameraServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

"""python -m benchmarks.soak.streams: a long run on an RTSP stream whose server is killed on the way.

    python -m benchmarks.soak.streams ARTIFACT --minutes 10

Starts `rtsp_server.py` on the loopback address, detects in its newest frame in this process, and kills the server and
starts it again `--restarts` times. Each picture holds the time at which it was made, so the latency of a result is from
there to the detections. Prints a table of what is promised and found, and ends with one JSON line. Exit code 1 where a
promise is broken.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from runtimes.detector import Detector
from runtimes.errors import InvalidInput, MissingBackend, UserError
from runtimes.json_file import json_text
from runtimes.load import load
from runtimes.preprocess import Image
from yolox_deploy.console import require, run
from yolox_deploy.options import check_positive
from yolox_deploy.sources import quiet_opencv
from yolox_deploy.streams import LONGEST_PAUSE, OPEN_TIMEOUT, FrameGrabber

from ..machine import describe_machine
from .gauge import Gauge, Sample, trend
from .promises import MOST_GROWTH, Row, bounds, flat, of_handles, scaled, verdict
from .rtsp_server import BITS, CODE_ROWS

SERVER = Path(__file__).with_name("rtsp_server.py")
NEEDED = "gir1.2-gst-rtsp-server-1.0 python3-gi"
OUTAGE = 5.0  # seconds between the end of a server and the start of the next
SAMPLED = 25  # frames from one look at the memory to the next
LATEST = 2.0  # frame times that a result may come after its picture was made
LONGEST_RECOVERY = LONGEST_PAUSE + OPEN_TIMEOUT  # seconds from a server that serves again to the next frame


@dataclass(frozen=True)
class StreamSoakConfig:
    """A long run on an RTSP stream whose server is killed on the way."""

    artifact: Annotated[Path, tyro.conf.Positional]
    """Artifact: its folder, or the model file in it."""
    minutes: float = 10.0
    """How long."""
    restarts: int = 2
    """How often the server is killed and started again, at equal distances."""
    fps: int = 12
    """Frames a second that the server makes."""
    threads: int = 1
    """Threads of the backend."""


@dataclass
class Watched:
    """latencies: milliseconds from picture to result, of each frame. recoveries: seconds from each server that serves
    again to the next frame. received, dropped, reconnects: of the grabber."""

    latencies: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    received: int = 0
    dropped: int = 0
    reconnects: int = 0


def server_python() -> str:
    """The Python that has GStreamer's RTSP server. Raises `MissingBackend` where there is none."""
    look = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer"
    look += "; Gst.init(None); raise SystemExit(not Gst.ElementFactory.find('openh264enc'))"
    for python in filter(None, ("/usr/bin/python3", shutil.which("python3"), sys.executable)):
        if subprocess.run([python, "-c", look], capture_output=True, check=False).returncode == 0:
            return python
    raise MissingBackend(f"this needs GStreamer's RTSP server: apt-get install --no-install-recommends {NEEDED}")


class RtspServer:
    """A server process. restarts happen from another thread while this one waits for frames."""

    def __init__(self, fps: int) -> None:
        self._python, self._fps = server_python(), fps
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"rtsp://127.0.0.1:{self.port}/live"
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Raises `UserError` where it does not come up."""
        command = [self._python, str(SERVER), str(self.port), str(self._fps)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "serving\n":
            raise UserError(f"the RTSP server does not start on port {self.port}.")

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def time_code(image: Image) -> int:
    """The milliseconds that a picture of `rtsp_server` holds, modulo 2**32."""
    rows = image[CODE_ROWS // 4 : CODE_ROWS * 3 // 4].mean(axis=(0, 2))
    blocks = rows.reshape(BITS, -1)
    edge = blocks.shape[1] // 4  # which compression blurs
    bits = blocks[:, edge:-edge].mean(axis=1) > 128
    return int("".join("1" if bit else "0" for bit in bits), 2)


def age(image: Image) -> float:
    """Milliseconds since a picture of `rtsp_server` was made."""
    return (time.time() * 1000 - time_code(image) + 2**31) % 2**32 - 2**31


def watch(detector: Detector, server: RtspServer, seconds: float, restarts: int) -> Watched:
    """Detect in the newest frame for so long. Raises `UserError` where no frame comes for a minute."""
    found, gauge, served = Watched(), Gauge(), list[float]()
    done = threading.Event()

    def restart() -> None:
        for _ in range(restarts):
            if done.wait(seconds / (restarts + 1) - OUTAGE):
                return
            server.kill()
            done.wait(OUTAGE)
            server.start()
            served.append(time.monotonic())

    restarter = threading.Thread(target=restart, daemon=True)
    with FrameGrabber(server.url) as grabber:
        restarter.start()
        start = time.monotonic()
        for frame in grabber:
            now = time.monotonic()
            detector(frame.image)
            found.latencies.append(age(frame.image))
            if len(found.recoveries) < min(len(served), grabber.reconnects):
                found.recoveries.append(now - served[len(found.recoveries)])
            if len(found.latencies) % SAMPLED == 0:
                found.samples.append(gauge.sample(len(found.latencies)))
            if now - start > seconds:
                break
        done.set()
        restarter.join()
        found.received, found.dropped, found.reconnects = grabber.received, grabber.dropped, grabber.reconnects
    return found


def of_watched(name: str, found: Watched, fps: int, restarts: int) -> list[Row]:
    """What is promised of a stream."""
    own = trend(found.samples)
    growth = scaled(own.resident, 10_000)
    p50, p95, p99 = np.percentile(found.latencies, (50, 95, 99))
    limit = LATEST * 1000 / fps
    late = float(np.mean(np.asarray(found.latencies) > limit))
    slowest = max(found.recoveries, default=0.0)
    counts = {name: float(getattr(found, name)) for name in ("received", "dropped", "reconnects")}
    memory = {"slope": growth.value, "low": growth.low, "high": growth.high, "limit": MOST_GROWTH}
    return [
        Row(
            name,
            "stream: a server that comes back is found again",
            f"{found.reconnects} of {restarts} times, in {slowest:.1f} s at most",
            verdict(found.reconnects == len(found.recoveries) == restarts and slowest <= LONGEST_RECOVERY),
            {**counts, "slowest": slowest, "limit": LONGEST_RECOVERY},
        ),
        Row(
            name,
            f"stream: 95 % of results within two frame times, {limit:.0f} ms",
            f"p50 {p50:.0f}, p95 {p95:.0f}, p99 {p99:.0f} ms; {late:.1%} later; "
            f"{found.dropped} of {found.received} frames dropped",
            verdict(p95 <= limit),
            {"p50": float(p50), "p95": float(p95), "p99": float(p99), "late": late, "limit": limit},
        ),
        Row(
            name,
            "stream: memory is flat",
            f"{bounds(growth)} MiB for 10,000 frames, of {found.samples[-1].resident:.0f}",
            flat(growth, MOST_GROWTH),
            memory,
        ),
        of_handles(name, "stream", [own]),
    ]


def command(config: StreamSoakConfig) -> None:
    require("psutil")
    check_positive(restarts=config.restarts, fps=config.fps, threads=config.threads)
    if config.minutes * 60 < (config.restarts + 1) * 2 * OUTAGE:
        raise InvalidInput(f"--minutes {config.minutes:g} are too few for {config.restarts} restarts.")
    with (
        quiet_opencv(),
        RtspServer(config.fps) as server,
        load(config.artifact, threads=config.threads, score_threshold=0.1) as detector,
    ):
        detector.warmup()
        rows = of_watched(
            detector.spec.name,
            watch(detector, server, config.minutes * 60, config.restarts),
            config.fps,
            config.restarts,
        )
    print("| artifact | promise | found | kept |\n|---|---|---|---|")
    print("\n".join(map(str, rows)))
    print(json_text({"rows": [asdict(row) for row in rows], "machine": asdict(describe_machine())}))
    broken = [row for row in rows if row.kept == "NO"]
    if broken:
        raise UserError(f"{len(broken)} promises are broken; the first: {broken[0].promise}.")


def main(arguments: Sequence[str] | None = None) -> int:
    return run("python -m benchmarks.soak.streams", StreamSoakConfig, command, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""An RTSP server on the loopback address, whose pictures hold the time at which they were made.

    /usr/bin/python3 benchmarks/soak/rtsp_server.py PORT [FPS]

Serves rtsp://127.0.0.1:PORT/live, H.264 of 320x240, a grey picture in which a light square moves, until it is killed.
A file of its own, since it needs the system's Python: GStreamer's server has no wheel. On Debian:

    apt-get install --no-install-recommends gir1.2-gst-rtsp-server-1.0 python3-gi

The top rows are a time code: 32 blocks from left to right, the highest bit first, white for 1: the milliseconds since
1970, modulo 2**32. `time_code` of `benchmarks.soak.streams` reads it.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

WIDTH, HEIGHT, BITS, CODE_ROWS, SQUARE = 320, 240, 32, 32, 60
PIPELINE = (
    "( appsrc name=source is-live=true format=time do-timestamp=true "
    "caps=video/x-raw,format=GRAY8,width={width},height={height},framerate={fps}/1 "
    "! videoconvert ! openh264enc complexity=low gop-size={fps} ! h264parse "
    "! rtph264pay name=pay0 pt=96 config-interval=1 )"
)


def picture(milliseconds: int) -> bytes:
    """A grey picture (HEIGHT, WIDTH) with its time code."""
    block = WIDTH // BITS
    code = b"".join((b"\xf0" if milliseconds >> bit & 1 else b"\x10") * block for bit in reversed(range(BITS)))
    left = milliseconds // 10 % (WIDTH - SQUARE)
    plain = b"\x60" * WIDTH
    crossed = plain[:left] + b"\xd0" * SQUARE + plain[left + SQUARE :]
    return code * CODE_ROWS + plain * 80 + crossed * SQUARE + plain * (HEIGHT - CODE_ROWS - 80 - SQUARE)


def serve(port: int, fps: int) -> None:
    import gi  # type: ignore[import-not-found]

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer  # type: ignore[import-not-found]

    Gst.init(None)

    def feed(source: Any) -> None:
        due = time.monotonic()
        while True:
            pixels = picture(round(time.time() * 1000) % 2**BITS)
            if source.emit("push-buffer", Gst.Buffer.new_wrapped(pixels)) != Gst.FlowReturn.OK:
                return
            due = max(due + 1 / fps, time.monotonic() - 1)
            time.sleep(max(due - time.monotonic(), 0))

    def configure(_factory: Any, media: Any) -> None:
        source = media.get_element().get_by_name_recurse_up("source")
        threading.Thread(target=feed, args=(source,), daemon=True).start()

    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(str(port))
    factory = GstRtspServer.RTSPMediaFactory.new()
    factory.set_launch(PIPELINE.format(width=WIDTH, height=HEIGHT, fps=fps))
    factory.set_shared(True)
    factory.connect("media-configure", configure)
    server.get_mount_points().add_factory("/live", factory)
    if not server.attach(None):
        sys.exit(f"cannot listen on port {port}.")
    print("serving", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 12)

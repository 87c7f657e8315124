"""Worker: an artifact in a fresh process, seen from the process that measures."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Client, Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from runtimes.detections import Detections
from runtimes.errors import UserError
from runtimes.preprocess import Image

from ..stages import StageTimes
from .worker import KEY, Warmup

ROOT = Path(__file__).parents[2]
# Not -m, under which its classes would be those of `__main__`.
SERVE = "from benchmarks.compare.worker import serve; serve()"


class WorkerDied(UserError):
    """The process of an artifact ended: its backend crashed, or the machine had no memory left."""


class Worker:
    """One artifact in a process of its own. Raises `WorkerDied` where that ends, `UserError` for what it reports.

    options, program: those of a `speed.Contender`.
    """

    def __init__(self, artifact: Path, images: Sequence[Image], options: dict[str, Any], program: str = "") -> None:
        self.artifact = artifact
        key = secrets.token_bytes(16)
        command, environment = [sys.executable, "-c", SERVE], {**os.environ, KEY: key.hex()}
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        self._pipe: Connection | None = None
        try:
            assert self._process.stdout is not None
            with self._process.stdout as printed:
                address = printed.readline().strip()
            if not address:
                raise WorkerDied(f"no process for {artifact} could be started: its error stands above.")
            self._pipe = Client(address, authkey=key)
            path = str(artifact.absolute())
            self.load_milliseconds: float = self._ask("open", path, list(images), options, program)
        except BaseException:
            self.close()
            raise

    def warm_up(self) -> Warmup:
        found: Warmup = self._ask("warm_up")
        return found

    def run_round(self, runs: int) -> list[StageTimes]:
        found: list[StageTimes] = self._ask("run_round", runs)
        return found

    def detect(self) -> list[Detections]:
        """What is found in each of the images."""
        found: list[Detections] = self._ask("detect")
        return found

    def throughput(self, batch: int, seconds: float) -> float:
        found: float = self._ask("throughput", batch, seconds)
        return found

    def peak_memory(self) -> float:
        found: float = self._ask("peak_memory")
        return found

    @property
    def pid(self) -> int:
        return self._process.pid

    def _ask(self, name: str, *arguments: Any) -> Any:
        assert self._pipe is not None
        try:
            self._pipe.send((name, arguments))
            answer, error = self._pipe.recv()
        except (EOFError, OSError):
            code = self._process.wait()
            raise WorkerDied(f"the process of {self.artifact} ended with code {code} while it was to {name}.") from None
        if error is not None:
            raise UserError(f"{self.artifact}: {error}")
        return answer

    def close(self) -> None:
        """End the process. A second call does nothing."""
        if self._pipe is None:
            self._process.kill()
        else:
            self._pipe.close()
        try:
            self._process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

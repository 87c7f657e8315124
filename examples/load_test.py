"""What a service can do, and what it does when it is asked for twice that. For examples/service.py.

    python examples/service.py artifacts/yolox-nano-onnx-fp32 &
    python examples/load_test.py street.jpg --artifact artifacts/yolox-nano-onnx-fp32

First a few clients, each of which asks again as soon as it has its answer: requests a second, p50 and p99. Then
requests at twice that rate, whether answered or not: each has to be answered or refused with 503 (nothing is lost), and
those that are answered have to be what the detector finds itself. Prints a table and ends with one JSON line; exit code
1 where that does not hold. Run it on another machine for figures of the service alone: here, both share the processor.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import numpy as np
import tyro

from runtimes import InvalidInput, UserError, load
from yolox_deploy.data.images import find_images, read_image

OK, SHED = 200, 503
BOX_PIXELS, SCORE = 0.05, 1e-3  # batches of other sizes may round differently


@dataclass(frozen=True)
class LoadTest:
    """What a service can do, and what it does when it is asked for twice that."""

    source: Annotated[str, tyro.conf.Positional]
    """Image, folder or pattern: what to send."""
    artifact: Path
    """What the service runs: its answers are compared with this."""
    url: str = "http://127.0.0.1:8000"
    """The service."""
    clients: int = 8
    """Clients that ask at a time, to find what it can do."""
    seconds: float = 10.0
    """How long each of the two parts takes."""
    times: float = 2.0
    """How many times what it can do is asked for then."""
    score_threshold: float = 0.3
    """The service's."""


@dataclass(frozen=True)
class Answers:
    """What came of the requests of one part; milliseconds are those of the answered ones.

    offered_per_second: as they were sent, which is less than asked for where this program itself is too slow.
    """

    sent: int
    offered_per_second: float
    answered: int
    shed: int
    other: dict[str, int]
    wrong: int
    per_second: float
    p50_ms: float
    p99_ms: float

    def __str__(self) -> str:
        figures = f"{self.per_second:.1f} | {self.p50_ms:.0f} | {self.p99_ms:.0f}"
        counts = self.answered, self.shed, sum(self.other.values()), self.wrong
        return f"| {self.sent} | {self.offered_per_second:.1f} | {' | '.join(map(str, counts))} | {figures} |"


class Client:
    """Sends images in turn, and notes what comes back."""

    def __init__(
        self, http: aiohttp.ClientSession, bodies: Sequence[bytes], expected: Sequence[list[dict[str, Any]]]
    ) -> None:
        self.http, self.bodies, self.expected = http, bodies, expected
        self.reset()

    def reset(self) -> None:
        self.sent, self.wrong = 0, 0
        self.start = self.last = time.monotonic()
        self.statuses: Counter[str] = Counter()
        self.seconds: list[float] = []

    async def ask(self) -> None:
        number = self.sent % len(self.bodies)
        self.sent += 1
        start = self.last = time.monotonic()
        try:
            async with self.http.post("/detect", data=self.bodies[number]) as response:
                answer = await response.json()
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:
            self.statuses[type(error).__name__] += 1
            return
        self.statuses[str(response.status)] += 1
        if response.status == OK:
            self.seconds.append(time.monotonic() - start)
            self.wrong += not same(answer["detections"], self.expected[number])
        elif response.status == SHED:
            self.wrong += "Retry-After" not in response.headers

    def answers(self) -> Answers:
        other = {key: count for key, count in self.statuses.items() if key not in (str(OK), str(SHED))}
        p50, p99 = np.percentile(self.seconds or [float("nan")], [50, 99]) * 1000
        rate = len(self.seconds) / (time.monotonic() - self.start)
        offered, shed = self.sent / max(self.last - self.start, 1e-9), self.statuses[str(SHED)]
        return Answers(self.sent, offered, len(self.seconds), shed, other, self.wrong, rate, float(p50), float(p99))


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    """Whether two lists hold the same detections; those with nearly equal scores may stand in another order."""
    if len(found) != len(expected):
        return False
    left = list(expected)
    for one in found:
        matching = [
            other
            for other in left
            if one["class_id"] == other["class_id"]
            and abs(one["confidence"] - other["confidence"]) <= SCORE
            and np.abs(np.subtract(one["box"], other["box"])).max() <= BOX_PIXELS
        ]
        if not matching:
            return False
        left.remove(matching[0])
    return True


async def as_soon_as_answered(client: Client, clients: int, seconds: float) -> Answers:
    """Closed loop: what the service can do."""
    client.reset()
    end = time.monotonic() + seconds

    async def one() -> None:
        while time.monotonic() < end:
            await client.ask()

    await asyncio.gather(*(one() for _ in range(clients)))
    return client.answers()


async def at_a_rate(client: Client, rate: float, seconds: float) -> Answers:
    """Open loop: requests come whether the ones before were answered or not."""
    client.reset()
    asked: list[asyncio.Task[None]] = []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(client.start + number / rate - time.monotonic(), 0))
        asked.append(asyncio.create_task(client.ask()))
    await asyncio.gather(*asked)
    return client.answers()


def expectations(config: LoadTest) -> tuple[list[bytes], list[list[dict[str, Any]]]]:
    """The bodies to send, and what the detector finds in each by itself."""
    paths = find_images(config.source)
    with load(config.artifact, score_threshold=config.score_threshold) as detector:
        found = [
            [{"box": box.tolist(), "confidence": confidence, "class_id": class_id} for box, confidence, class_id in one]
            for one in detector.detect_stream(map(read_image, paths))
        ]
    return [path.read_bytes() for path in paths], found


PATIENCE = 30  # seconds for a service that has just been started


async def wait_for(http: aiohttp.ClientSession, url: str) -> None:
    """Until the service is ready: it may just have been started. Raises `InvalidInput` where there is none."""
    for _ in range(PATIENCE):
        try:
            async with http.get("/health/ready") as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(1)
    raise InvalidInput(f"no service answers at {url}: start python examples/service.py ARTIFACT first.")


async def measure(config: LoadTest) -> tuple[Answers, Answers]:
    bodies, expected = expectations(config)
    # As many connections as it takes: a client of the service does not wait for the others.
    async with aiohttp.ClientSession(config.url, connector=aiohttp.TCPConnector(limit=0)) as http:
        await wait_for(http, config.url)
        client = Client(http, bodies, expected)
        able = await as_soon_as_answered(client, config.clients, config.seconds)
        if not able.answered:
            raise InvalidInput(f"{config.url} answered no request: {able.other or 'all were refused with 503'}.")
        return able, await at_a_rate(client, config.times * able.per_second, config.seconds)


def main(config: LoadTest) -> None:
    able, asked_for_more = asyncio.run(measure(config))
    print("| | sent | sent/s | answered | 503 | other | wrong | answered/s | p50 ms | p99 ms |\n" + "|---" * 10 + "|")
    print(f"| {config.clients} clients {able}\n| {config.times:g} times as many {asked_for_more}")
    print(json.dumps({"able": asdict(able), "asked_for_more": asdict(asked_for_more)}))
    for part in (able, asked_for_more):
        if part.answered + part.shed != part.sent or part.wrong:
            raise UserError(f"requests were lost or answered wrongly: {part.other}, {part.wrong} wrong.")


if __name__ == "__main__":
    try:
        main(tyro.cli(LoadTest))
    except UserError as error:
        sys.exit(f"error: {error}")

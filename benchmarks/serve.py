"""The service under load, beside the linker itself: errors, latency, memory, draining.

python benchmarks/serve.py [--linker nano] [--clients 64] [--seconds 60]
    [--documents FILE] [--out FILE]

Four parts, each with a service of its own on a free port of this machine alone:

1. the linker in Python, 16 documents a batch; then `--clients` clients for `--seconds`,
   each sending one document a request; then the linker again. Throughput is compared
   by wall time and by CPU time of the two processes.
2. memory of the service after a third of that time, and at its end;
3. four times the queue's limit at once: how many are refused, how fast, and whether
   the service answers again afterwards;
4. SIGTERM under load: the service says how many requests it began and answered; the
   clients count what they got.

The documents are those of FILE (JSONL, at most 512), or sentences of 60 words around
titles of the knowledge base. Both sides have linked all of them once before.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import rich

from insgenel_jax.kb import KnowledgeBase
from insgenel_jax.linker import Linker
from insgenel_jax.linker.bundled import locate
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import Rejects

MOST = 512  # documents
BATCH = 16
QUEUE = 64  # documents that wait, in parts 3 and 4
START = 600  # seconds that a service may take to start and to compile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--linker", default="nano")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--documents", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    texts = make_texts(arguments.linker, arguments.documents)
    facts = {"documents": len(texts), "cores": os.cpu_count()}
    facts |= compare(arguments, texts)
    facts |= asyncio.run(overload(arguments, texts))
    facts |= asyncio.run(drain(arguments, texts))
    rich.print(facts)
    if arguments.out:
        arguments.out.write_text(json.dumps(facts, indent=1) + "\n")


def make_texts(linker: str, documents: Path | None) -> list[str]:
    """The texts that both sides link."""
    if documents is not None:
        read = read_documents(documents, Rejects())
        return [document.text for document in itertools.islice(read, MOST)]
    kb, chance = KnowledgeBase.open(locate(linker) / "kb"), random.Random(0)
    titles = [kb.title(i) for i in range(min(len(kb), 20_000))]
    frames = ["{} met {} near {}.", "Years later {} wrote of {} and {}."]
    texts = []
    for _ in range(MOST):
        words = 0
        sentences = []
        while words < 60:
            frame = chance.choice(frames)
            sentences.append(frame.format(*chance.sample(titles, 3)))
            words += len(sentences[-1].split())
        texts.append(" ".join(sentences))
    return texts


def compare(arguments: argparse.Namespace, texts: list[str]) -> dict:
    """Parts 1 and 2."""
    linker = Linker.from_pretrained(arguments.linker, batch=BATCH)
    linker(texts)
    before = time_linker(linker, texts)
    loaded = asyncio.run(load(arguments, texts))
    after = time_linker(linker, texts)
    for what in ("documents/s", "documents/CPU s"):
        alone = statistics.mean([before[what], after[what]])
        loaded[f"linker alone: {what}"] = alone
        loaded[f"service / linker alone: {what}"] = loaded[f"service: {what}"] / alone
    return loaded


def time_linker(linker: Linker, texts: list[str]) -> dict[str, float]:
    """Documents a second, and a CPU second, of the linker itself."""
    wall, cpu = time.perf_counter(), time.process_time()
    for first in range(0, len(texts), BATCH):
        linker(texts[first : first + BATCH])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"documents/s": len(texts) / wall, "documents/CPU s": len(texts) / cpu}


class Service:
    """A service in a process of its own."""

    def __init__(self, linker: str, *options: str) -> None:
        command = [sys.executable, "-m", "insgenel_jax.serve", linker, "--port", "0"]
        self.process = subprocess.Popen(
            [*command, *options], stderr=subprocess.PIPE, text=True
        )
        for line in self.process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                return
            print(line, end="", file=sys.stderr)
        raise SystemExit("the service did not start")

    def stop(self) -> str:
        """End it; its last line."""
        self.process.send_signal(signal.SIGTERM)
        try:
            _, errors = self.process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return errors.strip().splitlines()[-1]


@contextlib.contextmanager
def serving(linker: str, *options: str) -> Iterator[Service]:
    service = Service(linker, *options)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.process.kill()
        service.process.wait()


class Client:
    """One connection that is kept; HTTP as simple as it gets, to cost little itself.

    answers: that all clients have got.
    """

    answers = 0

    def __init__(self, port: int) -> None:
        self.port = port
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """The status and the body of an answer. Raises OSError, EOFError."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(
                "127.0.0.1", self.port
            )
        method = "GET" if body is None else "POST"
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body or b'')}"
        try:
            self.writer.write(head.encode() + b"\r\n\r\n" + (body or b""))
            answer = await self.reader.readuntil(b"\r\n\r\n")
            fields = answer.decode("latin-1").lower()
            length = int(re.search(r"content-length: (\d+)", fields)[1])
            content = await self.reader.readexactly(length)
        except BaseException:
            self.close()
            raise
        Client.answers += 1
        if "connection: close" in fields:
            self.close()
        return int(fields.split(" ", 2)[1]), content

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


async def ready(service: Service) -> Client:
    """Wait until a service has compiled."""
    client, end = Client(service.port), time.monotonic() + START
    while (await client.ask("/ready"))[0] != 200:
        if time.monotonic() > end:
            raise SystemExit(f"the service was not ready after {START} s")
        await asyncio.sleep(0.5)
    return client


async def send_for(
    port: int, clients: int, seconds: float, bodies: list[bytes]
) -> AsyncIterator[tuple[float, int]]:
    """Yield (seconds, status) of each answer; a status of 0 is no answer."""
    answers: asyncio.Queue[tuple[float, int] | None] = asyncio.Queue()
    end, turn = time.monotonic() + seconds, itertools.cycle(bodies)

    async def run() -> None:
        client = Client(port)
        while time.monotonic() < end:
            began = time.perf_counter()
            try:
                status, _ = await client.ask("/link", next(turn))
            except (OSError, EOFError):
                answers.put_nowait((time.perf_counter() - began, 0))
                break
            answers.put_nowait((time.perf_counter() - began, status))
        client.close()
        answers.put_nowait(None)

    tasks = [asyncio.create_task(run()) for _ in range(clients)]
    done = 0
    while done < clients:
        answer = await answers.get()
        if answer is None:
            done += 1
        else:
            yield answer
    await asyncio.gather(*tasks)


async def measure(port: int) -> tuple[float, float]:
    """MB of memory and CPU seconds of a service, as it says itself."""
    client = Client(port)
    _, content = await client.ask("/metrics")
    client.close()
    values = [
        float(re.search(rf"^{name} (\S+)$", content.decode(), re.MULTILINE)[1])
        for name in ("process_resident_memory_bytes", "process_cpu_seconds_total")
    ]
    return values[0] / 1e6, values[1]


def as_bodies(texts: list[str]) -> list[bytes]:
    return [json.dumps({"text": text}).encode() for text in texts]


async def load(arguments: argparse.Namespace, texts: list[str]) -> dict:
    """The service under a steady load."""
    bodies, clients = as_bodies(texts), arguments.clients
    with serving(arguments.linker, "--set", f"batch={BATCH}") as service:
        watcher = await ready(service)
        groups = [texts[i : i + 64] for i in range(0, len(texts), 64)]
        for group in groups:  # all of them once, as the linker itself has
            documents = {"documents": [{"text": text} for text in group]}
            await watcher.ask("/link", json.dumps(documents).encode())
        early = asyncio.create_task(watch(service.port, arguments.seconds / 3))
        _, cpu = await measure(service.port)
        began, answers = time.perf_counter(), []
        async for answer in send_for(service.port, clients, arguments.seconds, bodies):
            answers.append(answer)
        wall = time.perf_counter() - began
        memory, cpu_after = await measure(service.port)
        times = sorted(seconds for seconds, _ in answers)
        good = sum(status == 200 for _, status in answers)
        facts = {
            "clients": clients,
            "requests": len(answers),
            "errors": len(answers) - good,
            "p50, ms": 1e3 * times[len(times) // 2],
            "p99, ms": 1e3 * times[int(len(times) * 0.99)],
            "service: documents/s": good / wall,
            "service: documents/CPU s": good / (cpu_after - cpu),
            "MB after a third": await early,
            "MB at the end": memory,
        }
        service.stop()
    return facts


async def watch(port: int, seconds: float) -> float:
    """MB of memory after some time."""
    await asyncio.sleep(seconds)
    return (await measure(port))[0]


async def overload(arguments: argparse.Namespace, texts: list[str]) -> dict:
    """More at one time than may wait, and a few requests afterwards."""
    bodies = as_bodies(texts)
    with serving(arguments.linker, "--queue", str(QUEUE)) as service:
        await ready(service)
        answers = [
            answer async for answer in send_for(service.port, 4 * QUEUE, 5, bodies)
        ]
        again = [await Client(service.port).ask("/link", body) for body in bodies[:16]]
        service.stop()
    refused = sorted(seconds for seconds, status in answers if status == 503)
    return {
        "overload: answered": sum(status == 200 for _, status in answers),
        "overload: refused with 503": len(refused),
        "overload: neither": sum(status not in (200, 503) for _, status in answers),
        "overload: median ms to a refusal": 1e3 * statistics.median(refused or [0]),
        "overload: answered of 16 afterwards": sum(s == 200 for s, _ in again),
    }


async def drain(arguments: argparse.Namespace, texts: list[str]) -> dict:
    """SIGTERM while clients wait for answers."""
    Client.answers = 0
    with serving(arguments.linker) as service:
        await ready(service)

        async def end() -> str:
            await asyncio.sleep(3)
            return await asyncio.to_thread(service.stop)

        ending = asyncio.create_task(end())
        bodies = as_bodies(texts)
        answers = [
            answer
            async for answer in send_for(service.port, arguments.clients, 60, bodies)
        ]
        last = await ending
    return {
        "SIGTERM: links that clients got": sum(s == 200 for _, s in answers),
        "SIGTERM: refused (503) while stopping": sum(s == 503 for _, s in answers),
        "SIGTERM: connections closed before a request was read": sum(
            s == 0 for _, s in answers
        ),
        "SIGTERM: answers of any kind that clients got": Client.answers,
        "SIGTERM: the service": last,
        "SIGTERM: exit status": service.process.returncode,
    }


if __name__ == "__main__":
    main()

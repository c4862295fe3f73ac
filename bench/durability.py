"""What a server with ``--data`` keeps of its word while it is killed again and again, and what that costs.

Jobs are submitted and retrieved over real connections; at random moments the server is killed with SIGKILL and started
anew on the same directory. Every job whose 202 arrived must end exactly once, in the result of its own number, and an
end that a client has seen must never change. Run: ``python bench/durability.py``; ends with 1 if anything was lost.
"""

import argparse
import json
import os
import random
import re
import selectors
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

HEADERS: Final = b"host: 127.0.0.1\r\nx-api-key: local-dev-key\r\nx-wf-endpoint: bench\r\n"
NO_LIMITS: Final = [part for name in ("async_submit", "retrieval") for part in ("--limit", f"{name}=1000000000/s")]
SUBMITTERS, RETRIEVERS = 12, 4

WORKFLOW: Final = """
import asyncio, os
from loadtest.target import workflow

LOG = os.open(os.environ["EXECUTIONS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@workflow
async def square(number: int, ms: float) -> dict[str, int]:
    os.write(LOG, b"%d\\n" % number)
    await asyncio.sleep(ms / 1000)
    return {"number": number, "square": number * number}
"""


@dataclass
class Tally:
    """What became of all jobs.

    Attributes:
        kills: how often the server was killed.
        accepted: jobs whose 202 arrived.
        unheard: jobs that the server had on disk, but whose 202 didn't arrive before it was killed.
        ended: accepted jobs that were seen to end.
        seen: ends that were seen before a kill, and looked at again after the last one.
        lost: accepted jobs that are unknown or never ended.
        wrong: those that ended in anything but their own result.
        changed: those whose end was seen, and later was another one.
        executed_again: jobs that were begun more than once.
        executions: how often any job was begun.
    """

    kills: int = 0
    accepted: int = 0
    unheard: int = 0
    ended: int = 0
    seen: int = 0
    lost: int = 0
    wrong: int = 0
    changed: int = 0
    executed_again: int = 0
    executions: int = 0

    @property
    def kept(self) -> bool:
        """Whether the server kept its word."""
        return self.accepted == self.ended > 0 and not (self.lost or self.wrong or self.changed)


class Server:
    """A server process on a directory.

    Args:
        arguments: of ``loadtest serve``, besides the port and the limits.
        environment: variables besides those of this process.
    """

    def __init__(self, *arguments: str, **environment: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("WORKFLOW_")}
        command = [sys.executable, "-m", "loadtest.cli", "serve", "--port", "0", *NO_LIMITS, *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**clean, **environment})
        line = self.process.stdout.readline() if self.process.stdout else ""
        match = re.search(r":(\d+)$", line.strip())
        if match is None:
            raise SystemExit(f"the server did not start: {line!r}")
        self.port = int(match[1])

    def connect(self) -> socket.socket:
        """Open a connection."""
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def end(self, number: int) -> int:
        """Signal it and wait for its end."""
        self.process.send_signal(number)
        code = self.process.wait(20)
        if self.process.stdout:
            self.process.stdout.close()
        return code


@dataclass
class Talk:
    """A connection with one request in flight, and what has arrived of its answer."""

    connection: socket.socket
    number: int | None = None
    job: str = ""
    answer: bytearray = field(default_factory=bytearray)


class Client:
    """Submits jobs with numbers that rise, asks for them, and remembers what it was told.

    Attributes:
        numbers: of each job that was accepted, by id.
        ends: the terminal answer of each job that was seen to end, by id.
        changed: jobs whose end was another one later.
    """

    def __init__(self, source: random.Random) -> None:
        self.numbers: dict[str, int] = {}
        self.ends: dict[str, bytes] = {}
        self.changed: set[str] = set()
        self._ids: list[str] = []
        self._source = source
        self._next = 0

    def work(self, server: Server, accepted: int) -> None:
        """Submit and retrieve until so many more jobs are accepted; kill the server; read what it still said."""
        goal = len(self.numbers) + accepted
        with selectors.DefaultSelector() as selector:
            for index in range(SUBMITTERS + RETRIEVERS):
                talk = Talk(server.connect())
                selector.register(talk.connection, selectors.EVENT_READ, (talk, index < SUBMITTERS))
                self._ask(talk, submit=index < SUBMITTERS)
            while len(self.numbers) < goal:
                for key, _ in selector.select(20):
                    talk, submit = key.data
                    if not self._hear(talk):
                        raise SystemExit("the server closed a connection: this measures the wrong thing")
                    if not talk.answer:
                        self._ask(talk, submit=submit)
            server.end(signal.SIGKILL)
            for key in list(selector.get_map().values()):
                talk = key.data[0]
                while self._hear(talk):  # what it wrote before its death was said, too
                    pass
                talk.connection.close()

    def settle(self, server: Server, seconds: float = 60.0) -> None:
        """Ask for every accepted job until it is seen to end, and once more for those that were seen before."""
        talk, deadline = Talk(server.connect()), time.monotonic() + seconds
        for job in self._ids:
            while True:
                self._ask(talk, submit=False, job=job)
                before = talk.job
                while self._hear(talk) and talk.answer:
                    pass
                if before in self.ends or before not in self.numbers or time.monotonic() > deadline:
                    break
        talk.connection.close()

    def _ask(self, talk: Talk, *, submit: bool, job: str = "") -> None:
        if submit or not self._ids:
            talk.number, talk.job = self._next, ""
            self._next += 1
            ms = self._source.choice((0, 0, 0, 1, 20))
            body = b'{"name":"square","parameters":{"number":%d,"ms":%d}}' % (talk.number, ms)
            head = b"POST /v1/workflows/jobs HTTP/1.1\r\n" + HEADERS + b"content-length: %d\r\n\r\n" % len(body)
            talk.connection.sendall(head + body)
        else:
            talk.number, talk.job = None, job or self._source.choice(self._ids[-200:])
            talk.connection.sendall(f"GET /v1/workflows/jobs/{talk.job} HTTP/1.1\r\n".encode() + HEADERS + b"\r\n")

    def _hear(self, talk: Talk) -> bool:
        """Read on; False when the connection has ended."""
        try:
            piece = talk.connection.recv(65536)
        except ConnectionError:
            return False
        talk.answer += piece
        head, complete, body = bytes(talk.answer).partition(b"\r\n\r\n")
        if complete and len(body) >= int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]):
            self._learn(talk, int(head.split(b" ", 2)[1]), body)
            talk.answer.clear()
        return bool(piece)

    def _learn(self, talk: Talk, status: int, body: bytes) -> None:
        if talk.number is not None:
            if status == 202:
                job = json.loads(body)["jobId"]
                self.numbers[job] = talk.number
                self._ids.append(job)
            elif status != 503:
                raise SystemExit(f"a submit was answered with {status}: {body!r}")
            return
        ended = status == 200 and b'"status":"pending"' not in body
        if ended:
            self.ends.setdefault(talk.job, body)
        if talk.job in self.ends and self.ends[talk.job] != body:
            self.changed.add(talk.job)


def prove(directory: Path, jobs: int, kills: int, seed: int) -> Tally:
    """Have at least ``jobs`` jobs accepted while the server is killed ``kills`` times, and see what became of them.

    Args:
        directory: an empty one.
        jobs: to be accepted.
        kills: at moments that are drawn.
        seed: of the draws.
    """
    source = random.Random(seed)
    workflows, executions, data = directory / "square.py", directory / "executions", directory / "data"
    workflows.write_text(WORKFLOW)
    arguments = ("--data", str(data), "--workflows", str(workflows))
    client = Client(source)
    cuts = sorted(source.sample(range(1, jobs), kills - 1))
    for goal in (*cuts, jobs):
        server = Server(*arguments, EXECUTIONS=str(executions))
        client.work(server, max(1, goal - len(client.numbers)))
    seen = len(client.ends)
    server = Server(*arguments, EXECUTIONS=str(executions))
    client.settle(server)
    if server.end(signal.SIGTERM) != 0:
        raise SystemExit("the server did not stop cleanly")
    begun = Counter(executions.read_text().split())
    right = {job for job, body in client.ends.items() if _is_right(json.loads(body), job, client.numbers[job])}
    with closing(sqlite3.connect(data / "jobs.sqlite3")) as connection:
        stored = {job for (job,) in connection.execute("SELECT id FROM jobs")}
    return Tally(
        kills=kills,
        accepted=len(client.numbers),
        unheard=len(stored - set(client.numbers)),
        ended=len(client.ends),
        seen=seen,
        lost=len(set(client.numbers) - set(client.ends)),
        wrong=len(set(client.ends) - right),
        changed=len(client.changed),
        executed_again=sum(count > 1 for count in begun.values()),
        executions=sum(begun.values()),
    )


def _is_right(answer: dict[str, Any], job: str, number: int) -> bool:
    result = {"number": number, "square": number * number}
    return (answer.get("jobId"), answer.get("status"), answer.get("result")) == (job, "completed", result)


def rate(count: int, *arguments: str) -> float:
    """Submits a second over many connections with one request in flight on each."""
    server = Server(*arguments)
    body = b'{"name":"say-hello"}'
    request = b"POST /v1/workflows/jobs HTTP/1.1\r\n" + HEADERS + b"content-length: %d\r\n\r\n" % len(body) + body
    sent = answered = 0
    with selectors.DefaultSelector() as selector:
        for _ in range(64):
            connection = server.connect()
            selector.register(connection, selectors.EVENT_READ, connection)
            connection.sendall(request)
            sent += 1
        start = time.perf_counter()
        while answered < count:
            for key, _ in selector.select(20):
                if not key.data.recv(65536).startswith(b"HTTP/1.1 202"):
                    raise SystemExit("an answer was not 202: this measures the wrong thing")
                answered += 1
                if sent < count:
                    key.data.sendall(request)
                    sent += 1
        took = time.perf_counter() - start
        for key in list(selector.get_map().values()):
            key.data.close()
    server.end(signal.SIGTERM)
    return count / took


def main() -> int:
    """Prove and measure; print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5_000, help="to be accepted")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--submits", type=int, default=20_000, help="for the rates")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        tally = prove(Path(name), arguments.jobs, arguments.kills, arguments.seed)
        print(f"seed {arguments.seed}")
        for key, value in asdict(tally).items():
            print(f"{key.replace('_', ' '):16}{value:8}")
        rates = [(rate(arguments.submits), rate(arguments.submits, "--data", f"{name}/{n}")) for n in range(3)]
    memory, disk = (sorted(each)[1] for each in zip(*rates, strict=True))
    print(f"submits/s, 64 connections, median of 3: in memory {memory:.0f}, with --data {disk:.0f}, ", end="")
    print(f"ratio {memory / disk:.2f}")
    print("every accepted job ended once, in its own result" if tally.kept else "THE SERVER DID NOT KEEP ITS WORD")
    return 0 if tally.kept else 1


if __name__ == "__main__":
    sys.exit(main())

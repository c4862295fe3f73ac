"""A server whose faults can be set while it runs, with requests for tests."""

import re
import time
from collections.abc import Callable
from typing import Any

import httpx
from plugins.processes import until
from plugins.wire import RUN, connect, post

JOBS = "/v1/workflows/jobs"
Until = Callable[..., Any]


class Faulty:
    """Clients for a server and its control endpoint."""

    def __init__(self, served: Any) -> None:
        self.served = served
        text = "".join(iter(served.process.stdout.readline, "  stop with Ctrl-C or SIGTERM\n"))
        match = re.search(r"^  control on (http://127\.0\.0\.1:\d+)$", text, re.MULTILINE)
        assert match is not None, text
        self.control = httpx.Client(base_url=match[1], trust_env=False, timeout=30)
        self.clients = [self._client(key) for key in ("alpha", "beta")]

    def _client(self, key: str) -> httpx.Client:
        headers = {"x-api-key": key, "x-wf-endpoint": "tests"}
        return httpx.Client(base_url=self.served.url, headers=headers, trust_env=False, timeout=30)

    def set(self, *texts: str) -> None:
        """Replace all faults with these."""
        self.control.delete("/faults").raise_for_status()
        if texts:
            answer = self.control.post("/faults", content="\n".join(texts))
            assert answer.status_code == 201, answer.text

    def run(self, workflow: str = "echo", key: int = 0, **parameters: Any) -> httpx.Response:
        return self.clients[key].post(RUN, json={"name": workflow, "parameters": parameters})

    def submit(self, workflow: str = "echo", key: int = 0, **parameters: Any) -> str:
        answer = self.clients[key].post(JOBS, json={"name": workflow, "parameters": parameters})
        assert answer.status_code == 202, answer.text
        return answer.json()["jobId"]

    def job(self, job_id: str, key: int = 0) -> httpx.Response:
        return self.clients[key].get(f"{JOBS}/{job_id}")

    def close(self) -> None:
        for client in (self.control, *self.clients):
            client.close()


def hit(answer: httpx.Response) -> str:
    """Return the faults that hit an answer, according to its header."""
    return str(answer.headers.get("x-loadtest-fault-hit", ""))


def seconds(action: Callable[[], Any]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def ended(faulty: Faulty, job_id: str) -> httpx.Response:
    return until(lambda: (seen := faulty.job(job_id)).json()["status"] != "pending" and seen)


def exchange(faulty: Faulty) -> tuple[bytes, str]:
    """Send a run on a new connection. Return all received bytes, and how the connection ended."""
    received = b""
    with connect(faulty.served) as connection:
        connection.sendall(post({"name": "echo"}))
        try:
            while data := connection.recv(65536):
                received += data
        except ConnectionResetError:
            return received, "reset"
    return received, "closed"

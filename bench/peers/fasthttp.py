"""Locust's side of ``bench/whole_path.py``: FastHttpUsers that run a workflow and look at its result.

Each of them keeps ``BENCH_RATE`` runs a second, in the way that Locust's documentation has it.
"""

import os
from typing import Final

from locust import FastHttpUser, constant_throughput, task

HEADERS: Final = {"x-api-key": "local-dev-key", "x-wf-endpoint": "bench", "content-type": "application/json"}
BODY: Final = '{"name":"say-hello","parameters":{"name":"World"}}'


class Plain(FastHttpUser):
    """Sends the same runs as the harness's users."""

    wait_time = constant_throughput(float(os.environ["BENCH_RATE"]))

    @task
    def ask(self) -> None:
        """One run, and whether its answer is what it has to be."""
        with self.client.post(
            "/v1/workflows/run", data=BODY, headers=HEADERS, name="run", catch_response=True
        ) as answer:
            if not isinstance(answer.json()["result"], dict):
                answer.failure("wrong shape")

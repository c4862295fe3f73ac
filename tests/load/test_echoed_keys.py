"""A service that sends our own API key back, wherever a word of its own can stand: it is recorded nowhere."""

import itertools
import json
from collections.abc import Callable
from typing import Any

from plugins.peers import Talk

from loadtest.foreign_text import BLANK

KEY = "s3cret-Key-0123456789"
jobs = itertools.count(1)


def echoing(talk: Talk) -> None:
    """Puts the key into error codes, job ids and states, and into headers."""
    while request := talk.read():
        status, body = 500, {"error": KEY, "code": f"bad_{KEY}", "details": {"key": KEY}}
        if b" /v1/workflows/jobs " in request:
            status, body = 202, {"jobId": f"job-{next(jobs)}-{KEY}", "status": f"waiting_{KEY.lower()}"}
        elif b"/jobs/" in request:
            job = request.split(b"/jobs/")[1].split(b" ")[0].decode()
            status, body = 200, {"jobId": job, "status": "completed", "result": {"key": KEY}, "executionTime": 1.0}
        elif len(talk.peer.requests) % 2:
            status = 429
        content = json.dumps(body)
        talk.send(
            f"HTTP/1.1 {status} X\r\nretry-after: {KEY}\r\nx-ratelimit-key: {KEY}\r\n"
            f"content-length: {len(content)}\r\n\r\n{content}".encode()
        )


def test_an_echoed_key_is_blanked_on_any_worker(offer: Any, peer: Callable[..., Any]) -> None:
    """Samples, ids, logs and progress have none of it; polls still ask for the job by its whole id."""
    server = peer(echoing)
    text = offer.scenario(
        offer.entry("runs", "sync_run", "20/s", "1s"),
        offer.entry("jobs", "async_run", "20/s", "1s", 'polling = { interval = "20ms", give_up = "5s" }'),
    )
    text += "[breakers]\nserver_errors = false\n"
    run = offer(text, f"http://127.0.0.1:{server.port}", "--processes", "1", keys=KEY).wait()
    rows = run.rows
    assert {row["outcome"] for row in rows if row["traffic"] == "jobs"} == {"ok"}
    assert {row["error_code"] for row in rows if row["traffic"] == "runs"} == {f"bad_{BLANK}"}
    assert {row["rate_limit"] for row in rows if row["row"] == "request"} == {f"x-ratelimit-key: {BLANK}"}
    assert {row["job_state"] for row in rows if row["kind"] == "submit"} == {f"waiting_{BLANK}"}
    assert len({row["job_id"] for row in rows if row["kind"] == "poll"}) == 20
    files = [path for path in run.directory.rglob("*") if path.is_file()]
    assert {"samples.arrows", "job_ids.txt", "load.log", "run.json"} <= {path.name for path in files}
    assert not [path.name for path in files if KEY.lower().encode() in path.read_bytes().lower()]
    assert not [line for line in run.said if KEY.encode() in line]

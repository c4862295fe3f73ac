"""``/healthz`` and ``/metrics``, as Prometheus and load balancers see them."""

import asyncio
import json
import re
import signal
from typing import Any

import httpx
import pytest
from plugins.processes import until
from plugins.wire import RUN, connect, post, read_all
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

JOBS = "/v1/workflows/jobs"


def values(text: str, parse: Any = parse_plain) -> dict[tuple[str, ...], float]:
    """Every sample: its name and the values of its labels, in the order of their names -> its value."""
    found: dict[tuple[str, ...], float] = {}
    for family in parse(text):
        for sample in family.samples:
            key = (sample.name, *(value for _, value in sorted(sample.labels.items())))
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def scraped(served: Any) -> dict[tuple[str, ...], float]:
    """What a server shows to a scraper that has no key."""
    answer = served.client(key=None, endpoint=None).get("/metrics")
    assert answer.status_code == 200
    return values(answer.text)


def named(samples: dict[tuple[str, ...], float], name: str) -> dict[tuple[str, ...], float]:
    """The samples of one name that are not 0, by their labels."""
    return {key[1:]: value for key, value in samples.items() if key[0] == name and value}


def test_requests_and_decisions_are_those_that_were_sent(launch: Any) -> None:
    """Every answer is counted once, by the limit that it drew on and its status; every decision, by what it was."""
    served = launch("--limit", "sync_run=4/1h", "--limit", "retrieval=3/1h")
    client, stranger = served.client(), served.client(key="nobody's")
    runs = [{"name": "say-hello"}, {"name": "fail"}, {"name": "no-such"}, {}, {"name": "say-hello"}, {"name": "echo"}]
    assert [client.post(RUN, json=body).status_code for body in runs] == [200, 500, 404, 400, 429, 429]
    job = client.post(JOBS, json={"name": "say-hello"}).json()["jobId"]
    assert [client.get(f"{JOBS}/{job}").status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    assert [stranger.post(RUN, json={}).status_code for _ in range(3)] == [401, 401, 401]
    assert [client.get(path).status_code for path in ("/healthz", "/nowhere", RUN)] == [200, 404, 405]
    with connect(served) as connection:
        connection.sendall(b"\x00 is no HTTP\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
    scraped(served)  # is counted, too, when it was answered
    samples = scraped(served)
    assert named(samples, "workflow_requests_total") == {
        ("sync_run", "200"): 1,
        ("sync_run", "500"): 1,
        ("sync_run", "404"): 1,
        ("sync_run", "400"): 1,
        ("sync_run", "429"): 2,
        ("async_submit", "202"): 1,
        ("retrieval", "200"): 3,
        ("retrieval", "429"): 2,
        ("none", "200"): 2,
        ("none", "400"): 1,
        ("none", "401"): 3,
        ("none", "404"): 1,
        ("none", "405"): 1,
    }
    assert named(samples, "workflow_limiter_decisions_total") == {
        ("allowed", "sync_run"): 4,
        ("rejected", "sync_run"): 2,
        ("allowed", "async_submit"): 1,
        ("allowed", "retrieval"): 3,
        ("rejected", "retrieval"): 2,
    }


def test_requests_that_draw_on_no_limit_are_of_none(launch: Any) -> None:
    """Where only valid requests draw, the others count under no limit's name."""
    served = launch("--draws", "valid")
    client = served.client()
    assert [client.post(RUN, json=body).status_code for body in ({}, {"name": "echo"})] == [400, 200]
    samples = scraped(served)
    assert named(samples, "workflow_requests_total") == {("none", "400"): 1, ("sync_run", "200"): 1}
    assert named(samples, "workflow_limiter_decisions_total") == {("allowed", "sync_run"): 1}


def test_jobs_and_executions_are_those_that_were_submitted(launch: Any) -> None:
    """Queue, workers and kept jobs while some run; then every end by its state, and the time that all took."""
    served = launch("--workers", "2", "--queue", "3", "--threads", "5")
    client = served.client()
    ids = [client.post(JOBS, json={"name": "fail"}).json()["jobId"] for _ in range(3)]
    until(lambda: named(scraped(served), "workflow_jobs_finished_total") == {("failed",): 3})
    slow = {"name": "sleep", "parameters": {"ms": 700}}
    answers = [client.post(JOBS, json=slow) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [202] * 5 + [503]
    ids += [answer.json()["jobId"] for answer in answers[:5]]
    samples = scraped(served)
    assert named(samples, "workflow_jobs") == {("queued",): 3, ("running",): 2, ("failed",): 3}
    assert samples["workflow_jobs_accepted_total",] == 8
    gauges = ("queue_limit", "workers_busy", "workers_limit", "threads_busy", "threads_limit")
    assert [samples[f"workflow_{name}",] for name in gauges] == [3, 2, 2, 0, 5]
    until(lambda: named(scraped(served), "workflow_jobs_finished_total") == {("failed",): 3, ("completed",): 5})
    samples = scraped(served)
    assert named(samples, "workflow_jobs") == {("completed",): 5, ("failed",): 3}
    assert named(samples, "workflow_execution_seconds_count") == {("fail",): 3, ("sleep",): 5}
    times: dict[str, list[float]] = {}
    for job in ids:
        body = client.get(f"{JOBS}/{job}").json()
        times.setdefault("sleep" if body["status"] == "completed" else "fail", []).append(body["executionTime"] / 1000)
    for name, all_times in times.items():
        assert samples["workflow_execution_seconds_sum", name] == pytest.approx(sum(all_times))
        for bound in ("0.25", "2.5", "+Inf"):
            within = sum(seconds <= float(bound) for seconds in all_times)
            assert samples["workflow_execution_seconds_bucket", bound, name] == within


def test_plain_functions_show_as_busy_threads(launch: Any) -> None:
    """A sync run of one counts while it executes, and in the histogram once it has ended."""
    served = launch("--threads", "3")
    client = served.client()

    async def run() -> None:
        async with httpx.AsyncClient(base_url=served.url, headers=client.headers, timeout=30) as many:
            body = {"name": "cpu", "parameters": {"ms": 300}}
            runs = [asyncio.create_task(many.post(RUN, json=body)) for _ in range(2)]
            await asyncio.to_thread(until, lambda: scraped(served)["workflow_threads_busy",] == 2)
            assert [answer.status_code for answer in await asyncio.gather(*runs)] == [200, 200]

    asyncio.run(run())
    samples = scraped(served)
    assert samples["workflow_threads_busy",] == 0
    assert samples["workflow_execution_seconds_count", "cpu"] == 2


def test_clients_that_hang_up_are_counted(server: Any) -> None:
    """A run whose client left before its answer is abandoned, and no answer."""
    before = scraped(server)["workflow_requests_abandoned_total",]
    with connect(server) as connection:
        connection.sendall(post({"name": "sleep", "parameters": {"ms": 60_000}}))
        allowed = ("workflow_limiter_decisions_total", "allowed", "sync_run")
        until(lambda: scraped(server)[allowed])
    until(lambda: scraped(server)["workflow_requests_abandoned_total",] == before + 1)


def test_nobody_is_named(launch: Any) -> None:
    """No key, endpoint or job id, nor what a caller made up, is in any label."""
    served = launch(env={"WORKFLOW_API_KEYS": "s3cret-key", "WORKFLOW_ENDPOINT": "s3cret-place"})
    client = served.client(key="s3cret-key", endpoint="s3cret-place")
    jobs = [client.post(JOBS, json={"name": "say-hello"}).json()["jobId"] for _ in range(3)]
    for job in jobs:
        assert client.get(f"{JOBS}/{job}").status_code == 200
    assert client.post(RUN, json={"name": "made-up"}).status_code == 404
    assert client.request("GET", "/made-up?made-up").status_code == 404
    text = client.get("/metrics").text
    assert "workflow_jobs_accepted_total 3.0" in text
    assert not [word for word in ("s3cret", "made-up", *jobs) if word in text]


def test_the_format_is_the_one_that_is_asked_for(server: Any) -> None:
    """Prometheus's own, OpenMetrics, compressed or not; both parse and say the same; odd wishes get the plain one."""
    client = server.client()
    plain = client.get("/metrics", headers={"accept-encoding": "identity"})
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "content-encoding" not in plain.headers
    accept = {"accept": "application/openmetrics-text; version=1.0.0", "accept-encoding": "gzip"}
    other = client.get("/metrics", headers=accept)
    assert other.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert other.headers["content-encoding"] == "gzip"
    assert other.text.endswith("# EOF\n")
    moving = re.compile(r"workflow_requests_total|process_")
    told, retold = values(plain.text), values(other.text, parse_openmetrics)
    assert {k: v for k, v in told.items() if not moving.match(k[0])} == {
        k: v for k, v in retold.items() if not moving.match(k[0])
    }
    assert ("process_cpu_seconds_total",) in told
    assert told["process_resident_memory_bytes",] > 1e6
    for odd in ("application/openmetrics-text; version=one", b"\xff", ",;=,"):
        answer = client.get("/metrics", headers={"accept": odd})
        assert answer.headers["content-type"].startswith("text/plain")
        assert values(answer.text)
    assert set(values(client.get("/metrics?name[]=workflow_workers_limit").text)) == {("workflow_workers_limit",)}


def test_both_are_outside_of_limits_and_keys_and_only_got(launch: Any) -> None:
    """They answer whoever asks, when every limit is spent; other methods are refused as everywhere."""
    served = launch("--limit", "retrieval=1/1h", "--limit", "sync_run=1/1h", "--limit", "async_submit=1/1h")
    client = served.client()
    assert [client.get(f"{JOBS}/x").status_code for _ in range(2)] == [404, 429]
    for key in ("alpha", "wrong", None):
        for path in ("/healthz", "/metrics"):
            asked = served.client(key=key, endpoint=None)
            assert [asked.get(path).status_code for _ in range(3)] == [200, 200, 200]
            for method in ("HEAD", "POST", "OPTIONS"):
                refused = asked.request(method, path)
                assert (refused.status_code, refused.headers["allow"]) == (405, "GET")


def test_a_stopping_server_says_so(launch: Any) -> None:
    """Who asks after the signal, on a connection that is still open, gets 503 and that the server is stopping."""
    served = launch()
    with connect(served) as connection:
        connection.sendall(post({"name": "sleep", "parameters": {"ms": 1000}}))
        until(lambda: named(scraped(served), "workflow_limiter_decisions_total"))
        for client in served.clients:
            client.close()
        served.signal(signal.SIGTERM)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")  # waits for the run's answer
        answers = read_all(connection)
    run, health = answers.split(b"HTTP/1.1 ")[1:]
    assert run.startswith(b"200 ")
    assert health.startswith(b"503 ")
    assert json.loads(health.partition(b"\r\n\r\n")[2]) == {"status": "stopping"}

"""Plain ``locust --master`` and ``--worker``: Locust's own command lines, and the same workers under them."""

import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from plugins.launched import page_at
from plugins.processes import Fixture, free_ports, until
from plugins.records import runs_in
from plugins.verbs import CARRIED_OUT

TEXT = """
title = "Two workers"
seed = 1
drain = "3s"
[traffic.greetings]
operation = "sync_run"
workflow = "echo"
stages = [{ name = "only", rate = "40/s", duration = "%s" }]
"""


@pytest.fixture
def locusts(launch: Fixture, tmp_path: Path) -> Fixture:
    """Start a master with these arguments, and two workers of it."""

    def start(duration: str, *arguments: str) -> list[Any]:
        path = tmp_path / "two.toml"
        path.write_text(TEXT % duration)
        (port,) = map(str, free_ports(1))
        variables = {"LOADTEST_SCENARIO": str(path), "LOADTEST_OUTPUT_DIR": str(tmp_path / "out")}
        master = ("--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port)
        worker = ("--worker", "--master-host", "127.0.0.1", "--master-port", port)
        return [
            launch("locust", *master, *arguments, **variables),
            launch("locust", *worker, **variables),
            launch("locust", *worker, **variables),
        ]

    return start


@pytest.mark.heavy
def test_a_headless_master_has_the_record_of_its_workers(locusts: Fixture, open_api: Any, tmp_path: Path) -> None:
    """Every arrival once, both workers took part, Locust's own table counts the same, and everybody ends well."""
    master, *workers = locusts("2s", "--headless", "--expect-workers", "2", "--host", open_api.url)
    for each in (master, *workers):
        assert each.wait() in CARRIED_OUT, each.complained
        assert "Traceback" not in each.complained
    (run,) = runs_in(tmp_path / "out")
    assert run.check_conservation() == {"ok": 80}
    assert {row["worker"] for row in run.rows} == {1, 2}
    aggregated = [line.split() for line in master.complained.splitlines() if line.split()[:1] == ["Aggregated"]]
    assert any(line[1] == "80" for line in aggregated), master.complained


@pytest.mark.heavy
def test_the_web_ui_starts_and_stops_workers(locusts, open_api, *, tmp_path, free_port):
    """Each start is a run of its own on the same workers; Stop ends one early, with a whole record.

    A worker that is interrupted twice ends at once; what it was about to send is lost.
    """
    page = f"http://127.0.0.1:{free_port}"
    master, _, hurried = locusts(
        "300s", "--web-host", "127.0.0.1", "--web-port", str(free_port), "--host", open_api.url
    )
    runs: list[Any] = []
    with httpx.Client(base_url=page, trust_env=False, timeout=30) as client:
        until(lambda: "reported as ready. 2 workers" in master.complained and page_at(page))
        for number in (1, 2):
            until(lambda: client.get("/stats/requests").json()["state"] in {"ready", "stopped"})
            until(lambda: client.post("/swarm", data={"host": open_api.url}).json()["success"])
            until(lambda number=number: len(runs_in(tmp_path / "out")) == number)
            run = runs_in(tmp_path / "out")[-1]
            until(lambda run=run: run.epoch and {row["worker"] for row in run.rows} == {1, 2})
            if number == 2:
                hurried.process.send_signal(signal.SIGINT)
                hurried.process.send_signal(signal.SIGTERM)
                assert hurried.wait() == 130
            client.post("/stop")
            until(lambda run=run: run.info.complete)
            runs.append(run)
    for run in runs:
        outcomes = run.check_conservation(lost=run is runs[1], ragged=True)
        assert 0 < outcomes["ok"] < 12_000
        assert run.info.end == "interrupted"
    assert "Traceback" not in master.complained

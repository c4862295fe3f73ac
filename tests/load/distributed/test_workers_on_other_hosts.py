"""Workers on hosts of their own, for real: network namespaces, each at the end of a cable that can be cut."""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from plugins.leash_parts import write_entry, write_scenario
from plugins.namespaces import OUTSIDE, Cable, Host
from plugins.processes import PATIENCE, clean_environment, until
from plugins.records import runs_in
from plugins.stubs import pending_forever

Start = Callable[..., "subprocess.Popen[str]"]
RATE = 40


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start ``loadtest`` on a host, with its output in a file; what still runs at the end is ended."""
    started: list[subprocess.Popen[str]] = []

    def run(host: Host, *arguments: str) -> "subprocess.Popen[str]":
        with (tmp_path / f"out{len(started)}").open("w") as out:
            command = host.command(sys.executable, "-m", "loadtest.cli", *arguments)
            environment = clean_environment(WORKFLOW_API_KEYS="local-dev-key")
            started.append(
                subprocess.Popen(
                    command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, text=True
                )
            )
        return started[-1]

    yield run
    for process in started:
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
            child.kill()
        process.kill()
        process.wait()


def at(row: dict[str, Any]) -> float:
    """Intended start of an arrival, in s since the epoch."""
    return float(row["intended_start"]) / 1e9


def sent_by_both(run: Any, since_s: float) -> int:
    """How many arrivals since then each worker has carried out, at least."""
    by_worker = Counter(row["worker"] for row in run.operations if at(row) >= since_s)
    return min(by_worker[1], by_worker[2])


@pytest.mark.heavy
def test_a_host_whose_cable_is_cut_comes_back(network, stub, start, *, tmp_path, free_port):
    """The other one makes all of the load within 5 s, the run is invalid, and mended, both share it again."""
    hosts = [network.host(), network.host()]
    cables: list[Cable] = [network.cable(OUTSIDE, host) for host in hosts]
    here = cables[0].near_address
    cables[1].lead_to(here)
    # Where the kernel can, the other worker is 30 ms away, too.
    cables[1].delay(30)
    server = stub(pending_forever, here)
    write_scenario(tmp_path, operation="sync_run", rate=f"{RATE}/s", seconds=60, more='timeout = "1s"')
    write_entry(tmp_path, server.url, 'max_share = 1\nlimits = { sync_run = "100000/60s" }')
    bind = f"{here}:{free_port}"
    command = (
        "run",
        "s.toml",
        "--target",
        "here",
        "--no-preflight",
        "--master",
        "--bind",
        bind,
        "--expect-workers",
        "2",
    )
    master = start(OUTSIDE, *command)
    workers = [start(host, "worker", "--master", bind, "--scenario-dir", ".") for host in hosts]
    (run,) = until(lambda: runs_in(tmp_path / "reports"))
    until(lambda: run.epoch and sent_by_both(run, 0) >= 15)
    epoch_s = (run.epoch or 0) / 1e9
    cut_s = time.time() - epoch_s
    cables[1].cut()
    until(lambda: "is lost" in (run.directory / "load.log").read_text())
    cables[1].mend()
    mended_s = time.time() - epoch_s
    until(lambda: sent_by_both(run, mended_s + 0.5) >= 5)
    master.send_signal(signal.SIGINT)
    assert [process.wait(PATIENCE) for process in (master, *workers)] == [130, 0, 0]
    said = (tmp_path / "out0").read_text()
    assert "had no outcome" in said
    assert "invalid" in said

    outcomes = run.check_conservation(lost=True, ragged=True)
    rows = sorted(run.operations, key=at)
    # What was sent into the cut cable has timed out; what was due later, until others took it over, is lost.
    assert outcomes.keys() == {"ok", "timed_out", "lost"}
    (gone,) = {row["worker"] for row in rows if row["outcome"] == "lost"}
    assert all(cut_s - 1 < at(row) for row in rows if row["outcome"] != "ok" and row["worker"] == gone)
    assert all(at(row) < run.info.assignments[1].from_s for row in rows if row["outcome"] == "lost")
    # Nothing is missing, up to where everybody was told to stop.
    whole = int((run.info.elapsed_s or 0) * RATE) - RATE
    assert [row["intended_start"] for row in rows[:whole]] == [round(k * 1e9 / RATE) for k in range(whole)]
    assert [len(each.workers) for each in run.info.assignments] == [2, 1, 2]
    assert [each.end for each in run.info.worker_processes] == ["stayed", "stayed"]
    arrivals = Counter(headers["traceparent"].split("-")[1] for *_, headers in server.asked)
    assert set(arrivals.values()) == {1}, "the server saw nothing twice"

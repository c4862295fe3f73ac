"""Jobs on disk over HTTP: what a client was told holds after the server was killed or stopped."""

import importlib.util
import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

JOBS = "/v1/workflows/jobs"
BENCH = Path(__file__).parents[2] / "bench" / "durability.py"


def load_bench() -> Any:
    spec = importlib.util.spec_from_file_location("durability", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["durability"] = module
    spec.loader.exec_module(module)
    return module


def submit(client: Any, name: str, **parameters: Any) -> str:
    response = client.post(JOBS, json={"name": name, "parameters": parameters})
    assert response.status_code == 202, response.text
    job: str = response.json()["jobId"]
    return job


def ended(client: Any, job: str, until: Any) -> bytes:
    answer: bytes = until(lambda: (body := client.get(f"{JOBS}/{job}").content) and b'"pending"' not in body and body)
    return answer


def files(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir())


def test_no_accepted_job_is_lost_or_changed_by_kills(tmp_path: Path) -> None:
    """Killed at random moments under load, the server brings each accepted job to one end, which never changes."""
    tally = load_bench().prove(tmp_path, jobs=2000, kills=4, seed=8)
    assert (tally.lost, tally.wrong, tally.changed) == (0, 0, 0), tally
    assert tally.ended == tally.accepted >= 2000
    assert tally.seen > 0
    assert tally.accepted <= tally.executions <= 2 * tally.accepted


def test_a_stopped_server_takes_its_jobs_up_again(launch: Any, tmp_path: Path, until: Any) -> None:
    """After SIGTERM ends are the same bytes, and what ran or waited is executed; each key still sees its own only."""
    first = launch("--data", str(tmp_path), "--workers", "2", "--queue", "5")
    client = first.client()
    answers = {
        job: ended(client, job, until)
        for job in (submit(client, "echo", text="é\u0000"), submit(client, "fail", message="no luck"))
    }
    long = [submit(client, "sleep", ms=1500) for _ in range(2)]
    waiting = submit(client, "echo", waited=True)
    assert first.stop()[0] == 0
    second = launch("--data", str(tmp_path))
    client, other = second.client(), second.client(key="beta")
    assert {job: client.get(f"{JOBS}/{job}").content for job in answers} == answers
    assert json.loads(ended(client, waiting, until))["result"] == {"waited": True}
    assert [json.loads(ended(client, job, until))["status"] for job in long] == ["completed"] * 2
    assert {other.get(f"{JOBS}/{job}").status_code for job in (*answers, *long, waiting)} == {404}


def test_no_key_is_on_disk(launch: Any, tmp_path: Path, until: Any) -> None:
    """A job's owner is there as a keyed hash; a key that is no longer accepted has its jobs back when it is again."""
    key = "sk-very-secret-0123456789"
    first = launch("--data", str(tmp_path), env={"WORKFLOW_API_KEYS": key})
    job = submit(first.client(key=key), "echo", kept=1)
    ended(first.client(key=key), job, until)
    assert b"echo" in files(tmp_path)
    assert key.encode() not in files(tmp_path)
    first.stop()
    assert key.encode() not in files(tmp_path)
    without = launch("--data", str(tmp_path))
    assert without.client().get(f"{JOBS}/{job}").status_code == 404
    without.stop()
    again = launch("--data", str(tmp_path), env={"WORKFLOW_API_KEYS": key})
    assert again.client(key=key).get(f"{JOBS}/{job}").json()["result"] == {"kept": 1}


def test_a_directory_has_one_server(launch: Any, tmp_path: Path) -> None:
    """A second server is refused with exit 2 and says why, without a traceback; the first goes on."""
    first = launch("--data", str(tmp_path))
    command = [sys.executable, "-m", "loadtest.cli", "serve", "--port", "0", "--data", str(tmp_path)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert f"{tmp_path / 'jobs.sqlite3'} is in use" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert submit(first.client(), "say-hello")


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of another process's files")
def test_a_full_disk_refuses_submits_and_loses_nothing(launch: Any, tmp_path: Path, until: Any) -> None:
    """Submits get 500 `internal` while nothing can be written; what runs meanwhile ends when there is room again."""
    server = launch("--data", str(tmp_path))
    client = server.client()
    before, running = submit(client, "echo", i=1), submit(client, "sleep", ms=100)
    known = ended(client, before, until)
    unlimited = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    size = (tmp_path / "jobs.sqlite3-wal").stat().st_size
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, unlimited[1]))
    refused = client.post(JOBS, json={"name": "say-hello"})
    assert (refused.status_code, refused.json()["code"]) == (500, "internal")
    server.errors.seek(0)
    assert "cannot be written" in until(server.errors.read)
    assert client.get(f"{JOBS}/{before}").content == known
    assert client.get("/healthz").status_code == 503
    until(lambda: client.get(f"{JOBS}/{running}").json()["executionTime"] > 500)
    assert client.get(f"{JOBS}/{running}").json()["status"] == "pending"
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)
    answer = ended(client, running, until)
    assert json.loads(answer)["status"] == "completed"
    assert submit(client, "say-hello")
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, unlimited[1]))
    until(lambda: client.post(JOBS, json={"name": "say-hello"}).status_code == 500)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)
    until(lambda: client.get("/healthz").status_code == 200)  # though nothing else asks for the disk
    server.stop(signal.SIGTERM)
    again = launch("--data", str(tmp_path)).client()
    assert [again.get(f"{JOBS}/{job}").content for job in (before, running)] == [known, answer]

"""Whom a fault hits, and when: keys, probabilities, times, several at once, and the end of a server that has some."""

import signal
import socket
import time
from typing import Any

import httpx
import pytest
from plugins.faulty_server import JOBS, RUN, Faulty, hit
from plugins.processes import until
from plugins.served import NO_LIMITS


def test_starved_runs_wait_for_the_other_key(faulty: Faulty) -> None:
    """A run of the starved key is answered only when the other key's job has ended; the other way round it isn't."""
    faulty.set("starve,key=1,by=0")
    job_id = faulty.submit("sleep", ms=400)
    answer = faulty.run(key=1, n=1)
    assert hit(answer) == "starve"
    assert faulty.job(job_id).json()["status"] == "completed"
    assert answer.json()["executionTime"] < 400
    faulty.submit("sleep", key=1, ms=100)
    assert hit(faulty.run(n=1)) == ""


def test_starved_jobs_wait_for_the_other_key(faulty: Faulty) -> None:
    """A job of the starved key, though submitted first, and with a worker free, starts after the other key's."""
    faulty.set("starve,key=1,by=0")
    other = faulty.submit("sleep", ms=300)
    starved = faulty.submit("echo", key=1, n=1)
    until(lambda: faulty.job(starved, key=1).json()["status"] == "completed")
    assert faulty.job(other).json()["status"] == "completed"


def test_what_was_starved_goes_on_when_the_fault_is_removed(faulty: Faulty) -> None:
    """Nothing else has to happen for it."""
    faulty.set("starve,key=1,by=0")
    faulty.submit("sleep", ms=1500)
    starved = faulty.submit("echo", key=1, n=1)
    assert faulty.job(starved, key=1).json()["status"] == "pending"
    faulty.set()
    until(lambda: faulty.job(starved, key=1).json()["status"] == "completed")
    assert faulty.control.get("/jobs").json()["running"] == 1


def test_probability_is_kept_and_drawn_alike_for_the_same_seed(launch: Any) -> None:
    """Of 200 requests about half are hit (within 4.5 sd), and two servers with one seed hit the same ones."""
    patterns = []
    for _ in range(2):
        served = launch("--fault", "latency,ms=0,probability=50%", "--fault-seed", "42", *NO_LIMITS)
        headers = {"x-api-key": "alpha", "x-wf-endpoint": "e"}
        with httpx.Client(base_url=served.url, headers=headers, trust_env=False) as client:
            patterns.append([hit(client.get(f"{JOBS}/nobody")) for _ in range(200)])
    assert patterns[0] == patterns[1]
    assert abs(patterns[0].count("latency") - 100) <= 32


def test_a_fault_has_its_time(faulty: Faulty) -> None:
    """Before its start and after its duration nothing is hit; in between everything is."""
    began = time.monotonic()
    faulty.set("latency,ms=0,start=300ms,duration=1s")
    until(lambda: hit(faulty.run(n=1)) == "latency")
    assert time.monotonic() - began >= 0.3
    until(lambda: hit(faulty.run(n=1)) == "")
    assert time.monotonic() - began >= 1.3


def test_a_fault_of_one_key_spares_the_others(faulty: Faulty) -> None:
    """Keys are told apart by their place in the server's list."""
    faulty.set("error,key=1")
    assert faulty.run(n=1).status_code == 200
    assert faulty.run(key=1, n=1).status_code == 500


def test_every_answer_names_the_faults(faulty: Faulty) -> None:
    """Also those that no fault concerns: errors, health, and bytes that aren't HTTP."""
    faulty.set("latency,ms=1,start=1h", "never-finish,start=1h", "latency,ms=2,start=2h")
    names = "latency,never-finish"
    assert faulty.run(n=1).headers["x-loadtest-faults"] == names
    assert faulty.clients[0].get("/healthz").headers["x-loadtest-faults"] == names
    assert faulty.clients[0].get("/nowhere").headers["x-loadtest-faults"] == names
    assert httpx.post(faulty.served.url + RUN, trust_env=False).headers["x-loadtest-faults"] == names
    with socket.create_connection(faulty.served.address, timeout=30) as connection:
        connection.sendall(b"garbage\r\n\r\n")
        assert f"x-loadtest-faults: {names}\r\n".encode() in connection.recv(65536)


def test_no_fault_concerns_who_has_no_key(faulty: Faulty) -> None:
    """A request without a valid key, and one without a route, are answered as ever."""
    faulty.set("error")
    assert httpx.post(faulty.served.url + RUN, trust_env=False).status_code == 401
    assert faulty.clients[0].get("/nowhere").status_code == 404
    assert faulty.clients[0].get("/healthz").status_code == 200


def test_several_faults_hit_one_request(faulty: Faulty) -> None:
    """They add up, and the answer names each."""
    faulty.set("latency,ms=100", "latency,ms=50", "wrong-result", "garbage,probability=0")
    answer = faulty.run(n=1)
    assert answer.elapsed.total_seconds() >= 0.15
    assert answer.json()["result"] == {"n": 2}
    assert hit(answer) == "latency,wrong-result"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_frozen_server_can_be_stopped(launch: Any, number: int) -> None:
    """It is frozen for ever, and ends cleanly at a signal all the same."""
    served = launch("--fault", "freeze,start=100ms")

    def frozen() -> bool:
        with socket.create_connection(served.address, timeout=0.5) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            try:
                return not connection.recv(1)
            except TimeoutError:
                return True

    until(frozen)
    code, _, errors = served.stop(number)
    assert (code, errors) == (0, "")

"""Faults as an ordinary client meets them: each is absent before it is set, and there while it is."""

import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from loadtest.faults import parse
from loadtest.target.faults.armed import arm

RUN, JOBS = "/v1/workflows/run", "/v1/workflows/jobs"
HUGE = "1000000000/s"
Until = Callable[..., Any]


class Faulty:
    """A server, its control endpoint, and what tests ask of both."""

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
        """Let these faults be the only ones."""
        self.control.delete("/faults").raise_for_status()
        if texts:
            answer = self.control.post("/faults", content="\n".join(texts))
            assert answer.status_code == 201, answer.text

    def run(self, workflow: str = "echo", key: int = 0, **parameters: Any) -> httpx.Response:
        return self.clients[key].post(RUN, json={"name": workflow, "parameters": parameters})

    def submit(self, workflow: str = "echo", key: int = 0, **parameters: Any) -> str:
        answer = self.clients[key].post(JOBS, json={"name": workflow, "parameters": parameters})
        assert answer.status_code == 202, answer.text
        job_id: str = answer.json()["jobId"]
        return job_id

    def job(self, job_id: str, key: int = 0) -> httpx.Response:
        return self.clients[key].get(f"{JOBS}/{job_id}")

    def close(self) -> None:
        for client in (self.control, *self.clients):
            client.close()


@pytest.fixture(scope="module")
def one_faulty(launch: Any) -> Iterator[Faulty]:
    limits = [part for name in ("sync_run", "async_submit", "retrieval") for part in ("--limit", f"{name}={HUGE}")]
    faulty = Faulty(launch("--control-port", "0", "--workers", "2", *limits))
    yield faulty
    faulty.set()
    faulty.close()


@pytest.fixture
def faulty(one_faulty: Faulty) -> Faulty:
    """The server without a fault, seen to work."""
    one_faulty.set()
    answer = one_faulty.run(n=1)
    assert answer.json()["result"] == {"n": 1}
    assert not [name for name in answer.headers if name.startswith("x-loadtest")]
    return one_faulty


def hit(answer: httpx.Response) -> str:
    """What the answer says that has hit it."""
    return str(answer.headers.get("x-loadtest-fault-hit", ""))


def seconds(action: Callable[[], Any]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def ended(faulty: Faulty, job_id: str, until: Until) -> httpx.Response:
    answer: httpx.Response = until(lambda: (seen := faulty.job(job_id)).json()["status"] != "pending" and seen)
    return answer


def exchange(faulty: Faulty) -> tuple[bytes, str]:
    """Run on a connection of its own; gives every byte that came, and how the connection ended."""
    body = b'{"name":"echo"}'
    head = b"POST %s HTTP/1.1\r\nhost: x\r\nx-api-key: alpha\r\nx-wf-endpoint: e\r\ncontent-length: %d\r\n\r\n"
    received = b""
    with socket.create_connection(faulty.served.address, timeout=30) as connection:
        connection.sendall(head % (RUN.encode(), len(body)) + body)
        try:
            while data := connection.recv(65536):
                received += data
        except ConnectionResetError:
            return received, "reset"
    return received, "closed"


def test_latency_comes_before_the_answer_and_not_into_execution_time(faulty: Faulty) -> None:
    """A request with latency takes at least so long, and its executionTime knows nothing of it."""
    faulty.set("latency,ms=200,on=sync_run")
    began = time.monotonic()
    answer = faulty.run(n=2)
    assert time.monotonic() - began >= 0.2
    assert answer.json()["result"] == {"n": 2}
    assert answer.json()["executionTime"] < 200
    assert hit(answer) == "latency"
    assert hit(faulty.job("nobody")) == ""


def test_lognormal_latency_varies_and_is_the_same_for_the_same_seed(faulty: Faulty) -> None:
    """Draws of one fault differ; its median is what was asked for."""
    fault = parse("latency,ms=100,shape=lognormal,sigma=1")
    first, second = (arm(1, fault, 0.0, seed=7) for _ in range(2))
    waits = [first.strike(1.0) for _ in range(999)]
    assert waits == [second.strike(1.0) for _ in range(999)]
    assert sorted(wait or 0 for wait in waits)[499] == pytest.approx(0.1, rel=0.15)
    faulty.set("latency,ms=1,shape=lognormal")
    assert hit(faulty.run(n=1)) == "latency"


def test_ramp_grows_over_the_duration() -> None:
    """Latency rises in a straight line from nothing to all, and then is over."""
    armed = arm(1, parse("latency,ms=200,shape=ramp,start=10s,duration=20s"), 100.0, seed=1)
    assert armed.strike(109.9) is None
    assert armed.strike(115.0) == pytest.approx(0.05)
    assert armed.strike(129.0) == pytest.approx(0.19)
    assert armed.strike(130.0) is None


@pytest.mark.parametrize("keys", ["ms=100", "factor=6"])
def test_slow_execution_is_in_execution_time(faulty: Faulty, until: Until, keys: str) -> None:
    """Runs and jobs execute longer, and say so."""
    faulty.set(f"slow-execution,{keys}")
    run = faulty.run("sleep", ms=20)
    assert run.json()["executionTime"] >= 119
    assert run.elapsed.total_seconds() >= 0.119
    job_id = faulty.submit("sleep", ms=20)
    job = ended(faulty, job_id, until)
    assert job.json()["executionTime"] >= 119
    assert hit(run) == hit(job) == "slow-execution"


def test_freeze_stops_everything_and_ends(faulty: Faulty, until: Until) -> None:
    """Who asks while the server is frozen, be it API or control, is answered when that is over, not before."""
    began = time.monotonic()
    faulty.set("freeze,start=300ms,duration=700ms")
    # It counts itself when it begins, and it is over before anybody can be told so.
    until(lambda: faulty.run(n=1) and faulty.control.get("/faults").json()[0]["hits"] == 1)
    assert time.monotonic() - began >= 1.0
    assert faulty.run(n=1).status_code == 200
    assert faulty.control.get("/faults").json()[0]["active"] is False


def test_freeze_at_a_request_holds_the_others_up(faulty: Faulty) -> None:
    """With ms, a request that is hit stops the server for so long, for everybody."""
    faulty.set("freeze,ms=300,on=sync_run")
    assert seconds(lambda: faulty.run(n=1)) >= 0.3
    assert faulty.control.get("/faults").json()[0]["hits"] == 1
    assert hit(faulty.job("nobody")) == ""


@pytest.mark.parametrize("status", [500, 503])
def test_error_is_documented_and_nothing_was_executed(faulty: Faulty, status: int) -> None:
    """The answer has the documented body; a submit that was hit has made no job."""
    before = faulty.control.get("/jobs").json()
    faulty.set(f"error,status={status}")
    answer = faulty.clients[0].post(JOBS, json={"name": "echo"})
    assert answer.status_code == status
    assert answer.json() == {"error": "Internal error", "code": "internal", "details": {}}
    assert hit(answer) == "error"
    assert faulty.control.get("/jobs").json() == before


def test_reset_before_execution(faulty: Faulty) -> None:
    """The connection ends with RST, and not a byte was answered."""
    faulty.set("reset")
    assert exchange(faulty) == (b"", "reset")


def test_reset_in_the_middle(faulty: Faulty) -> None:
    """The head and a part of the body came before the RST."""
    faulty.set("reset,when=middle")
    received, end = exchange(faulty)
    assert end == "reset"
    head, _, body = received.partition(b"\r\n\r\n")
    assert 0 < len(body) < int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index] # else None[1] fails


def test_truncated_body(faulty: Faulty) -> None:
    """Content-Length promises more than comes before the connection is closed in order."""
    faulty.set("truncate")
    received, end = exchange(faulty)
    assert end == "closed"
    head, _, body = received.partition(b"\r\n\r\n")
    assert 0 < len(body) < int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index] # else None[1] fails


def test_garbage_in_the_body(faulty: Faulty) -> None:
    """The answer is well framed, and its body neither text nor JSON; the connection lives on."""
    faulty.set("garbage,probability=1")
    answer = faulty.run(n=1)
    assert answer.status_code == 200
    with pytest.raises(ValueError):
        answer.json()
    faulty.set()
    assert faulty.run(n=1).json()["result"] == {"n": 1}


def test_garbage_for_an_answer(faulty: Faulty) -> None:
    """What comes is no HTTP at all."""
    faulty.set("garbage,what=answer")
    received, end = exchange(faulty)
    assert end == "closed"
    assert received
    assert not received.startswith(b"HTTP/")


def test_jobs_never_finish_and_hold_no_worker(faulty: Faulty, until: Until) -> None:
    """More such jobs than there are workers stay pending, and another job ends all the same."""
    faulty.set("never-finish,key=0")
    stuck = [faulty.submit(n=n) for n in range(5)]
    other = faulty.submit(key=1, n=6)
    until(lambda: faulty.job(other, key=1).json()["status"] == "completed")
    answers = [faulty.job(each) for each in stuck]
    assert {answer.json()["status"] for answer in answers} == {"pending"}
    assert {hit(answer) for answer in answers} == {"never-finish"}


def test_wrong_results_keep_their_shape(faulty: Faulty, until: Until) -> None:
    """Runs and jobs give other values under the same keys; a job always the same ones."""
    faulty.set("wrong-result")
    wrong = {"n": 2, "s": "not x", "flag": False, "list": [2]}
    parameters = {"n": 1, "s": "x", "flag": True, "list": [1]}
    assert faulty.run(**parameters).json()["result"] == wrong
    assert faulty.run("say-hello", name="Ada").json()["result"] == {"greeting": "not Hello, Ada!"}
    job_id = faulty.submit(**parameters)
    assert ended(faulty, job_id, until).json()["result"] == wrong
    faulty.set()
    assert faulty.job(job_id).json()["result"] == wrong


def test_results_of_the_one_before(faulty: Faulty, until: Until) -> None:
    """A run and a job are answered with what the one before of the same key gave."""
    faulty.run(n=1)
    faulty.run(key=1, n=7)
    faulty.set("duplicate-result")
    assert faulty.run(n=2).json()["result"] == {"n": 1}
    job_id = faulty.submit(n=3)
    assert ended(faulty, job_id, until).json()["result"] == {"n": 2}
    assert faulty.run(key=1, n=8).json()["result"] == {"n": 7}


def test_ids_of_the_job_before(faulty: Faulty, until: Until) -> None:
    """Two submits of one key are answered with the same id, of which there is one job; another key keeps its own."""
    faulty.set("duplicate-result,what=id")
    first, second, other = faulty.submit(n=1), faulty.submit(n=2), faulty.submit(key=1, n=3)
    assert first == second != other
    assert ended(faulty, second, until).json()["result"] == {"n": 1}


@pytest.mark.parametrize(
    ("keys", "least", "most"),
    [
        ("factor=10", 200, 20_000),
        ("ms=500", 520, 20_000),
        ("value=above", 600_020, 620_000),
        ("value=negative", -20_000, -21),
        ("value=missing", None, None),
    ],
)
def test_false_execution_time(faulty: Faulty, until: Until, keys: str, least: float | None, most: float | None) -> None:
    """The executionTime of runs and jobs is what it is said to be, and not the 20 ms that they took."""
    faulty.set(f"false-execution-time,{keys}")
    run = faulty.run("sleep", ms=20)
    job = ended(faulty, faulty.submit("sleep", ms=20), until)
    assert hit(run) == hit(job) == "false-execution-time"
    for answer in (run.json(), job.json()):
        if least is None or most is None:
            assert "executionTime" not in answer
        else:
            assert least <= answer["executionTime"] <= most


def test_jobs_that_ended_are_pending_again(faulty: Faulty, until: Until) -> None:
    """Only after a retrieval has shown the end of a job does another show it pending."""
    faulty.set("back-to-pending")
    job_id = faulty.submit(n=1)
    until(lambda: faulty.job(job_id).json()["status"] == "completed")
    again = faulty.job(job_id)
    assert again.json()["status"] == "pending"
    assert "result" not in again.json()
    assert hit(again) == "back-to-pending"
    faulty.set()
    assert faulty.job(job_id).json()["status"] == "completed"


def test_429_without_reason(faulty: Faulty) -> None:
    """A request far within its limit is answered as if it were beyond it."""
    faulty.set("throttle,on=sync_run")
    answer = faulty.run(n=1)
    assert answer.status_code == 429
    assert answer.json()["code"] == "rate_limit_exceeded"
    assert faulty.submit(n=1)


def test_cold_start_after_silence(faulty: Faulty) -> None:
    """The first request after the silence waits for the whole start, the next one doesn't."""
    faulty.set("cold-start,ms=300,idle=400ms")
    assert seconds(lambda: faulty.run(n=1)) >= 0.3
    assert hit(faulty.run(n=2)) == ""
    time.sleep(0.5)  # the silence itself, which is what is tested
    answer = faulty.run(n=3)
    assert hit(answer) == "cold-start"
    assert answer.elapsed.total_seconds() >= 0.3


def test_requests_that_come_while_it_starts_wait_for_the_rest() -> None:
    """A start is shared by all that come during it; none of them begins another one."""
    armed = arm(1, parse("cold-start,ms=300,idle=1s"), 0.0, seed=1)
    waits = [armed.strike(at) for at in (10.0, 10.1, 10.2, 10.4, 11.3, 12.4)]
    assert waits == [pytest.approx(0.3), pytest.approx(0.2), pytest.approx(0.1), None, None, pytest.approx(0.3)]


def test_starved_runs_wait_for_the_other_key(faulty: Faulty, until: Until) -> None:
    """A run of the starved key is answered only when the other key's job has ended; the other way round it isn't."""
    faulty.set("starve,key=1,by=0")
    job_id = faulty.submit("sleep", ms=400)
    answer = faulty.run(key=1, n=1)
    assert hit(answer) == "starve"
    assert faulty.job(job_id).json()["status"] == "completed"
    assert answer.json()["executionTime"] < 400
    faulty.submit("sleep", key=1, ms=100)
    assert hit(faulty.run(n=1)) == ""


def test_starved_jobs_wait_for_the_other_key(faulty: Faulty, until: Until) -> None:
    """A job of the starved key, though submitted first, and with a worker free, starts after the other key's."""
    faulty.set("starve,key=1,by=0")
    other = faulty.submit("sleep", ms=300)
    starved = faulty.submit("echo", key=1, n=1)
    until(lambda: faulty.job(starved, key=1).json()["status"] == "completed")
    assert faulty.job(other).json()["status"] == "completed"


def test_what_was_starved_goes_on_when_the_fault_is_removed(faulty: Faulty, until: Until) -> None:
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
        served = launch("--fault", "latency,ms=0,probability=50%", "--fault-seed", "42", "--limit", f"retrieval={HUGE}")
        headers = {"x-api-key": "alpha", "x-wf-endpoint": "e"}
        with httpx.Client(base_url=served.url, headers=headers, trust_env=False) as client:
            patterns.append([hit(client.get(f"{JOBS}/nobody")) for _ in range(200)])
    assert patterns[0] == patterns[1]
    assert abs(patterns[0].count("latency") - 100) <= 32


def test_a_fault_has_its_time(faulty: Faulty, until: Until) -> None:
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
def test_a_frozen_server_can_be_stopped(launch: Any, until: Until, number: int) -> None:
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

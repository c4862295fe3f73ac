"""Faults as an ordinary client meets them: each is absent before it is set, and there while it is."""

import re
import time

import pytest
from plugins.faulty_server import JOBS, Faulty, ended, exchange, hit, seconds
from plugins.processes import until

from loadtest.faults import parse
from loadtest.reference_api.faults import ActiveFault


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
    first, second = (ActiveFault(1, fault, 0.0, seed=7) for _ in range(2))
    waits = [first.strike(1.0) for _ in range(999)]
    assert waits == [second.strike(1.0) for _ in range(999)]
    assert sorted(wait or 0 for wait in waits)[499] == pytest.approx(0.1, rel=0.15)
    faulty.set("latency,ms=1,shape=lognormal")
    assert hit(faulty.run(n=1)) == "latency"


def test_ramp_grows_over_the_duration() -> None:
    """Latency rises in a straight line from nothing to all, and then is over."""
    fault = ActiveFault(1, parse("latency,ms=200,shape=ramp,start=10s,duration=20s"), 100.0, seed=1)
    assert fault.strike(109.9) is None
    assert fault.strike(115.0) == pytest.approx(0.05)
    assert fault.strike(129.0) == pytest.approx(0.19)
    assert fault.strike(130.0) is None


@pytest.mark.parametrize("keys", ["ms=100", "factor=6"])
def test_slow_execution_is_in_execution_time(faulty: Faulty, keys: str) -> None:
    """Runs and jobs execute longer, and say so."""
    faulty.set(f"slow-execution,{keys}")
    run = faulty.run("sleep", ms=20)
    assert run.json()["executionTime"] >= 119
    assert run.elapsed.total_seconds() >= 0.119
    job_id = faulty.submit("sleep", ms=20)
    job = ended(faulty, job_id)
    assert job.json()["executionTime"] >= 119
    assert hit(run) == hit(job) == "slow-execution"


def test_freeze_stops_everything_and_ends(faulty: Faulty) -> None:
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


@pytest.mark.parametrize(("fault", "ends"), [("reset,when=middle", "reset"), ("truncate", "closed")])
def test_a_body_that_is_cut_off(faulty: Faulty, fault: str, ends: str) -> None:
    """The head and a part of the body come, less than Content-Length promises; then RST, or an end in order."""
    faulty.set(fault)
    received, end = exchange(faulty)
    assert end == ends
    head, _, body = received.partition(b"\r\n\r\n")
    assert 0 < len(body) < int(re.search(rb"content-length: (\d+)", head)[1])


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


def test_jobs_never_finish_and_hold_no_worker(faulty: Faulty) -> None:
    """More such jobs than there are workers stay pending, and another job ends all the same."""
    faulty.set("never-finish,key=0")
    stuck = [faulty.submit(n=n) for n in range(5)]
    other = faulty.submit(key=1, n=6)
    until(lambda: faulty.job(other, key=1).json()["status"] == "completed")
    answers = [faulty.job(each) for each in stuck]
    assert {answer.json()["status"] for answer in answers} == {"pending"}
    assert {hit(answer) for answer in answers} == {"never-finish"}


def test_wrong_results_keep_their_shape(faulty: Faulty) -> None:
    """Runs and jobs give other values under the same keys; a job always the same ones."""
    faulty.set("wrong-result")
    wrong = {"n": 2, "s": "not x", "flag": False, "list": [2]}
    parameters = {"n": 1, "s": "x", "flag": True, "list": [1]}
    assert faulty.run(**parameters).json()["result"] == wrong
    assert faulty.run("say-hello", name="Ada").json()["result"] == {"greeting": "not Hello, Ada!"}
    job_id = faulty.submit(**parameters)
    assert ended(faulty, job_id).json()["result"] == wrong
    faulty.set()
    assert faulty.job(job_id).json()["result"] == wrong


def test_results_of_the_one_before(faulty: Faulty) -> None:
    """A run and a job are answered with what the one before of the same key gave."""
    faulty.run(n=1)
    faulty.run(key=1, n=7)
    faulty.set("duplicate-result")
    assert faulty.run(n=2).json()["result"] == {"n": 1}
    job_id = faulty.submit(n=3)
    assert ended(faulty, job_id).json()["result"] == {"n": 2}
    assert faulty.run(key=1, n=8).json()["result"] == {"n": 7}


def test_ids_of_the_job_before(faulty: Faulty) -> None:
    """Two submits of one key are answered with the same id, of which there is one job; another key keeps its own."""
    faulty.set("duplicate-result,what=id")
    first, second, other = faulty.submit(n=1), faulty.submit(n=2), faulty.submit(key=1, n=3)
    assert first == second != other
    assert ended(faulty, second).json()["result"] == {"n": 1}


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
def test_false_execution_time(faulty: Faulty, keys: str, least: float | None, most: float | None) -> None:
    """The executionTime of runs and jobs is what it is said to be, and not the 20 ms that they took."""
    faulty.set(f"false-execution-time,{keys}")
    run = faulty.run("sleep", ms=20)
    job = ended(faulty, faulty.submit("sleep", ms=20))
    assert hit(run) == hit(job) == "false-execution-time"
    for answer in (run.json(), job.json()):
        if least is None or most is None:
            assert "executionTime" not in answer
        else:
            assert least <= answer["executionTime"] <= most


def test_a_result_may_contain_a_null_execution_time(faulty: Faulty) -> None:
    """Only the answer's own executionTime goes missing."""
    result = {"n": 1, "executionTime": None}
    faulty.set("latency,ms=1")
    assert faulty.run(**result).json()["result"] == result
    faulty.set("false-execution-time,value=missing")
    for answer in (faulty.run(**result), ended(faulty, faulty.submit(**result))):
        assert answer.json()["result"] == result
        assert "executionTime" not in answer.json()


def test_jobs_that_ended_are_pending_again(faulty: Faulty) -> None:
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
    until(lambda: hit(faulty.run(n=2)) == "")  # on a busy machine the silence may lie before it, too
    time.sleep(0.5)  # the silence itself, which is what is tested
    answer = faulty.run(n=3)
    assert hit(answer) == "cold-start"
    assert answer.elapsed.total_seconds() >= 0.3


def test_requests_that_come_while_it_starts_wait_for_the_rest() -> None:
    """A start is shared by all that come during it; none of them begins another one."""
    fault = ActiveFault(1, parse("cold-start,ms=300,idle=1s"), 0.0, seed=1)
    waits = [fault.strike(at) for at in (10.0, 10.1, 10.2, 10.4, 11.3, 12.4)]
    assert waits == [pytest.approx(0.3), pytest.approx(0.2), pytest.approx(0.1), None, None, pytest.approx(0.3)]

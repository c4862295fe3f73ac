"""Jobs over HTTP: their life from submit to expiry."""

from typing import Any

from plugins.openapi_answers import expect_error
from plugins.processes import until

JOBS = "/v1/workflows/jobs"


def submit(client: Any, name: str, **parameters: Any) -> str:
    response = client.post(JOBS, json={"name": name, "parameters": parameters})
    assert response.status_code == 202, response.text
    assert response.json().keys() == {"jobId", "status"}
    assert response.json()["status"] == "pending"
    return response.json()["jobId"]


def finished(client: Any, job: str) -> dict[str, Any]:
    def ask() -> dict[str, Any] | None:
        answer: dict[str, Any] = client.get(f"{JOBS}/{job}").json()
        return answer if answer["status"] != "pending" else None

    return until(ask)


def test_a_job_completes_with_its_result(server: Any) -> None:
    """The terminal answer has exactly the documented fields, and stays the same however often it is asked for."""
    client = server.client()
    job = submit(client, "echo", a=[1, {"b": None}])
    answer = finished(client, job)
    assert answer.keys() == {"jobId", "status", "result", "executionTime"}
    assert (answer["jobId"], answer["status"], answer["result"]) == (job, "completed", {"a": [1, {"b": None}]})
    assert client.get(f"{JOBS}/{job}").json() == answer


def test_a_failed_job_is_an_answer_not_an_error(server: Any) -> None:
    """Its retrieval is 200 with status `failed` and the workflow's message."""
    client = server.client()
    answer = finished(client, submit(client, "fail", message="no luck"))
    assert answer.keys() == {"jobId", "status", "error", "executionTime"}
    assert (answer["status"], answer["error"]) == ("failed", "no luck")


def test_execution_time_covers_the_execution(server: Any) -> None:
    """A job that slept says that it took at least as long, in ms; while pending it says how long so far."""
    client = server.client()
    job = submit(client, "sleep", ms=150)
    running = until(lambda: (a := client.get(f"{JOBS}/{job}").json())["executionTime"] > 0 and a)
    assert running["status"] in {"pending", "completed"}
    answer = finished(client, job)
    assert answer["executionTime"] >= answer["result"]["sleptMs"] >= 150


def test_every_distribution_sleeps_within_its_bounds(server: Any) -> None:
    """Draws are cut at `max_ms` and never shorter than the least value."""
    client = server.client()
    jobs = [
        submit(client, "sleep", distribution="uniform", min_ms=5, max_ms=20),
        submit(client, "sleep", distribution="exponential", mean_ms=1000, max_ms=5),
        submit(client, "sleep", distribution="lognormal", median_ms=5, sigma=0, max_ms=100),
    ]
    assert all(finished(client, job)["result"]["sleptMs"] >= low for job, low in zip(jobs, (5, 0, 5), strict=True))


def test_cpu_is_really_spent(server: Any) -> None:
    """The cpu workflow reports the thread's CPU time, which is what was asked for."""
    client = server.client()
    assert finished(client, submit(client, "cpu", ms=30))["result"]["cpuMs"] >= 30


def test_a_full_queue_is_503_until_there_is_room(launch: Any) -> None:
    """One works, one waits, the third is refused; those accepted still end, in the order of their submits."""
    client = launch("--workers", "1", "--queue", "1").client()
    first, second = submit(client, "sleep", ms=700), submit(client, "sleep", ms=1)
    refused = client.post(JOBS, json={"name": "say-hello"})
    assert expect_error(refused, 503, "queue_full") == {"queue": 1, "workers": 1}
    assert client.get(f"{JOBS}/{second}").json() == {"jobId": second, "status": "pending", "executionTime": 0}
    assert finished(client, second)["status"] == "completed"
    assert client.get(f"{JOBS}/{first}").json()["status"] == "completed"
    assert submit(client, "say-hello")


def test_a_finished_job_expires(launch: Any) -> None:
    """After the retention its id is unknown; a job that still runs does not expire."""
    client = launch("--retention", "0.3").client()
    running, job = submit(client, "sleep", ms=60_000), submit(client, "say-hello")
    gone = until(lambda: (r := client.get(f"{JOBS}/{job}")).status_code == 404 and r)
    expect_error(gone, 404, "unknown_job")
    assert client.get(f"{JOBS}/{running}").json()["status"] == "pending"

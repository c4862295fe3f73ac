"""What a record says of requests and operations; and Locust's listeners, which hear of each, of begin and end."""

import json
from collections import Counter
from typing import Any

import pytest

LISTENING = """
import json
import os
from pathlib import Path

import locust

from loadtest.load.users import SyncRunUser

HEARD = []


@locust.events.init.add_listener
def begin(environment, **_):
    HEARD.append(["init", environment.runner is not None, None])


@locust.events.request.add_listener
def hear(request_type, name, response_time, response_length, exception, **_):
    assert response_time > 0
    HEARD.append([request_type, name, None if exception is None else str(exception)])


@locust.events.test_stop.add_listener
def end(**_):
    with Path(__file__).with_suffix(f".{os.getpid()}.json").open("w") as file:
        json.dump(HEARD, file)


class Listening(SyncRunUser):
    pass
"""


@pytest.mark.parametrize("processes", [0, pytest.param(2, marks=pytest.mark.heavy)])
def test_requests_operations_and_listeners_tell_one_story(offer: Any, open_api: Any, processes: int) -> None:
    """A listener hears of each process's own requests, also of those of other entries; each operation has its own."""
    (offer.folder / "listening.py").write_text(LISTENING)
    polling = 'polling = { interval = "50ms", give_up = "9s" }\n'
    text = offer.scenario(
        offer.entry("runs", "sync_run", "40/s", "1s", 'user = "listening:Listening"\n'),
        offer.entry("jobs", "async_run", "20/s", "1s", polling + offer.sleep(300)),
        offer.entry("looks", "retrieval", "40/s", "1s"),
    )

    def make() -> Any:
        for path in offer.folder.glob("listening.*.json"):
            path.unlink()
        return offer(text, open_api.url, *(["--processes", str(processes)] if processes else []))

    run = offer.undisturbed(make)
    assert run.check_conservation() == {"ok": 100}
    tell_one_story(run)
    heard = [one for path in offer.folder.glob("listening.*.json") for one in json.loads(path.read_text())]
    kinds = Counter(tuple(one) for one in heard)
    assert kinds.pop(("init", True, None)) == (processes + 1 if processes else 1)
    assert kinds.pop(("async_run", "jobs", None)) == 20
    assert kinds == Counter((row["kind"], row["traffic"], None) for row in run.requests)


def tell_one_story(run: Any) -> None:
    """Each sent operation has its requests: one for a run or retrieval, a submit and its polls for a job."""
    for row in run.operations:
        mine = [
            each
            for each in run.requests
            if (each["traffic"], each["parent_arrival"]) == (row["traffic"], row["arrival"])
        ]
        kinds = [each["kind"] for each in mine]
        expected = {"runs": ["run"], "looks": ["retrieve"], "jobs": ["submit"] + ["poll"] * (row["poll"] or 0)}
        assert kinds == expected[row["traffic"]]
        assert row["start"] == mine[0]["start"]
        assert row["end"] == mine[-1]["end"]
        assert all(each["request_id"].split("-")[1] == row["request_id"] for each in mine)
        if row["traffic"] == "jobs":
            assert row["poll"] >= 2
            assert [each["poll"] for each in mine[1:]] == list(range(1, row["poll"] + 1))
            assert row["execution_time_ms"] >= 300
    ids = [row["request_id"] for row in run.requests]
    assert len(set(ids)) == len(ids)
    # Connections are kept: far fewer were made than requests sent.
    assert sum(not row["connection_reused"] for row in run.requests) < len(run.requests) / 2

"""Locust's listeners work: a scenario's module hears of every request, of the begin and of the end."""

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
def test_a_listener_hears_of_every_request(offer: Any, open_api: Any, processes: int) -> None:
    """Kind, traffic entry, and why it failed; in each process of its own requests, also of those of other entries."""
    (offer.folder / "listening.py").write_text(LISTENING)
    text = offer.scenario(
        offer.entry("heard", "sync_run", "30/s", "1s", 'user = "listening:Listening"\nmistakes = { bad_key = 0.5 }\n'),
        offer.entry("jobs", "async_run", "10/s", "1s", 'polling = { interval = "50ms", give_up = "5s" }\n'),
    )
    run = offer(text, open_api.url, *(["--processes", str(processes)] if processes else [])).wait()
    run.check_conservation()
    heard = [one for path in offer.folder.glob("listening.*.json") for one in json.loads(path.read_text())]
    kinds = Counter(tuple(one[:2]) for one in heard)
    polls = kinds.pop(("poll", "jobs"))
    inits = kinds.pop(("init", True))
    assert kinds == {("run", "heard"): 30, ("submit", "jobs"): 10, ("async_run", "jobs"): 10}
    assert polls >= 10
    assert inits == (processes + 1 if processes else 1)

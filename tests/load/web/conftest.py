"""A web UI of a scenario that gets 429s, to be watched."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from plugins.browser import chromium
from plugins.launched import WebUi
from plugins.processes import Fixture

TITLE = "Is <b>this</b> & that “text”?"
SCENARIO = """
title = "TITLE"
seed = 1
drain = "4s"
[traffic.greetings]
operation = "sync_run"
workflow = "say-hello"
stages = [{ name = "calm", rate = "10/s", duration = "1s" }, { name = "above", rate = "40/s", duration = "ABOVE" }]
[traffic.jobs]
operation = "async_run"
workflow = "sleep"
parameters = { ms = 2200 }
polling = { interval = "500ms" }
stages = [{ name = "only", rate = "10/s", duration = "ABOVE" }]
[[threshold]]
traffic = "greetings"
require = "throttled_rate < 10%"
[[threshold]]
traffic = "greetings"
require = "requests.sent < 100000"
[target]
enforce = { sync_run = "20/1s", async_submit = "1000/1s", retrieval = "1000/1s" }
"""


@pytest.fixture
def live_ui(web_ui: Fixture) -> Callable[..., WebUi]:
    """Start a web UI with a scenario of so many seconds above its limit."""
    return lambda above, *arguments: web_ui(SCENARIO.replace("TITLE", TITLE).replace("ABOVE", above), *arguments)


@pytest.fixture
def title() -> str:
    """The scenario's."""
    return TITLE


@pytest.fixture
def browser() -> Iterator[Any]:
    """Chromium."""
    with chromium() as started:
        yield started

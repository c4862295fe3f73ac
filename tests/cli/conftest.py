"""A tiny scenario for the command line."""

from collections.abc import Callable
from pathlib import Path

import pytest
from plugins.processes import Fixture

TINY = """
title = "Tiny"
seed = 1
drain = "3s"
[traffic.greetings]
operation = "sync_run"
workflow = "say-hello"
stages = [{ name = "only", rate = "40/s", duration = "%s" }]
[target]
enforce = { sync_run = "100000/1s", async_submit = "100000/1s", retrieval = "100000/1s" }
"""


@pytest.fixture
def launch(start_module: Fixture) -> Fixture:
    """Here, what is launched is a verb; elsewhere it is a server."""
    return start_module


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., str]:
    """Write a scenario of so many seconds at 40/s, and give its path."""

    def write(duration: str = "1s", text: str = TINY) -> str:
        path = tmp_path / f"tiny{duration}.toml"
        path.write_text(text % duration)
        return str(path)

    return write

"""What ``loadtest plan`` prints of limiters that are not one for each key and limit name."""

import pytest

from loadtest.cli import main

MINE = """
title = "Mine"
[traffic.a]
operation = "sync_run"
workflow = "sleep"
parameters = { ms = 400 }
stages = [{ name = "s", rate = "20/s", duration = "5s" }]
[target]
keys = 2
"""


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            'limit_scope = "global"\nenforce = { all = "10/s" }\nalgorithm = "token-bucket"\nburst = 5',
            ("all", "Of allowed", "2.00 ×", "a token bucket of 5 at once, over all requests of all keys", "10/1s"),
        ),
        (
            'limit_scope = "name"\nenforce = { sync_run = "10/s" }\nalgorithm = "fixed-window"',
            (
                "sync_run",
                "Of allowed",
                "2.00 ×",
                "for each limit name, over all keys",
                "24 replays that start at different moments",
            ),
        ),
        (
            'enforce = { sync_run = "2/s" }\nalgorithm = "concurrency"',
            ("Busiest key", "–", "a limit on requests at the same time", "its runs take 0.4 s", "makes no difference"),
        ),
        (
            'enforce = { sync_run = "5/s" }\nalgorithm = "leaky-queue"\nburst = 4',
            ("a leaky queue of 4 at once", "may delay accepted requests: those of a up to 0.6 s"),
        ),
    ],
)
def test_a_plan_says_which_limiter_it_assumes(tmp_path, capsys, target, said):
    """Algorithm, burst and scope in words, and the columns that go with them."""
    path = tmp_path / "mine.toml"
    path.write_text(MINE + target)
    assert main(["plan", str(path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert [each for each in said if each not in text] == []

"""The blocks of a comparison in a load process of its own: when it goes on, and when it does not."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from plugins import warm
from plugins.processes import PATIENCE, clean_environment
from plugins.records import RunDirectory

from loadtest.credentials import credentials, side_environment
from loadtest.errors import ExitCode
from loadtest.load.request_budget import RequestBudget, remaining
from loadtest.prepare import prepare_run
from loadtest.record import blocks
from loadtest.record.blocks import Block, BlockPlan, Side
from loadtest.record.progress import BlockBegins, Failure, decode_progress
from loadtest.record.run_info import BudgetInfo, BudgetUse
from loadtest.scenario import load_scenario
from loadtest.targets import choose
from loadtest.units import Limit

TEXT = """title = "t"
drain = "2s"
[traffic.t]
operation = "sync_run"
workflow = "echo"
stages = [{ name = "s", rate = "100/s", duration = "400ms" }]
"""


class Blocks:
    """Prepares blocks of a comparison, and has them loaded.

    Args:
        folder: of everything.
    """

    def __init__(self, folder: Path) -> None:
        self.directory = folder / "compare"
        self._folder = folder
        (folder / "s.toml").write_text(TEXT)

    def load(self, order: Sequence[Side], targets: dict[Side, str]) -> tuple[int, list[Any]]:
        """Load blocks in an order; gives exit code and messages. A target is a URL, or the name of an entry."""
        made = []
        for number, side in enumerate(order, 1):
            where = targets[side]
            named = None if "://" in where else where
            chosen = choose(None if named else where, named, self._folder / "targets.toml" if named else None)
            block = Block(directory=f"blocks/{number:02d}-{side}", side=side, pair=(number - 1) // 2)
            prepare_run(
                load_scenario(self._folder / "s.toml"),
                url=chosen.target.url,
                keys=1,
                command=["loadtest", "compare"],
                output_dir=self.directory,
                chosen=chosen,
                block=block.directory,
            )
            made.append(block)
        blocks.save(BlockPlan(scenario="s", seeds=[1], silence_s=0.0, blocks=made), self.directory)
        log = self._folder / "load.log"
        # Its input stays open: the end of it would end the load.
        with (
            log.open("wb") as errors,
            warm.start(
                [sys.executable, "-m", "loadtest.load", str(self.directory), str(self._folder), "--series", "1"],
                env=clean_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            ) as process,
        ):
            assert process.stdout is not None
            said = [decode_progress(line) for line in process.stdout]
            code = process.wait(PATIENCE)
        assert "Traceback" not in log.read_text()
        return code, said

    def run(self, number: int) -> RunDirectory:
        """A block by its number, from 1."""
        return RunDirectory(self.directory / blocks.load(self.directory).blocks[number - 1].directory)


@pytest.fixture
def made(tmp_path: Path) -> Blocks:
    """Blocks of a comparison of 40 requests each."""
    return Blocks(tmp_path)


def test_the_series_ends_where_a_side_is_gone(made: Blocks, open_api: Any, free_port: int) -> None:
    """A block in which nothing answers is recorded, and is the last: exit code 5, and a sentence that says which."""
    gone = f"http://127.0.0.1:{free_port}"
    code, said = made.load(("base", "head", "head", "base"), {"base": open_api.url, "head": gone})
    assert code == ExitCode.TARGET
    assert said[-1] == Failure(f"nothing answered in block 2 (head, {gone}): its target is gone")
    assert [(each.number, each.blocks, each.side) for each in said if isinstance(each, BlockBegins)] == [
        (1, 4, "base"),
        (2, 4, "head"),
    ]
    assert made.run(1).check_conservation() == {"ok": 40}
    assert made.run(2).check_conservation() == {"failed": 40}
    assert made.run(1).info.started < made.run(2).info.started
    assert [blocks.begun(made.run(number).info) for number in (1, 2, 3, 4)] == [True, True, False, False]


def test_the_blocks_of_a_side_share_its_budget(made: Blocks, open_api: Any, tmp_path: Path) -> None:
    """What a block leaves of its target's request budget is all that the next one has; then the series ends."""
    (tmp_path / "targets.toml").write_text(
        f'[here]\nurl = "{open_api.url}"\nenvironment = "test"\nowner = "team-x"\nmax_share = 1\nmax_requests = 60\n'
        'limits = { sync_run = "100000/1s" }\n'
    )
    code, _ = made.load(("base", "head", "base"), {"base": "here", "head": "here"})
    assert code == ExitCode.PASS
    first, second = made.run(1), made.run(2)
    assert (first.info.target.budget.max_requests, first.info.target.budget.used.requests) == (60, 40)
    assert (second.info.target.budget.max_requests, second.info.target.budget.used.requests) == (20, 20)
    assert second.info.end == "aborted"
    assert "all 20 requests that max_requests allows were sent" in second.info.end_reason
    assert not blocks.begun(made.run(3).info)


def test_a_budget_leaves_what_was_not_used() -> None:
    """Every bound but that of time shrinks by what each run before used, and never below nothing."""
    bounds = BudgetInfo(
        name="n",
        environment="test",
        owner="o",
        max_share=0.5,
        max_operations=100,
        max_requests=None,
        price_per_execution=0.5,
        max_cost=20.0,
        until_unix_s=7.0,
    )
    used = [BudgetUse(operations=30, requests=60, executions=10), BudgetUse(operations=80, requests=90, executions=20)]
    left = remaining(bounds, used)
    assert (left.max_operations, left.max_requests, left.max_cost, left.until_unix_s) == (0, None, 5.0, 7.0)


def test_requests_of_the_block_before_count_in_the_window_of_a_share() -> None:
    """The second run on a target cannot spend the share of a limit's window that the first has spent."""
    bounds = BudgetInfo(name="n", environment="test", owner="o", max_share=0.5)
    limits = {"sync_run": Limit(10, 60.0)}
    first = RequestBudget(bounds, limits, now=lambda: 100.0)
    for _ in range(4):
        first.take_request("run")
    second = RequestBudget(bounds, limits, now=lambda: 110.0)
    second.count_earlier(first.recent)
    assert second.recent == {"sync_run": [100.0] * 4}
    second.take_request("run")
    assert len(second.recent["sync_run"]) == 5
    assert second.used.requests == 1


def test_a_side_may_have_keys_and_an_endpoint_of_its_own() -> None:
    """Variables of a side stand for the common ones; those of the other side do not."""
    environ = {"WORKFLOW_API_KEYS": "k", "HEAD_WORKFLOW_API_KEYS": "h1,h2", "BASE_WORKFLOW_ENDPOINT": "old"}
    assert credentials(side_environment("base", environ)) == (("k",), "old")
    assert credentials(side_environment("head", environ)) == (("h1", "h2"), "local")

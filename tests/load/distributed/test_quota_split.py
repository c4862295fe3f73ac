"""A leash holds all workers together: what each may use comes to no more than the whole."""

import pytest
from plugins.leash_parts import ABORTED, write_entry, write_scenario
from plugins.records import runs_in
from plugins.stubs import pending_forever

from loadtest.load.request_budget import QuotaSplit, RequestBudget
from loadtest.record.run_info import BudgetInfo, BudgetUse


@pytest.mark.heavy
def test_workers_never_send_more_than_a_leash_allows(loadtest, stub, tmp_path):
    """Counted by the server, whose jobs never end; the run ends when a worker's part is used up."""
    server = stub(pending_forever)
    write_scenario(tmp_path, rate="6/s", seconds=3)
    write_entry(tmp_path, server.url, "max_share = 1\nmax_requests = 41")
    done = loadtest("run", "s.toml", "--target", "here", "--no-preflight", "--processes", "2")
    assert done.code in ABORTED, done.out + done.err
    (run,) = runs_in(tmp_path / "reports")
    assert 20 < len(server.asked) <= 41
    assert run.info.target.budget.used.requests == len(server.asked)
    assert "its part" in run.info.end_reason
    assert {row["worker"] for row in run.rows} == {1, 2}
    run.check_conservation(ragged=True)


def test_parts_never_come_to_more_than_the_whole() -> None:
    """Over changes of workers, also where one is lost with what it had."""
    leash = BudgetInfo(name="x", environment="test", owner="me", max_share=1.0, max_requests=1000)
    budget = RequestBudget()
    budget.used.requests = 10
    quota_split = QuotaSplit(budget, leash)
    first = quota_split.split(["a", "b"])
    assert [first[name].requests for name in ("a", "b")] == [495, 495]
    # A has used 100 and keeps half of the rest; b is lost, and may have used all of its part.
    quota_split.reserved["a"] = BudgetUse(operations=0, requests=298, executions=0)
    second = quota_split.split(["a", "c"])
    assert second["a"].requests + second["c"].requests + 495 + 10 == 1000
    assert second["c"].requests > 0

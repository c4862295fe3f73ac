"""The budget: taken before each send, and never more than there is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.load.request_budget import BudgetSpentError, RequestBudget
from loadtest.record.run_info import BudgetInfo, PreflightRequest
from loadtest.units import Limit

RETRIEVAL = {"retrieval": Limit(100, 60.0)}


def leash(**bounds: Any) -> BudgetInfo:
    return BudgetInfo(name="here", environment="test", owner="me", **{"max_share": 1.0, **bounds})


def spend(budget: RequestBudget, *kinds: str) -> int:
    """Take requests until one is refused; gives how many were not."""
    for number, kind in enumerate(kinds):
        try:
            budget.take_request(kind)
        except BudgetSpentError:
            return number
    return len(kinds)


def test_requests_of_every_kind_count() -> None:
    """Polls too; and when it is spent, it stays spent, and says so once."""
    budget, reasons = RequestBudget(leash(max_requests=3)), []
    budget.on_spent = reasons.append
    assert spend(budget, "submit", "poll", "poll", "poll", "poll") == 3
    assert spend(budget, "run") == 0
    with pytest.raises(BudgetSpentError):
        budget.take_operation()
    assert reasons == [
        "the request budget of target 'here' ended the run: all 3 requests that max_requests allows were sent"
    ]
    assert budget.used.requests == 3


def test_executions_are_given_back_only_if_they_were_refused() -> None:
    """A 429 executes nothing; a 500, a time-out or an answer may have."""
    budget = RequestBudget(leash(price_per_execution=0.5, max_cost=1.0))
    for status in (429, 400, 404):
        budget.take_request("run")
        budget.answered("run", status)
    budget.take_request("run")
    budget.answered("run", 500)
    budget.take_request("submit")
    budget.answered("submit", None)
    with pytest.raises(BudgetSpentError, match=r"would bring the cost to 1\.5, but max_cost allows 1 "):
        budget.take_request("run")
    assert budget.used.executions == 2


def test_a_share_holds_in_any_window_and_preflight_is_in_it() -> None:
    """One more than the share is let through: an even schedule has a request at both ends of a window."""
    now = [1000.0]
    before = [PreflightRequest(limit="retrieval", kind="retrieve", key_index=0, unix_s=999.0 + n) for n in range(2)]
    budget = RequestBudget(leash(max_share=0.1), RETRIEVAL, preflight=before, now=lambda: now[0])
    assert budget.used.requests == 2
    assert spend(budget, *["poll"] * 9) == 9
    now[0] = 1059.5
    assert spend(budget, "poll") == 1, "the first of the preflight has left the window"
    with pytest.raises(BudgetSpentError, match="10 requests per 60 s that max_share allows of the retrieval limit"):
        budget.take_request("retrieve")


def test_an_even_schedule_at_exactly_the_share_passes() -> None:
    """Even if it is a little late at times."""
    now = [0.0]
    budget = RequestBudget(leash(max_share=0.1), RETRIEVAL, now=lambda: now[0])
    for number in range(200):
        now[0] = number * 6.0 + (0.05 if number % 7 == 3 else 0.0)
        budget.take_request("retrieve")


def test_nothing_is_sent_after_the_allowed_hours() -> None:
    """Whatever was planned."""
    now = [10.0]
    budget = RequestBudget(leash(until_unix_s=20.0), now=lambda: now[0])
    budget.take_request("run")
    now[0] = 20.0
    with pytest.raises(BudgetSpentError, match=r"allowed hours have ended"):
        budget.take_request("poll")


def test_without_a_leash_it_only_counts() -> None:
    """Nothing is ever refused."""
    budget = RequestBudget()
    assert spend(budget, *["run", "poll"] * 500) == 1000
    assert (budget.used.requests, budget.used.executions, budget.bounded) == (1000, 500, False)


@given(
    requests=st.integers(0, 12),
    operations=st.integers(0, 12),
    cost=st.integers(0, 12),
    steps=st.lists(st.sampled_from(["operation", "run", "submit", "poll", "retrieve"]), max_size=60),
)
def test_no_order_of_sends_gets_more_than_there_is(requests: int, operations: int, cost: int, steps: list[str]) -> None:
    """The bounds hold for any mix."""
    bounds = {"max_requests": requests, "max_operations": operations, "price_per_execution": 1.0, "max_cost": cost}
    budget = RequestBudget(leash(**bounds))
    taken = []
    for step in steps:
        try:
            if step == "operation":
                budget.take_operation()
            else:
                budget.take_request(step)  # type: ignore[arg-type]
        except BudgetSpentError:
            continue
        taken.append(step)
    assert taken.count("operation") <= operations
    assert len([step for step in taken if step != "operation"]) <= requests
    assert len([step for step in taken if step in {"run", "submit"}]) <= cost

"""The request budget of a run. The target's entry in ``targets.toml`` sets it (``leash`` on disk).

Each request is charged before it is sent, including retries, polls and seeding. If workers send the load, each worker
gets a part of the budget.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from loadtest.contract import EXECUTING_KINDS, LIMIT_OF_KIND, RequestKind
from loadtest.record.run_info import BudgetInfo, BudgetUse, PreflightRequest
from loadtest.units import Limit

_NO_BOUND: Final = 2**62


class BudgetSpentError(Exception):
    """The budget is spent, and the request was not sent."""


class RequestBudget:
    """Counts requests, and raises ``BudgetSpentError`` before a request that would exceed its bounds.

    Its methods do not wait, so two greenlets cannot both take the last request. ``quotas`` is the number of
    quotas of each limit: the number of API keys, or 1 if all keys share the limits.
    ``now`` is a wall clock in unix seconds.
    """

    def __init__(
        self,
        bounds: BudgetInfo | None = None,
        limits: Mapping[str, Limit] | None = None,
        quotas: int = 1,
        preflight: Iterable[PreflightRequest] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self.used = BudgetUse()
        self.allowed: BudgetUse | None = None
        """This worker may use at most this much in total. None if only ``bounds`` apply."""
        self.spent: str | None = None
        """Reason why the budget is spent. None before that."""
        self.on_spent: Callable[[str], None] = lambda _: None
        """Called once, with the reason."""
        self._bounds = bounds
        self._now = now
        self._limits: dict[str, _LimitShare] = {}
        if bounds is not None:
            self._limits = {
                name: _LimitShare(bounds.max_share, limit, quotas) for name, limit in (limits or {}).items()
            }
        for sent in preflight:
            self.used.requests += 1
            self.used.executions += sent.kind in EXECUTING_KINDS
            if sent.limit in self._limits:
                self._limits[sent.limit].sent.append(sent.unix_s)

    def share_by(self, processes: int) -> None:
        """Divide each limit's share by the number of workers."""
        for share in self._limits.values():
            share.processes = processes

    @property
    def recent(self) -> dict[str, list[float]]:
        """Times of the requests that were sent in the last window of each limit, in unix seconds."""
        return {name: list(share.sent) for name, share in self._limits.items()}

    def count_earlier(self, recent: Mapping[str, Iterable[float]]) -> None:
        """Count the ``recent`` requests of an earlier run towards the share of each limit."""
        for name, times in recent.items():
            if name in self._limits:
                self._limits[name].sent.extendleft(reversed(list(times)))

    @property
    def bounded(self) -> bool:
        return self._bounds is not None

    def reserve_half(self) -> BudgetUse:
        """Give up half of this worker's remaining budget. Return the new ``allowed``, or zeros without a budget."""
        if self.allowed is None:
            return BudgetUse()
        for name in BudgetUse.__struct_fields__:
            used = getattr(self.used, name)
            left = max(0, getattr(self.allowed, name) - used)
            setattr(self.allowed, name, used + (left + 1) // 2)
        return self.allowed

    def take_operation(self) -> None:
        """Charge an operation before it begins. Raise ``BudgetSpentError`` if the budget is spent."""
        if self._bounds is not None:
            self._bound("operations", self._bounds.max_operations, "begun")
        self.used.operations += 1

    def take_request(self, kind: RequestKind) -> None:
        """Charge a request before it is sent. Raise ``BudgetSpentError`` if the budget is spent."""
        if self._bounds is not None:
            self._check(self._bounds, kind)
        self.used.requests += 1
        self.used.executions += kind in EXECUTING_KINDS

    def answered(self, kind: RequestKind, status: int | None) -> None:
        """Refund an execution after a 4xx, because the service executed nothing."""
        if status is not None and 400 <= status < 500 and kind in EXECUTING_KINDS:
            self.used.executions -= 1

    def _check(self, bounds: BudgetInfo, kind: RequestKind) -> None:
        now = self._now()
        self._bound("requests", bounds.max_requests, "sent")
        price = bounds.price_per_execution
        if kind in EXECUTING_KINDS:
            self._bound("executions", None, "")
            cost = (self.used.executions + 1) * (price or 0.0)
            if bounds.max_cost is not None and price is not None and cost > bounds.max_cost * (1 + 1e-9):
                self._spend(
                    f"one more execution would bring the cost to {cost:g}, but max_cost allows {bounds.max_cost:g} "
                    f"({self.used.executions:,} executions at {price:g} each)"
                )
        if bounds.until_unix_s is not None and now >= bounds.until_unix_s:
            self._spend("the target's allowed hours have ended, or its entry has expired")
        share = self._limits.get(LIMIT_OF_KIND[kind])
        if share is not None and not share.take(now):
            self._spend(
                f"all {share.allowed:g} requests per {share.window:g} s that max_share allows of the "
                f"{LIMIT_OF_KIND[kind]} limit were sent (retries, polls, seeding and preflight count)"
            )

    def _bound(self, name: str, most: int | None, done: str) -> None:
        """Raise ``BudgetSpentError`` if the budget is spent, or allows no more of ``name``."""
        if self.spent is not None:
            raise BudgetSpentError(self.spent)
        used = getattr(self.used, name)
        if most is not None and used >= most:
            self._spend(f"all {most:,} {name} that max_{name} allows were {done}")
        if self.allowed is not None and used >= getattr(self.allowed, name):
            self._spend(f"a worker has used up its part of the {name} in the request budget")

    def _spend(self, why: str) -> None:
        name = self._bounds.name if self._bounds is not None else ""
        self.spent = f"the request budget of target {name!r} ended the run: {why}"
        self.on_spent(self.spent)
        raise BudgetSpentError(self.spent)


class _LimitShare:
    """Requests that counted against one limit in its last window, over all keys."""

    def __init__(self, share: float, limit: Limit, quotas: int) -> None:
        self.allowed = share * limit.count * quotas
        self.processes = 1
        """Number of processes that divide the share among them."""
        self.window = limit.window
        self.sent: deque[float] = deque()

    def take(self, now: float) -> bool:
        """Count a request and return True, or return False if the share would be exceeded by more than one request.

        Evenly spaced requests that use exactly the share have a request at both ends of a window. The later request may
        come early, so one request above the share is accepted.
        """
        while self.sent and self.sent[0] <= now - self.window:
            self.sent.popleft()
        if len(self.sent) >= int(self.allowed / self.processes + 1e-9) + 1:
            return False
        self.sent.append(now)
        return True


class QuotaSplit:
    """Splits a request budget among the workers of a run. Each assignment of the schedule splits it again.

    Before a new assignment, each worker keeps half of its remaining part and returns the other half, so that parts
    never overlap. A lost worker's part is lost. Preflight and seeding are charged to the master's own budget.
    """

    def __init__(self, budget: RequestBudget, bounds: BudgetInfo | None) -> None:
        self._budget = budget
        self._quota: BudgetUse | None = None
        if bounds is not None:
            executions = _NO_BOUND
            if bounds.max_cost is not None and bounds.price_per_execution:
                executions = int(bounds.max_cost / bounds.price_per_execution * (1 + 1e-9))
            self._quota = BudgetUse(
                operations=_NO_BOUND if bounds.max_operations is None else bounds.max_operations,
                requests=_NO_BOUND if bounds.max_requests is None else bounds.max_requests,
                executions=executions,
            )
        self.reserved: dict[str, BudgetUse] = {}
        """Each worker uses at most this much in total until the next assignment."""

    def split(self, workers: Sequence[str]) -> dict[str, BudgetUse] | None:
        """Return how much each worker may use in total since the run began, or None without bounds."""
        if self._quota is None:
            return None
        taken = summed([self._budget.used, *self.reserved.values()])
        quotas = {worker: BudgetUse() for worker in workers}
        for name in BudgetUse.__struct_fields__:
            free = max(0, getattr(self._quota, name) - getattr(taken, name))
            for place, worker in enumerate(workers):
                share = free // len(workers) + (place < free % len(workers))
                setattr(quotas[worker], name, getattr(self.reserved.get(worker, BudgetUse()), name) + share)
        self.reserved |= quotas
        return quotas


def summed(uses: Sequence[BudgetUse]) -> BudgetUse:
    """Return the total use of several processes or runs."""
    return BudgetUse(**{name: sum(getattr(each, name) for each in uses) for name in BudgetUse.__struct_fields__})


def remaining(bounds: BudgetInfo, used: Sequence[BudgetUse]) -> BudgetInfo:
    """Return the part of a budget that earlier runs left over."""
    spent, left = summed(used), msgspec.structs.replace(bounds, used=None)
    if left.max_operations is not None:
        left.max_operations = max(0, left.max_operations - spent.operations)
    if left.max_requests is not None:
        left.max_requests = max(0, left.max_requests - spent.requests)
    if left.max_cost is not None and left.price_per_execution is not None:
        left.max_cost = max(0.0, left.max_cost - left.price_per_execution * spent.executions)
    return left

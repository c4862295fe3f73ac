"""What a run may still send: taken before each send, so that retries, polls and seeding stay inside it too."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from loadtest.contract import EXECUTING_KINDS, LIMIT_OF_KIND, RequestKind
from loadtest.record.run_info import BudgetInfo, BudgetUse, LimitInfo, PreflightRequest

_PART: Final = "a worker has used up its part of the {} that the leash allows to all workers together"


class BudgetSpentError(Exception):
    """Nothing more may be sent. The request that was about to be sent was not."""


class Budget:
    """Counts what is sent, and stops it where the leash ends. Without a leash it only counts.

    Never waits, so that no two greenlets can take the same last request.

    Args:
        leash: what the target's entry allows; None for no bounds.
        limits: the believed limits, each per key.
        keys: how many API keys there are.
        preflight: what was sent before.
        now: a wall clock, in unix seconds.
    """

    def __init__(
        self,
        leash: BudgetInfo | None = None,
        limits: Mapping[str, LimitInfo] | None = None,
        keys: int = 1,
        preflight: Iterable[PreflightRequest] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self.used = BudgetUse()
        self.allowed: BudgetUse | None = None
        """This process's part of what may be taken in all; None where there is only one."""
        self.spent: str | None = None
        """Why nothing more may be sent; None while something may."""
        self.on_spent: Callable[[str], None] = lambda _: None
        """Told once, with the reason."""
        self._leash = leash
        self._keys = keys
        self._now = now
        self._shares: dict[str, _Share] = {}
        if leash is not None:
            self._shares = {name: _Share(leash.max_share, limit, keys) for name, limit in (limits or {}).items()}
        for sent in preflight:
            self.used.requests += 1
            self.used.executions += sent.kind in EXECUTING_KINDS
            if sent.limit in self._shares:
                self._shares[sent.limit].sent.append(sent.unix_s)

    def share_by(self, processes: int) -> None:
        """Take one process's part of the shares of the limits only."""
        for share in self._shares.values():
            share.part = processes

    @property
    def leashed(self) -> bool:
        """Whether there are bounds at all."""
        return self._leash is not None

    def operation(self) -> None:
        """Take one operation, before it begins.

        Raises:
            BudgetSpentError: if it may not begin.
        """
        leash = self._leash
        if leash is not None:
            self._refuse_if_spent()
            if leash.max_operations is not None and self.used.operations >= leash.max_operations:
                self._spend(f"all {leash.max_operations:,} operations that max_operations allows were begun")
            if self.allowed is not None and self.used.operations >= self.allowed.operations:
                self._spend(_PART.format("operations"))
        self.used.operations += 1

    def request(self, kind: RequestKind) -> None:
        """Take one request, before it is sent.

        Raises:
            BudgetSpentError: if it may not be sent.
        """
        executes = kind in EXECUTING_KINDS
        if self._leash is not None:
            self._refuse_if_spent()
            self._check(self._leash, kind, executes=executes)
        self.used.requests += 1
        self.used.executions += executes

    def answered(self, kind: RequestKind, status: int | None) -> None:
        """Give an execution back that was refused: a 4xx executes nothing. Whatever else happened may have."""
        if status is not None and 400 <= status < 500 and kind in EXECUTING_KINDS:
            self.used.executions -= 1

    def _check(self, leash: BudgetInfo, kind: RequestKind, *, executes: bool) -> None:
        now = self._now()
        if leash.max_requests is not None and self.used.requests >= leash.max_requests:
            self._spend(f"all {leash.max_requests:,} requests that max_requests allows were sent")
        if self.allowed is not None and self.used.requests >= self.allowed.requests:
            self._spend(_PART.format("requests"))
        if self.allowed is not None and executes and self.used.executions >= self.allowed.executions:
            self._spend(_PART.format("executions"))
        price = leash.price_per_execution
        if executes and leash.max_cost is not None and price is not None:
            cost = (self.used.executions + 1) * price
            if cost > leash.max_cost * (1 + 1e-9):
                self._spend(
                    f"one more execution would cost {cost:g} in all, and max_cost allows {leash.max_cost:g} "
                    f"({self.used.executions:,} executions at {price:g} each)"
                )
        if leash.until_unix_s is not None and now >= leash.until_unix_s:
            self._spend("the allowed hours of the target, or its entry, have ended")
        name = LIMIT_OF_KIND[kind]
        share = self._shares.get(name)
        if share is not None and not share.take(now):
            self._spend(
                f"{share.allowed:g} requests per {share.window:g} s are the share of the {name} limit that max_share "
                f"allows, and they were sent (retries, polls, seeding and preflight count)"
            )

    def _refuse_if_spent(self) -> None:
        if self.spent is not None:
            raise BudgetSpentError(self.spent)

    def _spend(self, why: str) -> None:
        name = self._leash.name if self._leash is not None else ""
        self.spent = f"the leash of target {name!r} ended the run: {why}"
        self.on_spent(self.spent)
        raise BudgetSpentError(self.spent)


class _Share:
    """The requests on one limit within its last window, of all keys together."""

    def __init__(self, share: float, limit: LimitInfo, keys: int) -> None:
        self.allowed = share * limit.count * keys
        self.part = 1
        """Of how many processes this is one."""
        self.window = limit.window_s
        self.sent: deque[float] = deque()

    def take(self, now: float) -> bool:
        """Note one more, unless it would be one too many.

        An even schedule at exactly the share has a request at both ends of a window, and may send the second a
        little early: so one more is let through.
        """
        while self.sent and self.sent[0] <= now - self.window:
            self.sent.popleft()
        if len(self.sent) >= int(self.allowed / self.part + 1e-9) + 1:
            return False
        self.sent.append(now)
        return True

"""A leash that holds several workers together: each may use up its part, and no parts come to more than the whole.

Parts are shared out anew with each epoch. Until then, a worker that has agreed to a cut keeps half of what it has left,
so that what is shared out is nobody's; what a lost worker had is gone with it.
"""

from collections.abc import Sequence
from typing import Final

from loadtest.load.distributed.protocol import Used
from loadtest.load.request_budget import Budget
from loadtest.record.run_info import BudgetInfo, BudgetUse

_NO_BOUND: Final = 2**62


class Allowances:
    """Shares out what a leash allows.

    Args:
        budget: the master's own, which preflight and seeding have drawn on.
        leash: what it holds; None where there is none.
    """

    def __init__(self, budget: Budget, leash: BudgetInfo | None) -> None:
        self._budget = budget
        self._bounds = None if leash is None else _bounds(leash)
        self._used: dict[str, Used] = {}
        self._kept: dict[str, Used] = {}
        """What each worker may use in all, or has said that it will not pass before the next epoch."""

    def used(self, worker: str, used: Used) -> None:
        """Note what a worker has used so far."""
        self._used[worker] = used

    def reserved(self, worker: str, kept: Used) -> None:
        """Note what a worker will not pass before the next epoch."""
        self._kept[worker] = kept

    def share_out(self, workers: Sequence[str]) -> dict[str, Used] | None:
        """What each of these workers may use, in all since the run's begin; None without a leash."""
        if self._bounds is None:
            return None
        mine = self._budget.used
        taken = [Used(mine.operations, mine.requests, mine.executions), *self._kept.values()]
        free = [
            max(0, getattr(self._bounds, name) - sum(getattr(each, name) for each in taken))
            for name in Used.__struct_fields__
        ]
        for place, worker in enumerate(workers):
            kept = self._kept.get(worker, Used())
            self._kept[worker] = Used(
                *(
                    getattr(kept, name) + amount // len(workers) + (place < amount % len(workers))
                    for name, amount in zip(Used.__struct_fields__, free, strict=True)
                )
            )
        return {worker: self._kept[worker] for worker in workers}

    def total(self) -> BudgetUse:
        """What master and workers have used together."""
        mine = self._budget.used
        return BudgetUse(
            operations=mine.operations + sum(each.operations for each in self._used.values()),
            requests=mine.requests + sum(each.requests for each in self._used.values()),
            executions=mine.executions + sum(each.executions for each in self._used.values()),
        )


def _bounds(leash: BudgetInfo) -> Used:
    executions = _NO_BOUND
    if leash.max_cost is not None and leash.price_per_execution:
        executions = int(leash.max_cost / leash.price_per_execution * (1 + 1e-9))
    return Used(
        _NO_BOUND if leash.max_operations is None else leash.max_operations,
        _NO_BOUND if leash.max_requests is None else leash.max_requests,
        executions,
    )

"""What all traffic together draws on a limit, over time. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from loadtest.limits import Limit, LimitName
from loadtest.runfile import StagePlan, TrafficPlan

_TOLERANCE: Final = 1 + 1e-9


def draws(operation: str) -> tuple[LimitName, ...]:
    """The limits that an operation's requests draw on."""
    return {"sync_run": ("sync_run",), "async_run": ("async_submit", "retrieval")}.get(operation, ("retrieval",))  # type: ignore[return-value] # mypy widens the tuples' literals


@dataclass(frozen=True, slots=True)
class Demand:
    """What all entries together draw on a limit, over time, for each key."""

    plans: tuple[TrafficPlan, ...]
    limits: Mapping[LimitName, Limit]

    def passes(self, limit: LimitName, plan: TrafficPlan, stage: StagePlan) -> bool:
        """Whether some key that an entry uses is asked for more than a limit allows, at some moment of a stage.

        Rates are piecewise linear, so it is enough to look at both ends of every piece. A burst is held against
        the whole quota of a window.
        """
        end = stage.start_s + stage.duration_s
        edges = {edge for each in self.plans for part in each.stages for edge in self._edges(each, part)}
        cuts = sorted({stage.start_s, end, *(edge for edge in edges if stage.start_s < edge < end)})
        allowed = self.limits[limit]
        return any(
            self._asked(limit, key, at, (left + right) / 2) > allowed.rate * _TOLERANCE
            or self._burst(limit, key, (left + right) / 2) > allowed.count
            for key in self._keys(plan)
            for left, right in pairwise(cuts)
            for at in (left, right)
        )

    def _edges(self, plan: TrafficPlan, stage: StagePlan) -> list[float]:
        """Moments at which an entry's draw starts, ends, or has a bend."""
        edges = [stage.start_s, _end(stage)]
        if plan.operation == "async_run" and stage.rate != stage.rate_to:
            # Submits beyond their own limit are refused, and have no polls: the draw on retrieval bends there.
            accepted = self.limits["async_submit"].rate * plan.key_count
            edges.append(stage.start_s + stage.duration_s * (accepted - stage.rate) / (stage.rate_to - stage.rate))
        return edges

    def _keys(self, plan: TrafficPlan) -> set[int]:
        """One key of each kind among those that an entry uses: keys that the same entries use are alike."""
        starts = {each.key_start for each in self.plans}
        return {max(start, plan.key_start) for start in starts if start < plan.key_start + plan.key_count}

    def _asked(self, limit: LimitName, key: int, at: float, inside: float) -> float:
        return sum(self._drawn(limit, plan, at, inside) / plan.key_count for plan in self.plans if _uses(plan, key))

    def _burst(self, limit: LimitName, key: int, inside: float) -> float:
        stages = (
            (plan, stage)
            for plan in self.plans
            if limit in draws(plan.operation) and _uses(plan, key)
            for stage in plan.stages
        )
        return sum(stage.burst / plan.key_count for plan, stage in stages if stage.start_s <= inside < _end(stage))

    def _drawn(self, limit: LimitName, plan: TrafficPlan, at: float, inside: float) -> float:
        """Requests/s that an entry draws on a limit at ``at``, in the stage that holds ``inside``.

        An async run draws on the retrieval limit by its polls: at least one for each accepted submit.
        """
        if limit not in draws(plan.operation):
            return 0.0
        for stage in plan.stages:
            if stage.start_s <= inside < _end(stage):
                rate = stage.rate + (stage.rate_to - stage.rate) * (at - stage.start_s) / stage.duration_s
                if plan.operation == "async_run" and limit == "retrieval":
                    return min(rate, self.limits["async_submit"].rate * plan.key_count)
                return rate
        return 0.0


def _uses(plan: TrafficPlan, key: int) -> bool:
    return plan.key_start <= key < plan.key_start + plan.key_count


def _end(stage: StagePlan) -> float:
    return stage.start_s + stage.duration_s

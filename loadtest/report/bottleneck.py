"""What bound a run: the generator, the poll budget, a documented limit, the capacity of the target, or nothing.

A limit does not bind where it does not explain its 429s: the target has another reason, or somebody else draws on it.
"""

from dataclasses import dataclass
from typing import Final, Literal

from loadtest import words
from loadtest.analysis.counts import FIRST
from loadtest.analysis.findings import Findings
from loadtest.analysis.rejections.usage import LimitUse, bottleneck_limit
from loadtest.analysis.results import OperationStage
from loadtest.analysis.validity import OF_GENERATOR
from loadtest.assumed_limits import CONCURRENCY
from loadtest.contract import ALL, LIMIT_OF_OPERATION, LimitName

_MOST: Final = 0.5
"""Share of a limit's 429s from which they are called unexplained: a few at window edges are always in doubt."""


@dataclass(frozen=True)
class Unexplained429s:
    """How many of a limit's 429s came though the assumed limiter had room, and no other fits either."""

    count: int
    throttled: int


def unexplained_429s(findings: Findings, limit: str) -> Unexplained429s | None:
    """The unexplained 429s of a limit; None where it gave none, or where a limiter explains most of them.

    Where another limiter than the assumed one is named, or several fit, the limit binds, only otherwise than assumed.
    """
    found = findings.observed_429.limits.get(limit)
    if found is None or found.assumed is None or not found.throttled:
        return None
    if found.inference.word in ("named", "several"):
        return None
    wrong = found.assumed.wrongly_rejected
    return Unexplained429s(wrong, found.throttled) if wrong > _MOST * found.throttled else None


_SLOWER: Final = 2.0
"""By how much the median has to grow from the least loaded stage to another for that to be a sign of capacity."""
_MORE: Final = 1.2
"""By how much more the other stage has to be offered."""


@dataclass(frozen=True)
class Bottleneck:
    """The binding constraint, and a sentence about it."""

    kind: Literal["generator", "poll budget", "documented limit", "unexplained 429s", "capacity", "none", "unknown"]
    words: str


def bottleneck(findings: Findings) -> Bottleneck:
    """The binding constraint: of several, the one without which the others say nothing comes first."""
    if late := [c for c in findings.checks if not c.ok and c.name in OF_GENERATOR]:
        late.sort(key=lambda check: OF_GENERATOR.index(check.name))
        return Bottleneck("generator", f"The generator: {late[0].name} was {late[0].value} ({late[0].limit}).")
    use = bottleneck_limit(findings.uses)
    if use is None:
        return Bottleneck("unknown", "None can be named: no request was sent in a judged stage.")
    requests = findings.metrics.overall.requests
    if not requests.accepted and not requests.throttled:
        return Bottleneck("unknown", "None can be named: no request was answered.")
    if use.throttled and unexplained_429s(findings, use.limit) is not None:
        return Bottleneck("unexplained 429s", _without_need(findings, use))
    if use.throttled:
        share = polling(findings) if use.limit in (LimitName.RETRIEVAL, ALL) else None
        if share is not None and share > 0.5:
            spent = f"The poll budget: {words.share(share)} of retrieval requests were polls"
            return Bottleneck("poll budget", f"{spent}. {_of_limit(findings, use)}")
        return Bottleneck("documented limit", _of_limit(findings, use))
    if (text := _capacity(findings)) is not None:
        return Bottleneck("capacity", text)
    called, allowed = words.limit_name(use.limit), _allowed(findings, use)
    if use.busiest > 1:
        return Bottleneck(
            "none",
            f"None: no request got 429, though “{use.stretch}” asked the {called} ({allowed}) for {_asked(use)}.",
        )
    return Bottleneck(
        "none", f"None was reached. The {called} ({allowed}) came nearest: “{use.stretch}” asked for {_asked(use)}."
    )


def polling(findings: Findings) -> float | None:
    """Polls ÷ requests that drew on the retrieval limit, over all judged stages; None without any of either."""
    record = findings.record
    polls = retrieves = 0
    for name, plan in record.info.traffic.items():
        stage_indices = record.stage_indices(record.stages(traffic=name))
        requests = record.counts.of_requests(stage_indices)
        first = sum(count for cell, count in requests.items() if cell.kind < FIRST)
        polls += requests.total() - first
        if LIMIT_OF_OPERATION[plan.operation] == LimitName.RETRIEVAL:
            retrieves += first
    return polls / (polls + retrieves) if polls + retrieves else None


def _allowed(findings: Findings, use: LimitUse) -> str:
    assumed_limits, quotas = findings.record.assumed_limits, findings.record.quotas_on(use.limit)
    return assumed_limits.limit_text(assumed_limits.limit_on(use.limit)) + (
        f", over {quotas} keys" if quotas > 1 else ""
    )


def _asked(use: LimitUse) -> str:
    """``80 % of what it allows``; of keys that have quotas of their own the busiest, where others ask for less."""
    if not use.uneven:
        return f"{words.times_what(use.busiest)} what it allows"
    every = f"{words.times(use.share)} over all keys"
    return f"{words.times_what(use.busiest)} what it allows key {use.keys[0].key} ({every})"


def _of_limit(findings: Findings, use: LimitUse) -> str:
    called, allowed = words.limit_name(use.limit), _allowed(findings, use)
    got = f"{words.share(use.throttled_rate)} of the requests got 429."
    if findings.record.assumed_limits.spec.algorithm == CONCURRENCY:
        held = f"{words.share(use.share)} of that was in use on average"
        return f"The {called} ({allowed}): in “{use.stretch}” {held}, and {got}"
    asked = f"{_asked(use)}{' on average' if use.busiest <= 1 else ''}"
    return f"The {called} ({allowed}): in “{use.stretch}” it was asked {asked}, and {got}"


def _without_need(findings: Findings, use: LimitUse) -> str:
    called, allowed = words.limit_name(use.limit), _allowed(findings, use)
    return (
        f"429s that no limit explains: in “{use.stretch}” {words.share(use.throttled_rate)} of the requests got 429 "
        f"though the {called} ({allowed}) had room for them; it was asked {_asked(use)}. The target has another "
        "reason, or somebody else draws on the limit."
    )


def _capacity(findings: Findings) -> str | None:
    """A stage that was offered more, got no 429 and was slower by far; None where there is none."""
    worst: tuple[float, str] | None = None
    for name, figures in findings.metrics.traffic.items():
        stages = [(stage, part) for stage, part in figures.stages.items() if _median(part) and _rate(part)]
        if len(stages) < 2:
            continue
        calm, least = min(stages, key=lambda one: _rate(one[1]))
        for stage, part in stages:
            grown = _median(part) / _median(least)
            if _rate(part) >= _rate(least) * _MORE and grown >= _SLOWER and grown > (worst[0] if worst else 0):
                worst = (
                    grown,
                    (
                        f"Capacity: at {words.rate(_rate(part))} in “{stage}” the median response time of {name} was "
                        f"{words.times_as(grown)} times that of “{calm}” at {words.rate(_rate(least))}, "
                        "without a 429."
                    ),
                )
    return worst[1] if worst else None


def _median(part: OperationStage) -> float:
    return part.response_time_ms.p50 or 0.0


def _rate(part: OperationStage) -> float:
    return part.operations.offered_rate or 0.0

"""What a record shows of the target that a reader should know whatever the verdict is: a sentence each.

A verdict is on thresholds alone. That executionTimes are impossible, that results are wrong, that one key waits for
the others or that 429s came without need, no threshold may have asked; the first screen says it all the same.
"""

from collections.abc import Iterator
from typing import Final

from loadtest.analysis.findings import Findings
from loadtest.analysis.numbers import count, duration_ms, limit_name, times_as
from loadtest.contract import Reason
from loadtest.report.unexplained import unexplained

_ODD: Final = {
    "negative": "gave an executionTime below zero",
    "longer_than_seen": "gave an executionTime longer than the client waited",
    "wrong_result": "held a result that is not that of what was asked",
}


def about_target(findings: Findings) -> tuple[str, ...]:
    """Every finding about the target as a sentence, keys by their index; empty where there is nothing to say."""
    return tuple(sentence for part in (_shapes, _oddities, _jobs, _refusals, _keys) for sentence in part(findings))


def _shapes(findings: Findings) -> Iterator[str]:
    """Answers without what the contract asks of them, a missing or negative executionTime among them."""
    for name, cell in findings.metrics.traffic.items():
        if wrong := cell.reasons.get(Reason.WRONG_SHAPE):
            yield (
                f"{count(wrong)} of {count(cell.operations.sent)} operations of {name} were answered in another "
                "shape than the documented one: executionTime missing or below zero, or another field amiss."
            )


def _oddities(findings: Findings) -> Iterator[str]:
    for one in findings.oddities:
        worst = "" if one.worst_ms is None else f", at worst {duration_ms(one.worst_ms)}"
        yield f"{count(one.count)} of {count(one.of)} answers {_ODD[one.name]}{worst}."


def _jobs(findings: Findings) -> Iterator[str]:
    ledger = findings.ledger
    for number, words in (
        (ledger.back_to_pending, "came back as pending after they had ended"),
        (ledger.changed, "came back both as completed and as failed"),
        (ledger.duplicated, "got the id of an earlier job"),
        (ledger.lost, "got lost: the target did not know them any more before they were seen to end"),
    ):
        if number:
            yield f"{count(number)} of {count(ledger.submitted)} jobs {words}."


def _refusals(findings: Findings) -> Iterator[str]:
    for name in findings.throttled.limits:
        if (found := unexplained(findings, name)) is not None:
            yield (
                f"{count(found.count)} of {count(found.throttled)} 429s of the {limit_name(name)} came though it had "
                "room, by what is believed of it, and no other known limiter explains them."
            )


def _keys(findings: Findings) -> Iterator[str]:
    for slow in findings.slow_keys:
        share = {"p50": "half", "p95": "5\u00a0%"}[slow.statistic]
        yield (
            f"Key {slow.key} is slower than the others: {share} of its {count(slow.n)} operations of {slow.traffic} "
            f"took {duration_ms(slow.value_ms)} or more, {times_as(slow.factor)} times as long as with all other keys "
            f"({duration_ms(slow.others_ms)})."
        )

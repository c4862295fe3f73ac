"""What a run says nothing about: derived from what it did, so that nobody reads more into a report than is there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from loadtest import words
from loadtest.analysis.findings import Findings
from loadtest.analysis.on_purpose import EXPECTED
from loadtest.analysis.results import JobFigures
from loadtest.contract import LIMIT_NAMES
from loadtest.report.headline import within_limits
from loadtest.stats import QUANTILES, needed

_LONG_S: Final = 3600.0
"""A run that is shorter says nothing of leaks, drift or a day's rhythm."""
_RESOLVED: Final = 0.1
"""A time to result whose bounds lie farther apart than this share of it is not resolved by polling."""


@dataclass(frozen=True)
class NotTested:
    """Something that was not tested, as a noun phrase; and why not, empty where that is plain."""

    what: str
    why: str = ""

    @property
    def words(self) -> str:
        """Both."""
        return f"{self.what}: {self.why}" if self.why else self.what


def not_tested(findings: Findings) -> tuple[NotTested, ...]:
    """What was not tested, the most important first."""
    return tuple(
        NotTested(*phrase.split(": ", 1))
        for found in (_cut_short, _mistakes, _target, _load, _limits, _keys, _percentiles, _polls, _workflows, _length)
        for phrase in found(findings)
    )


def _cut_short(findings: Findings) -> Iterator[str]:
    info, covered = findings.record.info, findings.record.covered_s
    missed = dict.fromkeys(
        stage.name
        for plan in info.traffic.values()
        for stage in plan.stages
        if stage.start_s + stage.duration_s > covered + 1e-6
    )
    if missed and info.end != "finished":
        yield f"all of {_quoted(list(missed))}: the run ended after {words.seconds(covered)}"
    if dropped := findings.metrics.overall.operations.dropped:
        arrivals = (
            "1 arrival that came due and was"
            if dropped == 1
            else f"{words.count(dropped)} arrivals that came due and were"
        )
        yield f"{arrivals} never sent"


def _mistakes(findings: Findings) -> Iterator[str]:
    kinds = {one.kind: False for one in findings.on_purpose if one.kind != EXPECTED}
    for one in findings.on_purpose:
        if one.kind in kinds:
            kinds[one.kind] |= one.sent > one.throttled
    if untested := [kind for kind, tested in kinds.items() if not tested]:
        yield f"how {' and '.join(untested)} {_are(untested)} answered: none was sent, or 429 came first"


def _are(names: Sequence[str]) -> str:
    return "are" if len(names) > 1 else "is"


def _target(findings: Findings) -> Iterator[str]:
    info = findings.record.info
    if info.target.embedded:
        yield "a deployed service and the network to it: the target was the embedded reference API, over loopback"
    if info.target.faults:
        yield "the target without its faults on purpose"


def _load(findings: Findings) -> Iterator[str]:
    stages = [stage for _, stage in findings.record.stages()]
    if not stages:
        return
    if not any(stage.over for stage in stages):
        most = max((use.busiest for use in findings.uses), default=None)
        reached = f": the most that was asked of one is {words.times(most)}" if most is not None and most <= 1 else ""
        yield f"anything planned above the limits{reached}"
    elif not any(within_limits(stage) for stage in stages):
        yield "anything within the limits: every stage was planned above one"
    if len({stage.name for stage in stages}) == 1:
        yield f"any other load: “{stages[0].name}” was the only stage"


def _limits(findings: Findings) -> Iterator[str]:
    record = findings.record
    unused = [
        name for name in LIMIT_NAMES if name in record.assumed_limits.limits and not record.counts.requested(name)
    ]
    if unused and len(unused) < len(LIMIT_NAMES):
        yield f"the {' and '.join(unused)} limit{'s' if len(unused) > 1 else ''}: nothing was asked of {_them(unused)}"
    short = [
        f"{name} ({words.seconds(window)})"
        for name in record.limits()
        if (window := record.assumed_limits.limit_on(name).window) > record.covered_s
    ]
    if short:
        covered = words.seconds(record.covered_s)
        yield f"a whole window of {' and '.join(short)}: the run covers {covered}"
    if findings.expectation.why_not and record.limits():
        yield f"whether 429s were right: {findings.expectation.why_not}"


def _them(names: Sequence[str]) -> str:
    return "them" if len(names) > 1 else "it"


def _keys(findings: Findings) -> Iterator[str]:
    if findings.record.info.keys == 1 and findings.record.info.traffic:
        yield "whether limits are per key: there was one key only"


def _percentiles(findings: Findings) -> Iterator[str]:
    least = needed(QUANTILES["p99"])
    few = {
        name: n for name, figures in findings.metrics.traffic.items() if 0 < (n := figures.response_time_ms.n) < least
    }
    if few:
        counts = ", ".join(f"{name} {words.count(n)}" for name, n in few.items())
        yield f"p99 of response times: it takes {least} of them ({counts})"


def _polls(findings: Findings) -> Iterator[str]:
    vague: dict[str, str] = {}
    for name, figures in findings.metrics.traffic.items():
        if not isinstance(figures, JobFigures):
            continue
        upper, lower = figures.time_to_result_ms.p50, figures.time_to_result_lower_ms.p50
        if upper and lower is not None and upper - lower > _RESOLVED * upper:
            least, most = words.duration_ms(lower), words.duration_ms(upper)
            late = "p50" in figures.time_to_result_ms.at_least
            vague[name] = f"later than {least}, as half or more timed out" if late else f"between {least} and {most}"
    if vague:
        listed = "; ".join(f"{text} ({name})" if len(vague) > 1 else text for name, text in vague.items())
        seen = f"at the median, polling shows only that it was {listed}"
        yield f"when the results of {', '.join(vague)} were ready: {seen}"
    ledger = findings.ledger
    if ledger.pending:
        jobs = "1 job ended: it was" if ledger.pending == 1 else f"{words.count(ledger.pending)} jobs ended: they were"
        yield f"how {jobs} pending when last seen"


def _workflows(findings: Findings) -> Iterator[str]:
    used = {plan.workflow for plan in findings.record.info.traffic.values() if plan.workflow}
    if len(used) == 1:
        yield f"workflows other than {next(iter(used))}"


def _length(findings: Findings) -> Iterator[str]:
    covered = findings.record.covered_s
    if 0 < covered < _LONG_S:
        yield f"drift, leaks and the rhythm of a day: the run covers {words.seconds(covered)}"


def _quoted(names: list[str]) -> str:
    return " and ".join(f"“{name}”" for name in names)

"""A run's facts and caveats, and the properties that it did not test."""

from collections.abc import Iterator, Mapping
from typing import Final

from loadtest.analysis.findings import Findings
from loadtest.analysis.results import ERROR_EXPECTED, JobFigures
from loadtest.analysis.run_record import Record
from loadtest.analysis.validity import describe_worker
from loadtest.assumed_limits import AssumedLimits
from loadtest.contract import ALL, LIMIT_NAMES, POLLED_OPERATIONS
from loadtest.record.run_info import PeerInfo, RunInfo, SourceInfo, TargetInfo
from loadtest.report.deciding import stage_parts
from loadtest.report.page import TERMS, Point
from loadtest.stats.order_statistics import QUANTILES, needed
from loadtest.words import count, counted, duration_ms, joined, quoted, seconds, times

_WELL_KNOWN_S: Final = 0.05
"""A clock offset is shown in ms if its uncertainty is below this many s."""
_PEERS_NAMED: Final = 10
"""At most this many addresses of the target are listed."""
_RESOLVED: Final = 0.1
"""A time to result counts as vague if its bounds differ by more than this share of the upper bound."""
_KNOWN_TO_LOGS: Final = (
    "429", "95 % interval", "accepted", "expected", "fixed window", "goodput", "p50", "p95", "p99", "saturated",
    "sliding log", "token bucket",
)  # fmt: skip
LOG_TERMS: Final[Mapping[str, str]] = {
    **{term: TERMS[term] for term in _KNOWN_TO_LOGS},
    "offered": "Operations in the log.",
    "response time": "Duration of an operation’s request, as the log states it; waits in the client are unknown.",
    "service time": "Duration of a request, as the log states it.",
}
"""Explanations of terms on a log’s page. Terms of schedules, intended starts and jobs are left out: a log has none."""


def facts(record: Record, windows: str = "") -> tuple[tuple[str, str], ...]:
    """Return (label, value) pairs that describe a run."""
    info, target = record.info, record.info.target
    started = info.started.replace("T", " ").replace("Z", " UTC").replace("+00:00", " UTC")
    if info.source is not None:
        log = {**_log_facts(record, info.source), "Started": started, "Covered": seconds(record.covered_s)}
        return (*log.items(), ("Limits assumed", _assumed(target)))
    warmup = max((s.duration_s for t in info.traffic.values() for s in t.stages if s.warmup), default=0.0)
    workers = len(info.worker_processes)
    keys = "1 API key"
    if info.keys != 1:
        own = ", each with limits of its own" if record.assumed_limits.per_key else " that share limits"
        keys = f"{info.keys} API keys{own if info.keys else ''}"
    found = {
        "Target": f"{target.url} ({'embedded target, loopback only' if target.embedded else 'not started by the run'})",
        "Limits assumed": _assumed(target),
        "Deliberate faults": "; ".join(fault.words for fault in target.faults),
        "Scenario": f"{info.scenario.name}, hash {info.scenario.hash}, seed {info.seed}",
        "Started": started,
        "Covered": seconds(record.covered_s) + (f", {seconds(warmup)} of warm-up excluded" if warmup else ""),
        "Load": f"{counted(workers, 'worker') if workers else '1 process'}, {keys}",
        "Workers": "; ".join(map(describe_worker, info.worker_processes)),
        "Connected to": _peers(info.peers),
        "Clock": _clock(info),
        "Windows": windows,
        "Machine": ", ".join(f"{value} cores" if name == "cores" else value for name, value in info.machine.items()),
        "Versions": ", ".join(f"{name} {version}" for name, version in info.versions.items()),
        "Command": " ".join(info.command),
    }
    return tuple((label, value) for label, value in found.items() if value)


def _clock(info: RunInfo) -> str:
    if (clock := info.clock) is None:
        return "not measured"
    if clock.uncertainty_s < _WELL_KNOWN_S:
        return f"server {clock.offset_s * 1e3:+.1f} ± {clock.uncertainty_s * 1e3:.1f} ms from ours"
    return f"server {clock.offset_s:+.2f} ± {clock.uncertainty_s:.2f} s from ours"


def _assumed(target: TargetInfo) -> str:
    try:
        assumed = AssumedLimits.recorded(target)
    except ValueError as error:
        return f"unknown: {error}"
    shared = assumed.limit_all if assumed.one_for_all else None
    named = {ALL: shared} if shared else assumed.limits
    limits = ", ".join(f"{name} {assumed.limit_text(limit)}" for name, limit in named.items())
    return f"{limits}; {assumed.words}"


def _peers(peers: dict[str, PeerInfo]) -> str:
    """Return a target's addresses, the most used first; empty for fewer than two."""
    if len(peers) < 2:
        return ""
    found = []
    for address, peer in sorted(peers.items(), key=lambda one: -one[1].connections):
        failed = f", {count(peer.failed)} failed" if peer.failed else ""
        found.append(f"{address} ({counted(peer.connections, 'connection')}{failed})")
    more = f" and {len(found) - _PEERS_NAMED} more" if len(found) > _PEERS_NAMED else ""
    return ", ".join(found[:_PEERS_NAMED]) + more


def caveats(findings: Findings) -> tuple[Point, ...]:
    """Return the limitations of the figures, with remedies."""
    info, found = findings.record.info, []
    if info.end == "interrupted":
        after = seconds(findings.record.covered_s)
        found.append(f"Interrupted after {after}: rates cover only this time. Repeat the run.")
    if dropped := findings.metrics.overall.operations.dropped:
        found.append(f"{counted(dropped, 'arrival')} dropped for lack of users: raise max_users, or lower the rate.")
    if findings.record.expectation.why_not:
        found.append(f"Unknown whether 429s were expected: {findings.record.expectation.why_not}.")
    for name, figures in findings.metrics.traffic.items():
        if cut := findings.record.cut_off(findings.record.stages(traffic=name)):
            found.append(f"The end of the run cut off {counted(cut, 'operation')} of {name}: allow a longer drain.")
        if number := figures.operations.timed_out - cut:
            jobs = info.traffic[name].operation in POLLED_OPERATIONS
            remedy = "give_up or timeout" if jobs else "timeout"
            timed_out = f"{counted(number, 'operation')} of {name} timed out"
            found.append(f"{timed_out}: figures marked ≥ are lower bounds; raise {remedy}.")
    least = needed(QUANTILES["p95"])
    if few := sum(0 < part.figures.response_time_ms.n < least for part in stage_parts(findings)):
        stages = counted(few, "stage")
        found.append(f"Too few samples for p95 in {stages} ({least} needed): raise the rate, or lengthen the stage.")
    return tuple(map(Point, found))


def not_tested(findings: Findings) -> tuple[Point, ...]:
    """Return properties that a run did not test, or that a log cannot show. Details give the reasons."""
    if source := findings.record.info.source:
        phrases = (*_unknown_to_logs(source), *_rejections(findings))
    else:
        parts = (_missed, _load, _limits, _results, _rejections)
        phrases = tuple(phrase for part in parts for phrase in part(findings))
    return tuple(Point(text, why) for text, _, why in (phrase.partition(": ") for phrase in phrases))


def _missed(findings: Findings) -> Iterator[str]:
    info, covered = findings.record.info, findings.record.covered_s
    stages = (stage for plan in info.traffic.values() for stage in plan.stages if stage.end_s > covered + 1e-6)
    missed = dict.fromkeys(stage.name for stage in stages)
    if missed and info.end != "finished":
        yield f"{quoted(missed)} to the end: the run ended after {seconds(covered)}"
    if dropped := findings.metrics.overall.operations.dropped:
        yield f"{counted(dropped, 'arrival')} that {'was' if dropped == 1 else 'were'} due and never sent"
    kinds = dict.fromkeys(one.kind for one in findings.on_purpose if one.kind != ERROR_EXPECTED)
    tested = {one.kind for one in findings.on_purpose if one.sent > one.throttled}
    if untested := [kind for kind in kinds if kind not in tested]:
        yield f"responses to {joined(untested)}: no such request was sent, or all got 429"
    if info.target.embedded:
        yield "a deployed service and the network to it: the target was the embedded reference API, over loopback"
    if info.target.faults:
        yield "the target without its deliberate faults"


def _load(findings: Findings) -> Iterator[str]:
    parts = stage_parts(findings)
    if not parts:
        return
    if not any(part.key.stage.over for part in parts):
        most = max((use.busiest for use in findings.uses), default=None)
        reached = f": the most used limit reached {times(most)}" if most is not None and most <= 1 else ""
        yield f"load above the limits{reached}"
    elif not any(part.within for part in parts):
        yield "load within the limits: every stage was planned above a limit"
    if len({part.stage for part in parts}) == 1:
        yield f"any other load: “{parts[0].stage}” was the only stage"


def _limits(findings: Findings) -> Iterator[str]:
    record = findings.record
    unused = [n for n in LIMIT_NAMES if n in record.assumed_limits.limits and not record.counts.requested(n)]
    if unused and len(unused) < len(LIMIT_NAMES):
        yield f"the {joined(unused)} limit{'s' if len(unused) > 1 else ''}: never used"
    windows = {name: record.assumed_limits.limit_on(name).window for name in record.limits()}
    if short := [f"{name} ({seconds(window)})" for name, window in windows.items() if window > record.covered_s]:
        yield f"a whole window of {joined(short)}: the run covers {seconds(record.covered_s)}"
    if record.expectation.why_not and windows:
        yield f"whether 429s were right: {record.expectation.why_not}"
    if record.info.keys == 1 and record.info.traffic:
        yield "whether limits are per key: the run used one key"


def _results(findings: Findings) -> Iterator[str]:
    least = needed(QUANTILES["p99"])
    sizes = {name: figures.response_time_ms.n for name, figures in findings.metrics.traffic.items()}
    if few := [f"{name} {count(n)}" for name, n in sizes.items() if 0 < n < least]:
        yield f"p99 of response times: it takes {least} samples ({', '.join(few)})"
    vague: dict[str, str] = {}
    jobs = {name: each for name, each in findings.metrics.traffic.items() if isinstance(each, JobFigures)}
    for name, figures in jobs.items():
        upper, lower = figures.time_to_result_ms.p50, figures.time_to_result_lower_ms.p50
        if upper and lower is not None and upper - lower > _RESOLVED * upper:
            low, late = duration_ms(lower), "p50" in figures.time_to_result_ms.at_least
            vague[name] = f"{low} or more" if late else f"between {low} and {duration_ms(upper)}"
    if vague:
        listed = "; ".join(f"{text} ({name})" if len(vague) > 1 else text for name, text in vague.items())
        exact = f"the exact moment when job results of {joined(list(vague))} became available"
        yield f"{exact}: polling shows only that the median time to result is {listed}"
    if pending := findings.ledger.pending:
        yield f"the end of {counted(pending, 'job')}: pending when last seen"
    used = {plan.workflow for plan in findings.record.info.traffic.values() if plan.workflow}
    if len(used) == 1:
        yield f"workflows other than {next(iter(used))}"
    if 0 < (covered := findings.record.covered_s) < 3600.0:  # s
        yield f"long-term drift, leaks, time-of-day effects: the run lasted {seconds(covered)}"


def _rejections(findings: Findings) -> Iterator[str]:
    found, limits = findings.observed_429, list(findings.observed_429.limits.values())
    if found.why_not is not None:
        yield f"limits and 429s: {found.why_not}"
        return
    rejected = sum(each.throttled for each in limits)
    retry_after = any(each.retry_after.carried for each in limits)
    assumed = all(each.assumed for each in limits)
    has = {
        "limiter, error codes, Retry-After, recovery: no request got 429": rejected,
        f"Retry-After: no 429 carried it ({count(rejected)} in all)": retry_after or not rejected,
        f"wrong decisions: {findings.record.expectation.why_not or 'no limiter is assumed'}": assumed,
        "accepted requests per window: the limiter does not count in windows": any(each.windows for each in limits),
        "rate-limit headers besides Retry-After: no response had any": any(each.headers.n for each in limits),
        "retries: no operation was tried more than once": any(each.operations for each in found.retries.values()),
        "interference: no client sent requests while another was rejected": found.interference or not rejected,
        "requests beyond the first million of a limit: these are only counted": found.complete,
    }
    yield from (phrase for phrase, known in has.items() if not known)


def _log_facts(record: Record, source: SourceInfo) -> dict[str, str]:
    keys = {"header": "API keys", "address": "client addresses", "none": "none; all requests share limits"}[source.key]
    stamps = f"resolution {duration_ms(1e3 * source.grain_s)}, at a request's {source.stamp}"
    return {
        "Log": f"{source.format}, {count(source.lines)} lines: {count(source.unknown_lines)} not understood, "
        f"{count(source.other_lines)} of other paths",
        "Stamps": stamps + ("" if source.zone else ", without a time zone: taken as UTC"),
        "Keys": keys if source.key == "none" else f"{count(record.info.keys)} {keys}, replaced by numbers",
    }


def start_of(record: Record) -> str:
    """Return the term for an operation's beginning. A log has no intended starts."""
    return "start" if record.info.imported else "intended start"


def times_note(source: SourceInfo) -> Point:
    """Return a line that says which times a log has."""
    if source.service_times:
        return Point("Times are the log's durations (service times). They exclude any wait in the client.")
    return Point(
        "The log has no durations, so there are no times.", "nginx: add $request_time; HAProxy: option httplog."
    )


def _unknown_to_logs(source: SourceInfo) -> Iterator[str]:
    if not source.service_times:
        yield "any response time: the log has no durations"
    yield "when clients meant to send: response times exclude the wait before a request was sent"
    yield "how jobs ended: a log names neither a submit's job nor a job's state"
    yield "which retrievals were polls: all count as retrievals"
    yield "requests that did not reach the log"
    if source.coarse:
        yield "the order of requests within a second: stamps are of whole seconds"
    if source.key == "address":
        yield "which requests shared an API key: client addresses replace the keys"
    if source.key == "none":
        yield "whether limits are per key: the log has neither keys nor addresses"

"""JSON messages to the live page. The first message describes the run. Then a message each second has new figures.

The lights check the load generator. They use the limits that decide whether a run is valid.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from loadtest.contract import LIMIT_OF_KIND, OPERATIONS, POLLED_OPERATIONS, Operation, Outcome, RequestKind
from loadtest.load.abort import LiveThreshold
from loadtest.load.engine import LoadGenerator
from loadtest.load.live import PERCENTILES, LiveFigures, RecentTimes
from loadtest.load.session import Session
from loadtest.metrics import METRICS
from loadtest.plan import AssumedLimits
from loadtest.record.effective_scenario import polling
from loadtest.record.generator_limits import (
    CPU_LIMIT,
    CPU_SECONDS,
    DISPATCH_LAG_MS,
    LAG_LIMIT,
    USERS_LIMIT,
    WAITED_SHARE,
    excess_pauses,
    longest_busy,
    pauses_limit,
)
from loadtest.record.progress import Phase
from loadtest.record.run_info import BudgetInfo, BudgetUse, ClockInfo, CpuSample, GeneratorInfo, PauseInfo, RunInfo
from loadtest.threshold import Threshold


class Light(msgspec.Struct, frozen=True):
    """One check of the generator."""

    name: str
    value: str
    limit: str
    ok: bool | None
    """None if there are no data."""


encode = msgspec.json.Encoder().encode


class LiveRun:
    """One run as the live page shows it."""

    def __init__(self, session: Session, generator: LoadGenerator) -> None:
        self.session = session
        self._generator = generator
        thresholds = [each.parsed for each in session.scenario.threshold]
        self._thresholds = [
            (each, LiveThreshold(each, session.info.traffic, session.live) if METRICS[each.metric].live else None)
            for each in thresholds
        ]
        """Each threshold with its live judgement, or with None if its metric is known only at the end."""
        self._elapsed_s = 0.0
        self._shown: dict[str, Any] = {}
        self._clock_known = False

    @property
    def shown(self) -> dict[str, Any]:
        """Description of the run. The start of a limit's windows is known only some time after the epoch."""
        if not self._clock_known:
            # Later the clock's offset becomes more precise, but ``edge_s`` stays, so that windows do not jump.
            self._clock_known = self.session.info.epoch_unix_ns is not None and self._generator.clock is not None
            self._shown = _shown(self.session, self._generator)
        return self._shown

    def update(self, phase: Phase, begin: int | None, report: str) -> dict[str, Any]:
        """Return the current figures, and the tracks from bucket ``begin`` on.

        If ``begin`` is None, return the whole run, which replaces everything sent before. ``report`` is the path of the
        report. The message has no key for an empty value.
        """
        session, info, live = self.session, self.session.info, self.session.live
        series, over, first = live.series, phase == "over", begin or 0
        tracks: dict[tuple[str, ...], Sequence[float | None]] = {**series.counts, **series.gauges}
        if not over and session.epoch_ns:
            self._elapsed_s = session.elapsed_s
        elif not self._elapsed_s:  # no page was open during the run
            self._elapsed_s = series.width_s * max(map(len, tracks.values()), default=0)
        elapsed = self._elapsed_s
        shown = [(name, [_short(each) for each in track[first:]]) for name, track in tracks.items()]
        message = {
            "phase": phase,
            "elapsed_s": round(elapsed, 1),
            "run": self.shown if begin is None else None,
            "end": (f"{info.end}: {info.end_reason}" if info.end_reason else info.end) if over else "",
            "pending_jobs": len(session.recorder.pending),
            "entries": entries_of(session, elapsed),
            "lights": lights(self._generator, live),
            "thresholds": [_threshold(threshold, watched, elapsed) for threshold, watched in self._thresholds],
            "budget": [
                {"name": name, "used": used, "allowed": allowed}
                for name, used, allowed in budget_rows(info.target.budget, self._generator.budget_used)
            ],
            "series": {"begin": first, "width_s": series.width_s, "tracks": shown},
            "report": report,
        }
        return {key: value for key, value in message.items() if value}


def _short(value: float | None) -> float | None:
    return round(value, 2) if isinstance(value, float) else value


def _shown(session: Session, generator: LoadGenerator) -> dict[str, Any]:
    info = session.info
    assumed = AssumedLimits.recorded(info.target)
    kinds = [(name, kind) for name, plan in info.traffic.items() for kind in OPERATIONS[plan.operation]]
    drawn_on = [assumed.drawn_on(LIMIT_OF_KIND[kind]) for _, kind in kinds]
    return {
        "id": info.id,
        "title": info.scenario.title,
        "target": info.target.url,
        "scheduled_s": session.duration,
        "drain_s": session.scenario.drain,
        "percentile_window_s": {name: session.live.entry(name).response_time.window_s for name in info.traffic},
        "traffic": [
            {
                "name": name,
                "operation": plan.operation,
                # Number of the operation's colour on the page, from 1.
                "series": list(Operation).index(plan.operation) + 1,
                "stages": plan.stages,
            }
            for name, plan in info.traffic.items()
        ],
        "flows": [
            {
                "traffic": traffic,
                "kind": kind,
                "called": kind.several,
                "begins": kind == OPERATIONS[info.traffic[traffic].operation][0],
                "limit": limit,
                # Requests per window that the assumed limit accepts, summed over its limiters.
                "count": assumed.limit_on(limit).count * assumed.quotas(info.traffic[traffic].key_count),
                "window_s": assumed.limit_on(limit).window,
                "edge_s": _edge_s(info, assumed, assumed.limit_on(limit).window, generator.clock),
                # Whether requests of another entry or kind also count against the limit.
                "shared": drawn_on.count(limit) > 1,
            }
            for (traffic, kind), limit in zip(kinds, drawn_on, strict=True)
        ],
        "makes_jobs": any(kind == RequestKind.SUBMIT for _, kind in kinds),
        "dispatch_lag_limit_ms": DISPATCH_LAG_MS,
    }


def _edge_s(info: RunInfo, assumed: AssumedLimits, window_s: float, clock: ClockInfo | None) -> float | None:
    """Return the start (s) of the first rate-limit window after the epoch.

    Return None if windows are not aligned to the server's clock, or the clock's offset is unknown.
    """
    if not (assumed.windowed and assumed.spec.on_clock) or info.epoch_unix_ns is None or clock is None:
        return None
    return round((assumed.spec.phase - info.window_phase_s(window_s, clock.offset_s)) % window_s, 3)


def entries_of(session: Session, elapsed: float) -> list[dict[str, Any]]:
    """Return the current figures of all traffic entries. Times are in ms."""
    return [_entry(session.info, name, session.live, elapsed) for name in session.info.traffic]


def _entry(info: RunInfo, name: str, live: LiveFigures, elapsed: float) -> dict[str, Any]:
    figures = live.entry(name)
    seen = figures.total
    jobs = sum(n for cell, n in seen.requests.items() if (cell.kind, cell.outcome) == (RequestKind.SUBMIT, Outcome.OK))
    polls = sum(n for cell, n in seen.requests.items() if cell.kind == RequestKind.POLL)
    polled = info.traffic[name].operation in POLLED_OPERATIONS
    return {
        **msgspec.structs.asdict(figures.progress(info.traffic[name].stage_at(elapsed), live.offered[name])),
        "traffic": name,
        "sent": seen.count("requests.sent"),
        "accepted": seen.count("requests.accepted"),
        "got_429": seen.count("requests.throttled"),
        "response_time": _percentiles("response_time", figures.response_time),
        "execution_time": _percentiles("execution_time", figures.execution_time),
        "polls_per_job": round(polls / jobs, 2) if jobs and polled else None,
        # The polling interval, such as "every 1 s". Empty for operations without polls.
        "polled": polling(info, name).removeprefix("polled "),
    }


def _percentiles(name: str, times: RecentTimes) -> dict[str, float | None]:
    return {percentile: _short(times.quantile(share)) for percentile, share in PERCENTILES[name].items()}


def _threshold(threshold: Threshold, watched: LiveThreshold | None, elapsed: float) -> dict[str, str]:
    value = ""
    judgement = "inconclusive"
    note = "judged in the report"
    if watched is not None:
        value, now = watched.now(elapsed)
        # A metric that only grows may still reach its lower bound later, so "fail" is not shown for it.
        grows = METRICS[threshold.metric].grows and threshold.operator in {">", ">="}
        if threshold.reference is None and threshold.operator != "within" and not (grows and now == "fail"):
            judgement = now
            note = {"pass": "holds so far", "fail": "does not hold", "inconclusive": "too early to judge"}[now]
    return {
        "scope": threshold.scope,
        "text": threshold.text,
        "value": value,
        "judgement": judgement,
        "note": note,
    }


def budget_rows(bounds: BudgetInfo | None, used: BudgetUse) -> list[tuple[str, float, float | None]]:
    """Return each part of a request budget with its used and allowed amount. Without a budget, there are no parts."""
    if bounds is None:
        return []
    rows: list[tuple[str, float, float | None]] = [
        ("operations", used.operations, bounds.max_operations),
        ("requests", used.requests, bounds.max_requests),
        ("executions", used.executions, None),
    ]
    if bounds.price_per_execution is not None:
        rows.append(("cost", round(used.executions * bounds.price_per_execution, 6), bounds.max_cost))
    return rows


def lights(generator: LoadGenerator, live: LiveFigures) -> list[Light]:
    """Return the checks that are possible during a run."""
    processes = generator.generators
    workers = [one for one in processes if one.worker]
    # A master offers no arrivals itself.
    sending = workers or processes
    waited, offered = sum(pool.waited for one in sending for pool in one.pools.values()), live.offered.total()
    enough = waited <= WAITED_SHARE * offered if offered else None
    p99 = live.dispatch_lag_ms(0.99)
    lag, prompt = ("nothing sent", None) if p99 is None else (f"{p99:.2f} ms", p99 <= DISPATCH_LAG_MS)
    found = [
        Light("dispatch lag p99", lag, LAG_LIMIT, prompt),
        _cpu(generator.cpu),
        _pauses("event loop", sending, lambda one: one.stalls),
        _pauses("garbage collection", sending, lambda one: one.collections),
        Light("users", f"{waited:,} arrivals waited", USERS_LIMIT, enough),
    ]
    if live.bottleneck:
        found.insert(0, Light("generator", live.bottleneck, "", ok=False))
    if workers:
        lost = sum(one.lost for one in workers)
        found.append(Light("workers", f"{len(workers) - lost} of {len(workers)} connected", "none lost", not lost))
    return found


def _cpu(cpu: list[CpuSample]) -> Light:
    if not cpu:
        return Light("generator CPU", "no data yet", CPU_LIMIT, None)
    newest = max(sample.t_s for sample in cpu)
    recent = [sample for sample in cpu if sample.t_s > newest - 60]
    now = max(sample.percent for sample in recent if sample.t_s > newest - 1)
    peak = max(sample.percent for sample in recent)
    return Light("generator CPU", f"{now:.0f} %, peak {peak:.0f} %", CPU_LIMIT, longest_busy(recent) < CPU_SECONDS)


def _pauses(name: str, sending: list[GeneratorInfo], get: Callable[[GeneratorInfo], PauseInfo]) -> Light:
    worst = max(sending, key=lambda one: excess_pauses(one, get))
    pauses = get(worst)
    value = f"longest {pauses.longest_ms:.0f} ms, {pauses.total_ms:.0f} ms in all" if pauses.count else "none long"
    return Light(name, value, pauses_limit(worst.watched_s), excess_pauses(worst, get) <= 1)

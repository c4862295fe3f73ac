"""What was loaded, with what, and by what; and the warnings that belong beside the numbers."""

from typing import Final

from loadtest.analysis import numbers
from loadtest.analysis.findings import Findings
from loadtest.analysis.record import Record
from loadtest.analysis.validity import all_workers
from loadtest.plan import ALL, AssumedLimits
from loadtest.record.run_info import PeerInfo, TargetInfo

_WELL_KNOWN_S: Final = 0.05
"""Uncertainty of the server's clock below which it is told in ms."""
_PEERS_NAMED: Final = 10
"""Addresses of a target that are listed."""


def facts(record: Record) -> tuple[tuple[str, str], ...]:
    """(label, value) pairs that say what a run was."""
    info = record.info
    where = "embedded target, loopback only" if info.target.embedded else "not started by the run"
    warmup = max((s.duration_s for t in info.traffic.values() for s in t.stages if s.warmup), default=0.0)
    keys = "1 API key" if info.keys == 1 else f"{info.keys} API keys"
    if info.keys > 1:
        keys += ", each with limits of its own" if record.belief.per_key else " that share limits"
    processes = "1 process"
    if info.crew:
        processes = "1 worker" if len(info.crew) == 1 else f"{len(info.crew)} workers"
    clock = "not measured"
    if info.clock is not None:
        offset, reach = info.clock.offset_s, info.clock.uncertainty_s
        clock = f"server {offset:+.2f} ± {reach:.2f} s from ours"
        if reach < _WELL_KNOWN_S:
            clock = f"server {offset * 1e3:+.1f} ± {reach * 1e3:.1f} ms from ours"
    found = [
        ("Target", f"{info.target.url} ({where})"),
        ("Limits believed", _limits(info.target)),
        ("Faults on purpose", "; ".join(fault.words for fault in info.target.faults)),
        ("Scenario", f"{info.scenario.name}, hash {info.scenario.hash}, seed {info.seed}"),
        ("Started", info.started.replace("T", " ").replace("Z", " UTC").replace("+00:00", " UTC")),
        ("Covered", f"{numbers.seconds(record.covered_s)}, of which {_warmup(warmup)}"),
        ("Load", f"{keys}, made by {processes}"),
        ("Workers", all_workers(info)),
        ("Connected to", _peers(info.peers)),
        ("Clock", clock),
        (
            "Machine",
            ", ".join(f"{value}" if name != "cores" else f"{value} cores" for name, value in info.machine.items()),
        ),
        ("Versions", ", ".join(f"{name} {version}" for name, version in info.versions.items())),
        ("Command", " ".join(info.command)),
    ]
    return tuple((label, value) for label, value in found if value)


def _limits(target: TargetInfo) -> str:
    try:
        belief = AssumedLimits.recorded(target)
    except ValueError as error:
        return f"unknown: {error}"
    named = {ALL: belief.limit_all} if belief.limit_all is not None and belief.one_for_all else belief.limits
    limits = ", ".join(f"{name} {numbers.limit_of(limit, belief)}" for name, limit in named.items())
    return f"{limits}; {belief.words}"


def _peers(peers: dict[str, PeerInfo]) -> str:
    """The addresses of a target that has several; nothing of one that has a single one."""
    if len(peers) < 2:
        return ""
    found = []
    for address, peer in sorted(peers.items(), key=lambda one: -one[1].connections):
        made = "1 connection" if peer.connections == 1 else f"{numbers.count(peer.connections)} connections"
        found.append(f"{address} ({made}{f', {numbers.count(peer.failed)} failed' if peer.failed else ''})")
    more = f" and {len(found) - _PEERS_NAMED} more" if len(found) > _PEERS_NAMED else ""
    return ", ".join(found[:_PEERS_NAMED]) + more


def _warmup(seconds: float) -> str:
    return f"{numbers.seconds(seconds)} warm-up are in no figure" if seconds else "none is warm-up"


def notes(findings: Findings) -> tuple[str, ...]:
    """Sentences that a reader of the numbers has to know."""
    info, overall = findings.record.info, findings.metrics.overall
    found = []
    if info.end == "interrupted":
        found.append(
            f"The run was interrupted after {numbers.seconds(findings.record.covered_s)}; rates are over that time."
        )
    if dropped := overall.operations.dropped:
        arrivals = (
            "1 arrival was dropped: it" if dropped == 1 else f"{numbers.count(dropped)} arrivals were dropped: they"
        )
        found.append(f"{arrivals} came due, and nothing was free to send {'it' if dropped == 1 else 'them'}.")
    if findings.expectation.why_not:
        found.append(f"No 429 could be expected or ruled out: {findings.expectation.why_not}.")
    for name, cell in findings.metrics.traffic.items():
        if late := cell.operations.timed_out:
            timed_out = f"1 operation of {name} timed out. It counts with the time it took"
            if late > 1:
                timed_out = f"{numbers.count(late)} operations of {name} timed out. They count with the time they took"
            found.append(f"{timed_out}, so that figures marked ≥ are lower bounds.")
    return tuple(found)

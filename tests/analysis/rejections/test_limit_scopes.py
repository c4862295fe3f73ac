"""Expected 429s of every limiter and scope, over records that were made by the very limiters."""

import heapq
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugins import record_maker as maker

from loadtest.analysis.findings import find
from loadtest.analysis.rejections.phases import boundaries
from loadtest.analysis.rejections.usage import limit_uses
from loadtest.analysis.run_record import Record, load_record
from loadtest.contract import LIMIT_NAMES
from loadtest.limits import ALGORITHMS, SCOPES, Limiter
from loadtest.plan import AssumedLimits
from loadtest.record.run_info import ClockInfo, PreflightRequest, RunInfo, TargetInfo
from loadtest.report.facts import facts
from loadtest.report.limits import bottleneck
from loadtest.report.plots import limits
from loadtest.units import Limit

KINDS = {"sync_run": "run", "async_submit": "submit", "retrieval": "retrieve"}
OPERATIONS = {"sync_run": "sync_run", "async_submit": "async_run", "retrieval": "retrieval"}
SECONDS, KEYS = 24, 2
Slot = tuple[float, int, Limiter]


def run_of(scope: str, **target: Any) -> RunInfo:
    """A run of three entries against limits of 12 in 3 s, or 30 in 3 s for all together."""
    info: RunInfo = maker.info(
        {op: maker.plan(op, [maker.stage("above", 0, SECONDS, 8)]) for op in OPERATIONS.values()},
        keys=KEYS,
        clock=ClockInfo(offset_s=0.1, uncertainty_s=0.4, answers=9),
        target=TargetInfo(
            url="http://127.0.0.1:1",
            embedded=True,
            limits={name: Limit(12, 3.0) for name in LIMIT_NAMES},
            limit_scope=scope,
            limit_all=Limit(30, 3.0) if scope in ("key", "global") else None,
            **target,
        ),
    )
    return info


def requests(run: RunInfo, *, shift_s: float = 0.3, held_s: float = 6.0) -> list[Any]:
    """What clients of two keys send at random, decided on by the assumed limiters on a server's clock."""
    chance = random.Random(7)
    table = AssumedLimits.recorded(run.target).limiters(KEYS)
    spent = [r.unix_s for r in run.preflight]
    for at in spent:
        table[LIMIT_NAMES.index("retrieval")][0].decide(at + shift_s)
    rows, running, time, serial = [], list[Slot](), 0.0, 0
    while (time := time + chance.expovariate(24)) < SECONDS:
        name, key, took = chance.choice(LIMIT_NAMES), chance.randrange(KEYS), chance.uniform(0.1, held_s)
        while running and running[0][0] <= time:
            ended, _, limiter = heapq.heappop(running)
            limiter.release(maker.EPOCH / 1e9 + ended + shift_s)
        limiter = table[LIMIT_NAMES.index(name)][key]
        allowed = limiter.decide(maker.EPOCH / 1e9 + time + shift_s).allowed
        serial += 1
        if allowed:
            heapq.heappush(running, (time + took, serial, limiter))
        fate = {} if allowed else {"status": 429, "outcome": "throttled", "reason": "throttled"}
        common = {"operation": OPERATIONS[name], "stage": "above", "key_index": key, **fate}
        end = (time + (took if allowed else 0.001)) * 1e3
        rows.append(maker.request(OPERATIONS[name], serial, time * 1e3, end, kind=KINDS[name], **common))
        rows.append(maker.operation(OPERATIONS[name], serial, time * 1e3, end, **common))
    return rows


def record_of(directory: Path, run: RunInfo, **how: Any) -> Record:
    """The record of such a run."""
    return load_record(maker.save(directory / "run", run, requests(run, **how)))


@pytest.mark.parametrize(
    ("name", "scope", "other"),
    [(name, scope, (n + place) % 2 == 1) for n, name in enumerate(ALGORITHMS) for place, scope in enumerate(SCOPES)],
)
def test_what_a_limiter_refused_is_what_is_expected_of_it(tmp_path, name, scope, other):
    """Two keys, three limit names: every decision is predicted, whoever shares a limiter with whom.

    Each algorithm in each scope; in every other one refused requests count, windows have a phase, and it rounds down,
    where they can.
    """
    each = ALGORITHMS[name]
    how = {"count_rejected": other and each.can_count_rejected, "round_down": other and each.can_round_down}
    phase = 1.2 if other and each.aligned else 0.0
    record = record_of(tmp_path, run_of(scope, limiter=name, phase=phase, **how))
    found = record.expectation
    assert found.agreement == 1.0
    observed = (record.requests["status"] == 429).mean()
    assert found.rejected.mean() == pytest.approx(observed)
    assert 0.02 < observed < 1
    # The server's clock is ours plus 0.3 s, which only windows and refills on its clock tell.
    assert (found.clock_shift_s is not None) == record.assumed_limits.spec.on_clock
    server = boundaries(record, 3.0) + maker.EPOCH / 1e9 + (found.clock_shift_s or 0)
    assert len(server) == (SECONDS // 3 if each.aligned else 0)
    assert np.allclose((server - phase + 1.5) % 3, 1.5)


@pytest.mark.parametrize("scope_assumed", SCOPES)
def test_another_scope_does_not_explain_what_was_seen(tmp_path: Path, scope_assumed: str) -> None:
    """Where all share one limiter, a belief in any other scope predicts less."""
    run = run_of("global", limiter="sliding-log")
    rows = requests(run)
    run.target.limit_scope = scope_assumed
    found = load_record(maker.save(tmp_path / "run", run, rows)).expectation
    assert (found.agreement == 1.0) == (scope_assumed == "global")


def test_only_valid_requests_may_draw(tmp_path: Path) -> None:
    """Where a target looks at a request first, one that is answered 400 or 404 spent nothing, on purpose or not."""
    run = run_of("key-and-name", draws="valid")
    rows = [maker.request("sync_run", k, k * 10, k * 10 + 1, status=404, outcome="failed") for k in range(20)]
    rows += [maker.request("sync_run", k, k * 10, k * 10 + 1, mistake="invalid_body", status=400) for k in range(20)]
    rows += [maker.request("sync_run", k, 500 + k * 10, 501 + k * 10) for k in range(13)]
    found = load_record(maker.save(tmp_path / "valid", run, rows)).expectation
    assert np.isnan(found.rejected).sum() == 40
    assert np.nansum(found.rejected) == 1
    run.target.draws = "all"
    found = load_record(maker.save(tmp_path / "all", run, rows)).expectation
    assert np.nansum(found.rejected) == 53 - 12


@pytest.mark.parametrize(("scope", "counted"), [("key-and-name", 10), ("key", 10), ("name", 20), ("global", 20)])
def test_what_a_preflight_sent_counts_with_those_it_shared_with(tmp_path: Path, scope: str, counted: int) -> None:
    """Ten requests of each of two keys, 1 s before the epoch, spend the quotas of their own key or of both."""
    before = maker.EPOCH / 1e9 - 1
    sent = [PreflightRequest(limit="retrieval", kind="retrieve", key_index=k % 2, unix_s=before) for k in range(20)]
    run = run_of(scope, limiter="sliding-log")
    run.preflight = sent
    common = {"operation": "retrieval", "kind": "retrieve", "stage": "above", "key_index": 0}
    rows = [maker.request("retrieval", k, k, k + 1, **common) for k in range(40)]
    allowed = 30 if scope in ("key", "global") else 12
    found = load_record(maker.save(tmp_path / "run", run, rows)).expectation
    assert np.nansum(found.rejected) == 40 - max(0, allowed - counted)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_slot_is_held_by_whom_a_replay_lets_pass(tmp_path: Path, scope: str) -> None:
    """On a slow network a replay confuses who passes, but not how many: one that was refused would have taken long.

    What is sent reaches the server up to 5 ms later, and so do answers us.
    """
    chance, run = random.Random(3), run_of(scope, limiter="concurrency")
    table, rows, running, time = AssumedLimits.recorded(run.target).limiters(KEYS), [], list[Slot](), 0.0
    for number in range(SECONDS * 40):
        time += chance.expovariate(40)
        place, key, took = chance.randrange(3), chance.randrange(KEYS), chance.uniform(0.5, 4.0)
        while running and running[0][0] <= time:
            heapq.heappop(running)[2].release(0.0)
        allowed = table[place][key].decide(0.0).allowed
        if allowed:
            heapq.heappush(running, (time + took, number, table[place][key]))
        sent, end = time - chance.uniform(0, 0.005), time + took * allowed + chance.uniform(0, 0.005)
        common = {"operation": OPERATIONS[LIMIT_NAMES[place]], "kind": KINDS[LIMIT_NAMES[place]], "stage": "above"}
        status = 200 if allowed else 429
        rows.append(
            maker.request(common["operation"], number, sent * 1e3, end * 1e3, key_index=key, status=status, **common)
        )
    record = load_record(maker.save(tmp_path / "run", run, rows))
    found = record.expectation
    assert found.agreement < 1
    assert found.rejected.mean() == pytest.approx((record.requests["status"] == 429).mean(), abs=0.015)


def test_use_is_that_of_the_limits_in_force(tmp_path: Path) -> None:
    """Of 8 requests a second on each name by two keys: of 4/s for each key, of 4/s for each name, of 10/s for all."""
    shares = {
        scope: {use.limit: use.share for use in limit_uses(record_of(tmp_path / scope, run_of(scope)))}
        for scope in SCOPES
    }
    assert {scope: list(share) for scope, share in shares.items()} == {
        "key-and-name": list(LIMIT_NAMES), "key": ["all"], "name": list(LIMIT_NAMES), "global": ["all"],
    }  # fmt: skip
    assert shares["key-and-name"]["sync_run"] == pytest.approx(8 / 4 / 2, rel=0.15)
    assert shares["name"]["sync_run"] == 2 * shares["key-and-name"]["sync_run"]
    assert shares["global"]["all"] == pytest.approx(24 / 10, rel=0.15)
    assert shares["key"]["all"] == shares["global"]["all"] / 2


def test_use_of_a_limit_on_concurrency_is_its_slots_in_use(tmp_path: Path) -> None:
    """Three requests of 4 s each in 24 s, of twelve that may be answered at the same time: a 24th."""
    run = run_of("key-and-name", limiter="concurrency")
    rows = [maker.request("sync_run", k, k * 5000, k * 5000 + 4000, stage="above") for k in range(3)]
    rows.append(maker.request("sync_run", 3, 100, 9000, stage="above", status=429))
    (use,) = maker.findings(tmp_path / "run", run, rows).uses
    assert use.share == pytest.approx(3 * 4 / 24 / 12)
    assert use.throttled == 1


@pytest.mark.parametrize(
    ("scope", "target", "said"),
    [
        ("global", {"limiter": "gcra", "burst": 3}, ("all 30 per 3 s; a GCRA of 3 at once, over all requests",)),
        ("key", {"limiter": "concurrency"}, ("all 30 at the same time; a limit on requests at the same time",)),
        ("name", {"limiter": "sliding-log", "count_rejected": True}, ("a sliding log that counts rejected requests",)),
        ("name", {"limiter": "sliding-counter"}, ("2 API keys that share limits",)),
        ("planet", {}, ("unknown: 'planet' is not a limit scope",)),
    ],
)
def test_a_report_says_which_limiter_is_assumed(tmp_path, scope, target, said):
    """Algorithm and scope in plain words, where limits are listed and beside the picture of expected 429s."""
    run = run_of(scope if scope in SCOPES else "name", **target)
    rows = requests(run)
    run.target.limit_scope = scope
    directory = maker.save(tmp_path / "run", run, rows)
    findings = find(load_record(directory))
    drawings = [limits.draw_rates(findings), limits.draw_429_rate(findings)]
    text = " ".join(value for _, value in facts(findings.record)) + " ".join(each.caption for each in drawings)
    assert all(each in text for each in said)
    assert "None" not in text + bottleneck(findings)
    assert "key-and-name" not in text

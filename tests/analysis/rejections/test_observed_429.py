from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from plugins import record_maker as maker

from loadtest.analysis.rejections.observed_429 import Observed429, look_into
from loadtest.analysis.rejections.recovery import readings
from loadtest.analysis.run_record import load_record
from loadtest.record.run_info import TargetInfo
from loadtest.record.samples import Sample
from loadtest.units import Limit

EPOCH_S = 1_753_000_000.25


def look(directory: Path, rows: list[Sample], traffic: dict[str, Any], **changes: Any) -> Observed429:
    """What is told of a record of these rows."""
    record = load_record(maker.save(directory, maker.info(traffic, **changes), rows))
    return look_into(record)


def above(seconds: float = 150, **more: Any) -> tuple[list[Sample], dict[str, Any]]:
    """Runs at two and a half times their limit, against fixed windows."""
    traffic = {"t": maker.plan("sync_run", [maker.stage("above", 0, seconds, 250 / 60)])}
    return maker.Simulation(traffic, **more).run(), traffic


def requests(rows: list[Sample]) -> list[Sample]:
    """The requests among some rows, in order of sending."""
    return sorted((row for row in rows if row.row == "request"), key=lambda row: row.start or 0)


def tell_waits(rows: list[Sample], off_s: float, *, date: bool = False) -> None:
    """Put the true wait into every 429, rounded up, and so much off."""
    passes = [(row.start or 0) / 1e9 for row in requests(rows) if row.status != 429]
    for row in requests(rows):
        if row.status == 429:
            end = (row.end or 0) / 1e9
            again = next((each for each in passes if each > end), end + 30)
            row.retry_after = (
                formatdate(int(EPOCH_S + again + off_s) + 1, usegmt=True)
                if date
                else str(max(0, int(again - end + off_s) + 1))
            )


def test_saturated_windows_show_the_limit(tmp_path: Path) -> None:
    """Each whole window lets its limit pass, cut-off ones are left out, and twice as much may pass in between."""
    found = look(tmp_path / "run", *above()).limits["sync_run"].accepted
    windows = found.counts
    assert 1 <= windows.whole == windows.saturated < windows.windows <= 4
    assert windows.spread == (100, 100.0, 100)
    assert windows.over == 0
    assert 100 < windows.most_in_any <= 200


def test_another_limit_shows_in_the_windows(tmp_path: Path) -> None:
    """A server that lets 80 pass is found out by its windows and by what is inferred."""
    told = look(tmp_path / "run", *above(260, limits={**maker.DOCUMENTED, "sync_run": (80, 60.0)}))
    found = told.limits["sync_run"]
    assert found.windows.seems == 80
    assert found.inference.other_count == 80
    assert found.assumed.wrongly_rejected > 100


@pytest.mark.parametrize("date", [False, True], ids=["seconds", "date"])
def test_an_honest_wait_is_called_true(tmp_path: Path, date: bool) -> None:
    """Rounded up to whole seconds, in either form."""
    rows, traffic = above()
    tell_waits(rows, 0.05 if date else 0.0, date=date)
    found = look(tmp_path / "run", rows, traffic).limits["sync_run"].retry_after
    assert found.carried == found.n == (found.dates if date else found.seconds)
    assert found.judged > 50
    assert found.honest == found.judged
    assert found.early_s is found.late_s is None


@pytest.mark.parametrize("off", [-8.0, 8.0])
def test_a_wait_that_is_off_is_found_out(tmp_path: Path, off: float) -> None:
    """Too short or too long, by how much, against the next request that passed."""
    rows, traffic = above()
    tell_waits(rows, off)
    found = look(tmp_path / "run", rows, traffic).limits["sync_run"].retry_after
    wrong, spread = (found.early, found.early_s) if off < 0 else (found.late, found.late_s)
    assert wrong > 0.7 * found.judged
    assert spread[2] == pytest.approx(abs(off), abs=1.5)
    assert (found.late if off < 0 else found.early) == 0


def test_a_burst_in_unknown_order_contradicts_no_wait(tmp_path: Path) -> None:
    """Forty requests within 60 ms: what was sent first and got 429 may have arrived last."""
    rows = []
    for k in range(40):
        refused = {"status": 429, "outcome": "throttled", "reason": "throttled", "retry_after": "10"}
        rows += maker.both("t", k, k * 1.5, k * 1.5 + 50, **(refused if k < 20 else {}))
    traffic = {"t": maker.plan("sync_run", [maker.stage("within", 0, 30, 1)], offered=40)}
    found = look(tmp_path / "run", rows, traffic).limits["sync_run"].retry_after
    assert (found.n, found.judged, found.early, found.late) == (20, 0, 0, 0)


def test_retry_after_is_read_in_every_form() -> None:
    """Seconds, a date, neither; the last place stands for no header."""
    waits, dates = readings(["12", " 3 ", "Sun, 06 Nov 1994 08:49:37 GMT", "soon", "-1", "1.5"])
    assert waits[:2].tolist() == [12, 3]
    assert dates[2] == 784111777
    assert [place for place in range(7) if waits[place] != waits[place] and dates[place] != dates[place]] == [
        3,
        4,
        5,
        6,
    ]


@pytest.mark.parametrize(
    "form",
    [
        "x-ratelimit-limit: 100\nx-ratelimit-remaining: {}",
        'ratelimit-policy: "default";q=100;w=60\nratelimit: "default";r={};t=9',
    ],
    ids=["x-ratelimit", "ietf"],
)
def test_headers_that_promise_more_than_there_is_are_found_out(tmp_path: Path, form: str) -> None:
    """What remains is read in both forms; a promise that the next request refutes is untrue, a true one is not."""
    rows, traffic = above()
    sent = requests(rows)
    for row, after in zip(sent, [*sent[1:], sent[-1]], strict=True):
        row.end = min(row.end or 0, (row.start or 0) + 10_000_000)
        row.rate_limit = form.format(0 if after.status == 429 else 3)
    honest = look(tmp_path / "a", rows, traffic).limits["sync_run"].headers
    assert honest.remaining == honest.n == len(sent)
    assert honest.counts == {"100": len(sent)}
    assert honest.held > 0.9 * len(sent)
    assert honest.untrue == 0
    for row in sent:
        row.rate_limit = form.format(3)
    lying = look(tmp_path / "b", rows, traffic).limits["sync_run"].headers
    assert lying.untrue == sum(row.status == 429 for row in sent[1:])


def test_nothing_recovers_within_a_burst(tmp_path: Path) -> None:
    """Of 60 requests within 30 ms every second got 429; only the request after ten seconds shows when they end."""
    throttled = {"status": 429, "outcome": "throttled", "reason": "throttled"}
    rows = [maker.request("t", k, k / 2, k / 2 + 1, **(throttled if k % 2 else {})) for k in range(60)]
    rows.append(maker.request("t", 60, 10_000, 10_001))
    traffic = {"t": maker.plan("sync_run", [maker.stage("above", 0, 30, 2)])}
    recovery = look(tmp_path / "run", rows, traffic).limits["sync_run"].recovery
    assert (recovery.limiters, recovery.recovered, recovery.spells) == (1, 1, 1)
    assert recovery.first_s == recovery.spell_s
    assert recovery.spell_s[0] > 9.9


def test_recovery_is_the_time_until_a_request_passes_again(tmp_path: Path) -> None:
    """From the first 429 to the next request that passed, and how long the spells were."""
    times = [(0, 200), (1, 200), (2, 429), (3, 429), (7, 200), (8, 429), (9, 200), (10, 429)]
    rows = [
        maker.request("t", k, t * 1e3, t * 1e3 + 2, status=status, outcome="ok" if status == 200 else "throttled")
        for k, (t, status) in enumerate(times)
    ]
    found = look(tmp_path / "run", rows, {"t": maker.plan("sync_run", [maker.stage("within", 0, 12, 1)])})
    recovery = found.limits["sync_run"].recovery
    assert (recovery.limiters, recovery.recovered, recovery.spells) == (1, 1, 3)
    assert recovery.first_s == (5.0, 5.0, 5.0)
    assert recovery.spell_s == (1.0, 3.0, 5.0)


def test_operations_that_tried_again_have_figures_of_their_own(tmp_path: Path) -> None:
    """Attempts, what became of them, and how long success took."""
    rows = [
        maker.operation("t", 0, 0, 5),
        maker.operation("t", 1, 10, 1510, attempt=3),
        maker.operation("t", 2, 20, 2520, attempt=2),
        maker.operation("t", 3, 30, 4030, attempt=4, outcome="throttled", status=429),
        *(maker.request("t", k, k * 10, k * 10 + 5) for k in range(4)),
    ]
    run = maker.info({"t": maker.plan("sync_run", [maker.stage("within", 0, 6, 1)], offered=4)})
    found = maker.findings(tmp_path / "run", run, rows).observed_429.retries["t"]
    assert (found.operations, found.attempts, found.ok, found.throttled) == (3, 9, 2, 1)
    assert found.time_to_success_ms.n == 2
    assert found.time_to_success_ms.max == 2500


@pytest.mark.parametrize("shared", [True, False])
def test_a_limit_that_is_shared_unsaid_is_felt(tmp_path: Path, shared: bool) -> None:
    """Look-ups that draw on the runs' limit are refused while runs are, which the assumed scope cannot explain."""
    traffic = {
        "runs": maker.plan("sync_run", [maker.stage("above", 0, 300, 3)]),
        "lookups": maker.plan("retrieval", [maker.stage("above", 0, 300, 1)]),
    }
    simulation = maker.Simulation(traffic)
    if shared:
        simulation.limiters["retrieval"] = simulation.limiters["sync_run"]
    told = look(tmp_path / "run", simulation.run(), traffic)
    touch = next(each for each in told.interference if each.party == "runs")
    assert touch.while_rejected[0] > 50
    assert bool(touch.felt) == shared
    if shared:
        assert touch.while_rejected[2] > 50


@pytest.mark.parametrize("harm", ["nothing", "times", "errors"])
def test_what_others_feel_beside_429s(tmp_path: Path, harm: str) -> None:
    """A victim that is slowed 4.4 times, or fails more often, feels its aggressor, without a 429 of its own."""
    rows = []
    for k in range(200):
        beside = k >= 100
        took = 44 if beside and harm == "times" else 10
        fate = {} if harm != "errors" or not beside or k % 3 else {"status": 500, "outcome": "failed"}
        common = {"stage": "beside" if beside else "alone", "key_index": 0, "execution_time_ms": took - 2.0, **fate}
        rows += maker.both("victim", k, k * 500, k * 500 + took + k % 7 / 10, **common)
    for k in range(500):
        fate = {} if k < 100 else {"status": 429, "outcome": "throttled", "reason": "throttled"}
        common = {"stage": "beside", "key_index": 1, **fate}
        at = 50_000 + k * 100
        rows += maker.both("aggressor", k, at, at + 1, **common)
    traffic = {
        "victim": maker.plan("sync_run", [maker.stage("alone", 0, 50, 2), maker.stage("beside", 50, 50, 2)]),
        "aggressor": maker.plan("sync_run", [maker.stage("beside", 50, 50, 10)]),
    }
    told = look(tmp_path / "run", rows, traffic, keys=2)
    (touch,) = told.interference  # its key is the same client
    assert touch.party == "aggressor"
    assert touch.felt is (harm != "nothing")
    assert not touch.rejections_felt
    assert touch.others.more_errors == (harm == "errors")
    slower = [(one.time, one.traffic, one.statistic, round(one.factor, 1)) for one in touch.others.slower]
    both = [("execution_time", "victim", "p50", 5.2), ("service_time", "victim", "p50", 4.3)]
    assert slower == (both if harm == "times" else [])


def test_without_a_429_there_is_nothing_to_infer(tmp_path: Path) -> None:
    """No 429: counts are there, and no limiter is named."""
    traffic = {"t": maker.plan("sync_run", [maker.stage("within", 0, 30, 1)])}
    found = look(tmp_path / "run", maker.Simulation(traffic).run(), traffic).limits["sync_run"]
    assert found.inference.word == "nothing"
    assert found.throttled == found.recovery.limiters == found.retry_after.n == 0
    assert found.codes == {}
    assert found.assumed.right == 30


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    """No request, no epoch, a limiter that nobody knows: no error, and no invented answer."""
    rows, traffic = above()
    assert look(tmp_path / "a", [], traffic).why_not == "no request was sent"
    assert "epoch" in str(look(tmp_path / "b", rows, traffic, epoch_unix_ns=None).why_not)
    limits = {name: Limit(n, w) for name, (n, w) in maker.DOCUMENTED.items()}
    target = TargetInfo(url="http://127.0.0.1:1", embedded=False, limits=limits, limiter="oracle")
    found = look(tmp_path / "c", rows, traffic, target=target).limits["sync_run"]
    assert found.assumed is None
    assert found.inference.named[0].spec.algorithm == "fixed-window"


def test_error_codes_and_json(tmp_path: Path) -> None:
    """429s are counted by code, those without one too; metrics.json has it all under one key."""
    rows, traffic = above()
    for place, row in enumerate(row for row in requests(rows) if row.status == 429):
        row.error_code = "quota" if place % 3 else None
    found = maker.findings(tmp_path / "run", maker.info(traffic), rows)
    observed = found.observed_429.result()
    limit = observed.limits["sync_run"]
    assert limit.codes == {"quota": limit.throttled - limit.codes["none"], "none": -(-limit.throttled // 3)}
    assert limit.inferred.verdict == "named"
    assert limit.inferred.named[0].limiter == "fixed-window"
    assert observed.complete


def test_the_verdict_does_not_rest_on_it(tmp_path: Path) -> None:
    """A server with another limiter than was assumed is named, and the verdict is what thresholds say."""
    rows, traffic = above(limits={**maker.DOCUMENTED, "sync_run": (80, 60.0)})
    found = maker.findings(tmp_path / "run", maker.info(traffic), rows)
    assert found.observed_429.limits["sync_run"].inference.other_count == 80
    assert found.verdict.word == "pass"

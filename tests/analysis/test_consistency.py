"""A record is believed only as far as it is consistent: a contradiction ends in ``invalid`` or in a one-line error."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from plugins import record_maker as maker

from loadtest.analysis.findings import as_json, find
from loadtest.analysis.run_record import load_record
from loadtest.errors import LoadtestError, RecordError
from loadtest.record import run_directory
from loadtest.record.run_info import TrafficPlan
from loadtest.record.samples import Sample

Change = Callable[[list[Sample]], None]
N = 80


def rows_of() -> list[Sample]:
    """80 sync runs; row 2k + 1 is the request of arrival k, row 2k + 2 its operation."""
    return [
        row
        for k in range(N)
        for row in (
            maker.request("t", k, k * 100, k * 100 + 50, execution_time_ms=40.0),
            maker.operation("t", k, k * 100, k * 100 + 50, execution_time_ms=40.0, key_index=0),
        )
    ]


def written(directory: Path, rows: list[Sample], offered: int = N) -> Path:
    """A run directory of these rows."""
    return maker.save(directory / "run", maker.info({"t": plan_of(offered)}, samples=len(rows)), rows)


def plan_of(offered: int = N) -> TrafficPlan:
    """The entry that they are of."""
    return maker.plan("sync_run", [maker.stage("within", 0, 8, 10)], offered=offered)


def set_to(place: int, /, **values: Any) -> Change:
    """Another value in a row, which is counted from 1."""

    def change(rows: list[Sample]) -> None:
        for name, value in values.items():
            setattr(rows[place - 1], name, value)

    return change


def again(number: int, **values: Any) -> Change:
    """The same operation once more, at the end."""

    def change(rows: list[Sample]) -> None:
        copy = {name: getattr(rows[2 * number + 1], name) for name in Sample.__struct_fields__}
        rows.append(Sample(**{**copy, **values}))

    return change


def request_again(number: int, place: int) -> Change:
    """The request of an arrival once more, before the row at a place."""
    return lambda rows: rows.insert(place, maker.request("t", number, number * 100, number * 100 + 50))


WRONG: dict[str, tuple[Change, str]] = {
    "two outcomes": (again(5, outcome="failed"), "1 row that gives an arrival a second outcome (row 161)"),
    "the same twice": (again(79), "1 row that gives an arrival a second outcome (row 161)"),
    "far arrival": (set_to(2, arrival=10**13), "1 row that belongs to an arrival that was never due (row 2)"),
    "arrival below 0": (set_to(2, arrival=-5), "1 row that belongs to an arrival that was never due (row 2)"),
    "no arrival": (set_to(2, arrival=None), "1 row that is an operation without arrival (row 2)"),
    "no intended start": (set_to(2, intended_start=None), "an operation without intended start (row 2)"),
    "end before start": (set_to(4, end=0), "1 row that ended before it began (row 4)"),
    "answer before question": (set_to(3, end=0), "1 row that ended before it began (row 3)"),
    "ok without start": (set_to(2, start=None), "1 row that is ok but has no start or no end (row 2)"),
    "ok without end": (set_to(2, end=None), "1 row that is ok but has no start or no end (row 2)"),
    "request ok without end": (set_to(1, end=None), "1 row that is ok but has no start or no end (row 1)"),
    "timed out without end": (set_to(2, outcome="timed_out", end=None), "1 row that timed out but has no end (row 2)"),
    "time beyond reason": (set_to(2, end=2**62), "1 row that has a time more than 104 days from the epoch (row 2)"),
    "NaN": (set_to(2, execution_time_ms=float("nan")), "1 row that has a time that is not a number (row 2)"),
    "infinite": (set_to(1, connect_ms=float("inf")), "1 row that has a time that is not a number (row 1)"),
    "outcome": (set_to(2, outcome="splendid"), "1 row that has no known outcome (row 2)"),
    "outcome of a request": (set_to(1, outcome="splendid"), "1 row that has no known outcome (row 1)"),
    "kind": (set_to(1, kind="frob"), "1 row that is a request of no known kind (row 1)"),
    "foreign kind": (set_to(1, kind="poll"), "1 row that is a kind of request that its operation never sends (row 1)"),
    "row": (set_to(1, row="frob"), "1 row that is neither an operation nor a request (row 1)"),
    "traffic": (set_to(2, traffic="frob"), "has a traffic entry or a stage that is not in the run (row 2)"),
    "stage": (set_to(2, stage="frob"), "has a traffic entry or a stage that is not in the run (row 2)"),
    "no stage": (set_to(2, stage=None), "has a traffic entry or a stage that is not in the run (row 2)"),
    "set-up of an arrival": (set_to(1, stage="setup"), "a stage that is not in the run (row 1)"),
    "operation": (set_to(2, operation="frob"), "1 row that has an operation other than its traffic entry's (row 2)"),
    "reason": (set_to(2, reason="frob"), "1 row that has an unknown reason (row 2)"),
    "mistake": (set_to(2, mistake="frob"), "1 row that has an unknown mistake (row 2)"),
    "no operation": (set_to(1, parent_arrival=None), "1 row that is a request without an operation (row 1)"),
    "answer after its end": (set_to(1, first_byte=10**12), "has moments in an impossible order (row 1)"),
    "freed after its start": (set_to(4, user_free=10**12), "has moments in an impossible order (row 4)"),
    "another stage": (set_to(2, intended_start=-(10**9)), "1 row that was due outside its stage (row 2)"),
    "connected at once": (set_to(1, connect_ms=-1.0), "1 row that has a negative time to connect (row 1)"),
    "refused with 200": (set_to(2, outcome="throttled"), "1 row that is throttled but has no 429 (row 2)"),
    "status": (set_to(1, status=5000), "1 row that has a status that is not an HTTP status (row 1)"),
    "status and ok": (set_to(2, status=999), "1 row that is ok but has a status above 599 (row 2)"),
    "worker": (set_to(1, worker=7), "1 row that is from a worker that is not in the run (row 1)"),
    "request twice": (request_again(0, 0), "an arrival with more requests than attempts and polls (row 3)"),
    "request later": (request_again(3, 160), "an arrival with more requests than attempts and polls (row 8)"),
    "later than its requests": (
        set_to(2, end=6 * 10**7),
        "1 row that ended after its last request although it did not time out (row 2)",
    ),
    "key": (set_to(1, key_index=3), "1 row that used a key other than the one key of the run (row 1)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_row_that_cannot_be_true_makes_a_run_invalid(tmp_path: Path, name: str) -> None:
    """The reason says what, how many and which; the rest of the record still gives figures."""
    change, words = WRONG[name]
    rows = rows_of()
    change(rows)
    found = find(load_record(written(tmp_path, rows)))
    assert found.verdict.word == "invalid"
    assert any(words in reason for reason in found.verdict.reasons)
    made = json.loads(as_json(found))
    assert [row for one in made["inconsistencies"] for row in one["rows"]]
    assert made["traffic"]["t"]["response_time_ms"]["n"] >= N - 1


def test_more_arrivals_than_were_due_are_counted_and_named(tmp_path: Path) -> None:
    """Ten operations and their requests: all are counted, the first of them named."""
    found = find(load_record(written(tmp_path, rows_of(), offered=N - 10)))
    assert found.verdict.statement.startswith(
        "the record cannot be true: it has 20 rows, each of which belongs to an arrival that was never due "
        "(the first are rows 141, 142, 143, 144, 145)"
    )


RUN: dict[str, tuple[dict[str, Any], str]] = {
    "epoch": ({"epoch_unix_ns": 0}, "the epoch was in 1970"),
    "keys": ({"keys": 0}, "there were 0 keys"),
    "workers": ({"workers": 0}, "there were 0 workers"),
    "longer stage": (
        {"traffic": {"t": maker.plan("sync_run", [maker.stage("within", 0, 80, 10)], offered=N)}},
        "stage within of t lasted until 80.0 s, but its last arrival was due at 7.9 s",
    ),
}


@pytest.mark.parametrize("name", RUN)
def test_a_run_file_that_contradicts_the_record_makes_a_run_invalid(tmp_path: Path, name: str) -> None:
    """Rates and counts would be of another length of time, or of nothing."""
    changes, words = RUN[name]
    info = msgspec.structs.replace(maker.info({"t": plan_of()}, samples=2 * N), **changes)
    found = find(load_record(maker.save(tmp_path / "run", info, rows_of())))
    assert found.verdict.word == "invalid"
    assert words in found.verdict.statement


def test_a_record_without_contradiction_is_valid(tmp_path: Path) -> None:
    """Nothing is named where nothing is wrong; samples and run.json are all that a report needs."""
    directory = written(tmp_path, rows_of())
    assert sorted(path.name for path in directory.iterdir()) == ["run.json", "samples.arrows"]
    found = find(load_record(directory))
    assert found.verdict.word == "pass"
    assert json.loads(as_json(found))["inconsistencies"] == []


def test_a_users_own_class_may_send_more_requests_than_attempts(tmp_path: Path) -> None:
    """Its ``perform`` decides what an operation sends; ``attempt`` counts only those of a retry policy."""
    rows = rows_of()
    request_again(3, 0)(rows)
    directory = written(tmp_path, rows)
    info = run_directory.load(directory)
    info.scenario.effective["traffic"] = {"t": {"user": "patient:PatientUser"}}
    run_directory.save(info, directory)
    assert find(load_record(directory)).verdict.word == "pass"


@pytest.mark.parametrize("value", [1.5e308, 1e12, -1.5e308])
def test_an_execution_time_beyond_reason_is_the_targets(tmp_path: Path, value: float) -> None:
    """It is an anomaly of the target's: counted, and in no percentile or mean."""
    rows = rows_of()
    for place in (1, 2, 3, 4):
        set_to(place, execution_time_ms=value)(rows)
    found = find(load_record(written(tmp_path, rows)))
    assert found.verdict.word == "pass"
    assert [(one.name, one.count, one.possible) for one in found.anomalies] == [
        ("no_time" if value > 0 else "negative", 2, N)
    ]
    summary = json.loads(as_json(found))["traffic"]["t"]["execution_time_ms"]
    assert summary["n"] == N - 2
    assert summary["mean"] == 40


def _set(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        part: Any = content
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = to

    return change


_STAGE = ("traffic", "t", "stages", 0)
DAMAGED: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "no count": (_set("target", "limits", "sync_run", "count", to=0), "`int` >= 1 - at `$.target.limits[...].count`"),
    "no window": (_set("target", "limits", "sync_run", "window_s", to=0), "at `$.target.limits[...].window_s`"),
    "limit": (_set("target", "limits", "frob", to={"count": 1, "window_s": 1}), "'frob' is not a limit"),
    "burst": (_set("target", "burst", to=0), "at `$.target.burst`"),
    "no duration": (_set(*_STAGE, "duration_s", to=0), "at `$.traffic[...].stages[0].duration_s`"),
    "endless": (_set(*_STAGE, "duration_s", to=1e300), "at `$.traffic[...].stages[0].duration_s`"),
    "rate": (_set(*_STAGE, "rate", to=-5), "at `$.traffic[...].stages[0].rate`"),
    "offered": (_set("traffic", "t", "offered", to=-4), "at `$.traffic[...].offered`"),
    "elapsed": (_set("elapsed_s", to=-1e300), "at `$.elapsed_s`"),
    "epoch": (_set("epoch_unix_ns", to=10**30), "at `$.epoch_unix_ns`"),
    "clock": (_set("clock", "uncertainty_s", to=-1), "at `$.clock.uncertainty_s`"),
    "threshold": (_set("scenario", "effective", "threshold", to=["x"]), "`$.scenario.effective.threshold`"),
    "no requirement": (_set("scenario", "effective", "threshold", to=[{"a": 1}]), "missing required field `require`"),
    "text": (_set("scenario", "effective", "threshold", to=[{"require": "x"}]), "'x' is not a threshold"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_run_file_that_cannot_be_true_is_a_one_line_error(tmp_path: Path, name: str) -> None:
    """It names where; exit code 3, or 2 for a threshold that cannot be read."""
    change, words = DAMAGED[name]
    directory = written(tmp_path, rows_of())
    content = json.loads((directory / "run.json").read_text())
    change(content)
    (directory / "run.json").write_text(json.dumps(content))
    with pytest.raises(LoadtestError) as caught:
        find(load_record(directory))
    assert words in caught.value.message
    assert "\n" not in caught.value.message


def test_two_stages_of_one_name_are_refused(tmp_path: Path) -> None:
    """Which of them a row belongs to, nobody could say."""
    stage = maker.stage("within", 0, 10, 8)
    directory = maker.save(tmp_path / "run", maker.info({"t": maker.plan("sync_run", [stage, stage])}), [])
    with pytest.raises(RecordError, match="two stages have the name 'within'"):
        load_record(directory)


def test_many_missing_arrivals_take_no_memory(tmp_path: Path) -> None:
    """Ten million million arrivals that were due and left no row: invalid, at once."""
    found = find(load_record(written(tmp_path, rows_of(), offered=10**13)))
    assert found.metrics.overall.operations.lost == 10**13 - N
    assert found.verdict.word == "invalid"

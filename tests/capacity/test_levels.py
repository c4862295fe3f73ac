"""The constraint of a level, read from its ``metrics.json``."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadtest.capacity.results import Constraint, Level, read_level
from loadtest.contract import LimitName
from loadtest.errors import RecordError
from loadtest.scenario import Scenario

WRITTEN: dict[str, Any] = {
    "title": "t",
    "traffic": {
        "jobs": {
            "operation": "async_run",
            "workflow": "echo",
            "stages": [{"name": "steady", "rate": "2/s", "duration": "10s"}],
        }
    },
    "threshold": [{"require": "requests.throttled == 0"}],
}
SCENARIO = Scenario.model_validate(WRITTEN)
BROKEN = [{"require": "requests.throttled == 0", "judgement": "fail"}]


def read(
    folder: Path,
    *,
    thresholds: list[Any],
    refused: dict[str, int],
    error_rate: float = 0.0,
    verdict: str = "fail",
    scenario: Scenario = SCENARIO,
) -> Level:
    """The level of a run that sent a hundred requests on each of two limits."""
    limits = [{"limit": name, "sent": 100, "throttled": refused.get(name, 0)} for name in ("async_submit", "retrieval")]
    metrics = {
        "verdict": verdict,
        "validity": [{"name": "dispatch lag p99", "ok": verdict != "invalid"}],
        "thresholds": thresholds,
        "limits": limits,
        "overall": {"requests": {"sent": 200}},
        "traffic": {"jobs": {"stages": {"steady": {"error_rate": error_rate}}}},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return read_level(folder, name="levels/01", multiplier=1.5, stage="steady", scenario=scenario)


@pytest.mark.parametrize(
    ("refused", "error_rate", "constraint", "limit"),
    [
        ({"async_submit": 30, "retrieval": 10}, 0.0, Constraint.LIMIT, LimitName.ASYNC_SUBMIT),
        ({"retrieval": 10}, 0.0, Constraint.POLL_BUDGET, LimitName.RETRIEVAL),
        ({}, 0.5, Constraint.ERRORS, None),
        ({}, 0.0, Constraint.SERVICE, None),
    ],
)
def test_the_constraint_of_a_level(
    tmp_path: Path, refused: dict[str, int], error_rate: float, constraint: Constraint, limit: LimitName | None
) -> None:
    """The limit with most rejections, else errors, else waiting in the service."""
    level = read(tmp_path, thresholds=BROKEN, refused=refused, error_rate=error_rate)
    assert (level.outcome, level.constraint, level.limit) == ("breaks", constraint, limit)
    assert level.broken[0] == "requests.throttled == 0"


def test_a_level_whose_generator_was_late_says_nothing_of_the_service(tmp_path: Path) -> None:
    """Whatever its thresholds."""
    level = read(tmp_path, thresholds=BROKEN, refused={"retrieval": 10}, verdict="invalid")
    assert (level.outcome, level.constraint, level.broken) == ("invalid", Constraint.GENERATOR, ("dispatch lag p99",))


def test_a_level_that_holds_is_stopped_by_nothing(tmp_path: Path) -> None:
    """Rejections that the threshold allows make a limit no constraint."""
    passed = [{"require": "requests.throttled_rate < 0.2", "judgement": "pass"}]
    level = read(tmp_path, thresholds=passed, refused={"retrieval": 10}, verdict="pass")
    assert (level.outcome, level.constraint) == ("holds", None)
    assert level.limits[LimitName.RETRIEVAL].throttled_rate == 0.1


def test_a_threshold_that_cannot_be_judged_is_no_broken_one(tmp_path: Path) -> None:
    """Too few values: the level neither holds nor breaks, unless another threshold fails."""
    unsure = {"require": "response_time.p95 < 1s", "judgement": "inconclusive"}
    level = read(tmp_path, thresholds=[unsure], refused={}, verdict="inconclusive")
    assert (level.outcome, level.constraint, level.broken) == ("inconclusive", None, ("response_time.p95 < 1s",))
    assert read(tmp_path, thresholds=[unsure, *BROKEN], refused={}).outcome == "breaks"


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """One error that names it."""
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(RecordError, match=r"metrics\.json cannot be read"):
        read_level(tmp_path, name="", multiplier=1.0, stage="steady", scenario=SCENARIO)

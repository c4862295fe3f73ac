"""Records of unusual runs, for tests of reports."""

from typing import Any

from plugins import record_maker as maker


def one_stage(rows: list[Any], seconds: float = 3, **changes: Any) -> tuple[Any, list[Any]]:
    """Return a run of one sync entry with these rows."""
    entry = maker.plan("sync_run", [maker.stage("within", 0, seconds, 1)], offered=changes.pop("offered", None))
    return maker.info({"t": entry}, **changes), rows


def records() -> dict[str, tuple[Any, list[Any]]]:
    """Return the records of unusual runs, by name."""
    fate = {"status": None, "outcome": "failed", "reason": "connection_refused", "error_code": None}
    quick = maker.Simulation({"t": maker.plan("sync_run", [maker.stage("within", 0, 3, 40)])})
    quick_rows = quick.run()
    return {
        "one operation": one_stage(maker.both("t", 0, 0, 5)),
        "three seconds": (maker.info(quick.traffic), quick_rows),
        "no success": one_stage(
            [maker.request("t", k, k * 10, k * 10 + 1, **fate) for k in range(20)]
            + [maker.operation("t", k, k * 10, k * 10 + 1, **fate) for k in range(20)]
        ),
        "all dropped": one_stage([maker.operation("t", 0, 0, None, start_ms=None, outcome="dropped", status=None)]),
        "nothing at all": one_stage([], elapsed_s=0.0, epoch_unix_ns=None, clock=None, end="aborted"),
        "killed": (maker.info(quick.traffic, end="running", elapsed_s=None, ended=None), quick_rows[:100]),
        "no traffic": (maker.info({}), []),
    }

"""A run's figures for a notebook: everything that is found out about it, and ``metrics.json`` as a tidy table."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from loadtest.analysis.findings import Findings, find
from loadtest.analysis.record import load_record
from loadtest.record import run_directory

_NOT_FIGURES = ("statuses", "reasons", "stages")


def understand(run: str | Path, reports: Path = Path("reports")) -> Findings:
    """Everything that the analysis finds out about a run: what plots are drawn of.

    Args:
        run: a run directory, a run's id, or ``latest``.
        reports: where ids are looked up.

    Raises:
        InputError: if there is no such run.
        RecordError: if it cannot be read as a record.
    """
    return find(load_record(run_directory.find_run(str(run), reports)))


def metrics(run: str | Path | Findings, reports: Path = Path("reports")) -> pd.DataFrame:
    """A run's figures, one a row: those of ``metrics.json``, computed from the record.

    Columns: ``traffic`` (``overall`` for all together), ``stage`` (empty for all of them), ``metric`` and
    ``statistic`` (as a threshold names them: ``response_time`` and ``p95``; times are in ms, rates per second, shares
    from 0 to 1), ``value`` (NaN where there is none or n can't carry it), ``low`` and ``high`` (95 % interval of a
    percentile, sampling only), ``n`` (values behind a time), ``at_least`` (whether it reaches a time-out, so that the
    value is a lower bound).

    Args:
        run: a run directory, a run's id, ``latest``, or what ``understand`` found.
        reports: where ids are looked up.

    Raises:
        InputError: if there is no such run.
        RecordError: if it cannot be read as a record.
    """
    found = run if isinstance(run, Findings) else understand(run, reports)
    cells = {"overall": found.metrics["overall"], **found.metrics["traffic"]}
    rows = [
        {"traffic": name, "stage": stage, **row}
        for name, whole in cells.items()
        for stage, cell in {"": whole, **whole["stages"]}.items()
        for row in _rows(cell)
    ]
    columns = ["traffic", "stage", "metric", "statistic", "value", "low", "high", "n", "at_least"]
    table = pd.DataFrame(rows, columns=columns)
    numbers = ["value", "low", "high", "n"]
    return table.astype(dict.fromkeys(numbers, "float64"))


def _rows(cell: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, found in cell.items():
        if name in _NOT_FIGURES:
            continue
        if not isinstance(found, dict):
            yield {"metric": name, "statistic": "", "value": found, "at_least": False}
            continue
        for statistic, value in found.items():
            if statistic in ("n", "at_least") or statistic.endswith("_interval"):
                continue
            low, high = found.get(f"{statistic}_interval") or (None, None)
            yield {
                "metric": name.removesuffix("_ms"), "statistic": statistic, "value": value, "low": low, "high": high,
                "n": found.get("n"), "at_least": statistic in found.get("at_least", ()),
            }  # fmt: skip

"""A run for a notebook: what is found out about it, and its figures as a tidy table."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from loadtest.analysis.findings import Findings, find
from loadtest.analysis.record import load_record
from loadtest.analysis.results import CountedFigures, OperationFigures, OverallFigures, Result, Summary
from loadtest.metrics import STATISTICS, UNITS
from loadtest.record import run_directory


def understand(run: str | Path, reports: Path = Path("reports")) -> Findings:
    """Everything that the analysis finds out about a run, by its directory, its id below ``reports`` or as ``latest``.

    Raises:
        InputError: if there is no such run.
        RecordError: if it cannot be read as a record.
    """
    return find(load_record(run_directory.find_run(str(run), reports)))


def metrics(run: str | Path | Findings, reports: Path = Path("reports")) -> pd.DataFrame:
    """A run's figures, one a row: those of ``metrics.json``, computed from the record.

    Columns: ``traffic`` (``overall`` for all together), ``stage`` (empty for all of them), ``metric`` and
    ``statistic`` (as a threshold names them: ``response_time`` and ``p95``), ``unit`` (``ms``, ``1/s``, ``share`` from
    0 to 1, or empty for a number), ``value`` (NaN where there is none or samples are too few), ``low`` and ``high``
    (95 % interval of a percentile, sampling only), ``n`` (values behind a time), ``at_least`` (whether it reaches a
    time-out, so that the value is a lower bound).

    Args:
        run: a run directory, a run's id, ``latest``, or what ``understand`` found.
        reports: where ids are looked up.

    Raises:
        InputError: if there is no such run.
        RecordError: if it cannot be read as a record.
    """
    found = run if isinstance(run, Findings) else understand(run, reports)
    wholes: dict[str, OverallFigures | OperationFigures] = {"overall": found.metrics.overall, **found.metrics.traffic}
    rows = [
        {"traffic": name, "stage": stage, **row}
        for name, whole in wholes.items()
        for stage, figures in {"": whole, **whole.stages}.items()
        for row in _rows(figures)
    ]
    columns = ["traffic", "stage", "metric", "statistic", "unit", "value", "low", "high", "n", "at_least"]
    table = pd.DataFrame(rows, columns=columns)
    numbers = ["value", "low", "high", "n"]
    return table.astype(dict.fromkeys(numbers, "float64"))


def _rows(figures: CountedFigures) -> Iterator[dict[str, Any]]:
    for field in figures.__struct_fields__:
        name, found = field.removesuffix("_ms"), getattr(figures, field)
        unit = "ms" if field.endswith("_ms") else _unit(name)
        if isinstance(found, Summary):
            for statistic in STATISTICS:
                one = found.get(statistic)
                low, high = one.interval or (None, None)
                bounds = {"value": one.value, "low": low, "high": high, "n": found.n, "at_least": one.at_least}
                yield {"metric": name, "statistic": statistic, "unit": unit, **bounds}
        elif isinstance(found, Result):
            for part, value in msgspec.structs.asdict(found).items():
                unit = _unit(f"{name}.{part}")
                yield {"metric": name, "statistic": part, "unit": unit, "value": value, "at_least": False}
        elif found is None or isinstance(found, int | float):
            yield {"metric": name, "statistic": "", "unit": unit, "value": found, "at_least": False}


def _unit(metric: str) -> str:
    """The unit of a metric that is no time; what was expected of one has its unit."""
    return {"per_s": "1/s", "share": "share"}.get(UNITS.get(metric.replace("expected_", ""), "number"), "")

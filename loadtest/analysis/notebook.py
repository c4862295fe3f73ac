"""A run for a notebook: its samples as a DataFrame with derived columns, and its figures as a tidy table.

Nothing else here reads a record's samples whole.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa

from loadtest.analysis import times
from loadtest.analysis.findings import Findings, find
from loadtest.analysis.record import load_record
from loadtest.analysis.results import STATISTICS, Figures, OperationFigures, OverallFigures, Result, Summary
from loadtest.contract import LIMIT_OF_KIND, LIMIT_OF_OPERATION, Operation, Outcome
from loadtest.record import run_directory, samples
from loadtest.record.run_info import RunInfo

_NUMBERS: Final = (
    "intended_start", "user_free", "start", "first_byte", "end", "accepted_start", "accepted_end", "pending_seen",
    "arrival", "parent_arrival", "status", "poll", "attempt", "key_index", "execution_time_ms",
)  # fmt: skip


def read(run: str | Path, reports: Path = Path("reports")) -> pd.DataFrame:
    """Read a run's samples, one row for each operation and each request, with derived columns.

    Beside the columns of ``loadtest.record.samples.Sample`` there are ``limit`` (the limit name that it draws on),
    ``warmup``, ``in_figures`` (whether its stage is one that is judged: neither warm-up nor the set-up before the
    epoch), ``second`` (of the intended start), and in ms ``response_time_ms``, ``dispatch_lag_ms``,
    ``overhead_ms``, ``submit_ms``, ``time_to_result_ms``, ``time_to_result_lower_ms``, ``queue_wait_lower_ms``,
    ``queue_wait_upper_ms``, ``poll_lag_upper_ms`` (operations), ``service_time_ms`` (requests) and ``start_lag_ms``
    (both).

    Args:
        run: a run directory, a run's id, or ``latest``.
        reports: where ids are looked up.

    Raises:
        InputError: if there is no such run.
        RecordError: if it cannot be read as a record.
    """
    directory = run_directory.find_run(str(run), reports)
    info = run_directory.load(directory)
    table = pa.Table.from_batches(samples.read_batches(directory), samples.SCHEMA).cast(samples.PLAIN_SCHEMA)
    return _derive(table.to_pandas(), info)


def _derive(frame: pd.DataFrame, info: RunInfo) -> pd.DataFrame:
    """Add the derived columns. Null times become NaN: 2^53 ns is 104 days, so nothing is lost."""
    for name in _NUMBERS:
        frame[name] = frame[name].astype("float64")
    operation = (frame["row"] == "operation").to_numpy()
    frame["limit"] = frame["kind"].map(LIMIT_OF_KIND).fillna(frame["operation"].map(LIMIT_OF_OPERATION))
    warmup = {(name, stage.name): stage.warmup for name, plan in info.traffic.items() for stage in plan.stages}
    pairs = list(zip(frame["traffic"], frame["stage"], strict=True))
    frame["warmup"] = np.fromiter((warmup.get(pair, False) for pair in pairs), bool, len(frame))
    # A stage that no plan names is the set-up: jobs that were seeded before the epoch.
    frame["in_figures"] = np.fromiter((not warmup.get(pair, True) for pair in pairs), bool, len(frame))
    frame["second"] = frame["intended_start"] // 1e9
    start, end, intended = frame["start"], frame["end"], frame["intended_start"]
    frame["response_time_ms"] = ((end - intended) / 1e6).where(operation)
    frame["service_time_ms"] = ((end - start) / 1e6).where(~operation)
    frame["start_lag_ms"] = (start - intended) / 1e6
    free = np.fmax(intended, frame["user_free"])
    frame["dispatch_lag_ms"] = ((start - free) / 1e6).where(operation)
    synchronous, asynchronous = (
        (frame["operation"] == name) & operation for name in (Operation.SYNC_RUN, Operation.ASYNC_RUN)
    )
    accepted = (frame["accepted_end"] - frame["accepted_start"]) / 1e6
    whole = ((end - start) / 1e6).where(asynchronous)
    frame["overhead_ms"] = accepted.where(synchronous).fillna(whole) - frame["execution_time_ms"]
    frame["submit_ms"] = accepted.where(asynchronous)
    frame["time_to_result_ms"] = frame["response_time_ms"].where(asynchronous)
    lower = (frame["pending_seen"] - intended) / 1e6
    frame["time_to_result_lower_ms"] = lower.clip(lower=0.0).where(asynchronous)
    ended = asynchronous & (frame["outcome"] == Outcome.OK) & frame["mistake"].isna()
    seen = ("pending_seen", "accepted_start", "accepted_end", "end", "execution_time_ms")
    least, most = times.bounds(*(frame[name].to_numpy(float) for name in seen))
    frame["queue_wait_lower_ms"] = np.where(ended, least, np.nan)
    frame["queue_wait_upper_ms"] = np.where(ended, most, np.nan)
    frame["poll_lag_upper_ms"] = ((end - frame["pending_seen"]) / 1e6).where(ended)
    return frame


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
    from 0 to 1), ``value`` (NaN where there is none or samples are too few), ``low`` and ``high`` (95 % interval of a
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
    wholes: dict[str, OverallFigures | OperationFigures] = {"overall": found.metrics.overall, **found.metrics.traffic}
    rows = [
        {"traffic": name, "stage": stage, **row}
        for name, whole in wholes.items()
        for stage, figures in {"": whole, **whole.stages}.items()
        for row in _rows(figures)
    ]
    columns = ["traffic", "stage", "metric", "statistic", "value", "low", "high", "n", "at_least"]
    table = pd.DataFrame(rows, columns=columns)
    numbers = ["value", "low", "high", "n"]
    return table.astype(dict.fromkeys(numbers, "float64"))


def _rows(figures: Figures) -> Iterator[dict[str, Any]]:
    for field in figures.__struct_fields__:
        name, found = field.removesuffix("_ms"), getattr(figures, field)
        if isinstance(found, Summary):
            for statistic in STATISTICS:
                one = found.get(statistic)
                low, high = one.interval or (None, None)
                bounds = {"value": one.value, "low": low, "high": high, "n": found.n, "at_least": one.at_least}
                yield {"metric": name, "statistic": statistic, **bounds}
        elif isinstance(found, Result):
            for part, value in msgspec.structs.asdict(found).items():
                yield {"metric": name, "statistic": part, "value": value, "at_least": False}
        elif found is None or isinstance(found, int | float):
            yield {"metric": name, "statistic": "", "value": found, "at_least": False}

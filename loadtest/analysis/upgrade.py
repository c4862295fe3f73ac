"""Records of version 1, brought to what version 2 notes on operation rows.

Version 1 left it to the reader to join operations with their requests. Such records were small, so this reads the
whole of one into memory; those of the present version pass through untouched.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa

from loadtest.record import samples

_KEY: Final = ["traffic", "parent_arrival"]
_TERMINAL: Final = ("completed", "failed")
_NEEDED: Final = (
    "row", "traffic", "operation", "arrival", "parent_arrival", "kind", "outcome", "start", "end", "job_state",
)  # fmt: skip


def read_upgraded(directory: Path) -> Iterator[pa.RecordBatch]:
    """Yield a record's batches in the present schema, with all that operation rows can tell.

    Raises:
        RecordError: if there is no record, or it is something else.
    """
    if samples.version(directory) != 1:
        yield from samples.read_batches(directory)
        return
    table = pa.Table.from_batches(samples.read_batches(directory), samples.SCHEMA).unify_dictionaries()
    found = _from_requests(table.select(list(_NEEDED)).to_pandas())
    for name in ("accepted_start", "accepted_end", "pending_seen"):
        column = pa.array(found[name], pa.int64(), from_pandas=True)
        table = table.set_column(table.schema.get_field_index(name), samples.SCHEMA.field(name), column)
    yield from table.to_batches()


def _from_requests(frame: pd.DataFrame) -> pd.DataFrame:
    """``accepted_start``, ``accepted_end`` and ``pending_seen`` of every row, null on those of requests."""
    operations = frame["row"] == "operation"
    index = pd.MultiIndex.from_frame(frame.loc[operations, ["traffic", "arrival"]].astype({"traffic": str}))
    requests = frame[~operations & frame["start"].notna() & (frame["outcome"] == "ok")].astype({"traffic": str})

    def of_last(rows: pd.DataFrame, column: str) -> "pd.Series[float]":
        last = rows.sort_values("start", kind="stable").groupby(_KEY, sort=False)[column].last()
        return pd.Series(last.reindex(index).to_numpy(dtype=float), index=frame.index[operations])

    accepted = requests[requests["kind"] != "poll"]
    seen = requests[(requests["kind"] == "poll") & ~requests["job_state"].isin(_TERMINAL)]
    submits = requests[requests["kind"] == "submit"]
    found = pd.DataFrame(index=frame.index)
    found["accepted_start"] = of_last(accepted, "start")
    found["accepted_end"] = of_last(accepted, "end")
    pending = of_last(seen, "start").fillna(of_last(submits, "start"))
    found["pending_seen"] = pending.where(frame["operation"] == "async_run")
    return found

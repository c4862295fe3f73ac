"""What an operation row learns from the rows of its requests: overhead, submit, and the bounds of a result's time."""

from typing import Final

import pandas as pd

_KEY: Final = ["traffic", "parent_arrival"]
_TERMINAL: Final = ("completed", "failed")


def add_request_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Add ``overhead_ms``, ``submit_ms``, ``time_to_result_ms`` and ``time_to_result_lower_ms`` to operation rows.

    - ``overhead_ms`` is the accepted run's service time − executionTime for ``sync_run``, and for ``async_run`` the
      whole of the operation from its first byte on − executionTime: submit, queue, poll lag. A retrieval has none:
      its executionTime is the job's, spent before the request.
    - ``submit_ms`` is the service time of the submit that was answered with success.
    - A result is ready somewhere between the *start* of the last request that still saw the job pending (its submit,
      if no poll did: the server may have looked any time after that) and the end of the poll that saw it terminal.
    """
    operations = frame["row"] == "operation"
    index = pd.MultiIndex.from_frame(frame.loc[operations, ["traffic", "arrival"]])
    sent = frame[(frame["row"] == "request") & frame["start"].notna()]
    answered = sent[sent["outcome"] == "ok"]

    def on_operations(rows: pd.DataFrame, column: str) -> pd.Series:
        """The column of each operation's last such request, in the order of the operations' rows."""
        last = rows.sort_values("start", kind="stable").groupby(_KEY, sort=False)[column].last()
        return pd.Series(last.reindex(index).to_numpy(dtype=float), index=frame.index[operations])

    rows = frame[operations]
    synchronous, asynchronous = rows["operation"] == "sync_run", rows["operation"] == "async_run"
    service = on_operations(answered[answered["kind"] == "run"], "service_time_ms").where(synchronous)
    whole = ((rows["end"] - rows["start"]) / 1e6).where(asynchronous)
    submits = answered[answered["kind"] == "submit"]
    seen_pending = answered[(answered["kind"] == "poll") & ~answered["job_state"].isin(_TERMINAL)]
    pending = on_operations(seen_pending, "start").fillna(on_operations(submits, "start"))
    frame["overhead_ms"] = service.fillna(whole) - rows["execution_time_ms"]
    frame["submit_ms"] = on_operations(submits, "service_time_ms").where(asynchronous)
    frame["time_to_result_ms"] = rows["response_time_ms"].where(asynchronous)
    lower = (pending - rows["intended_start"]) / 1e6
    frame["time_to_result_lower_ms"] = lower.clip(lower=0.0).where(asynchronous)
    return frame

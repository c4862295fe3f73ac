"""A run's record as a DataFrame, with the columns that every figure is made from.

Times in the record are ns since the epoch; what is derived here is in ms.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pandas as pd

from loadtest import runfile, samples
from loadtest.analysis.lifecycle import add_request_columns
from loadtest.plan import Belief, believed
from loadtest.runfile import RunInfo, StagePlan

LIMIT_OF_KIND: Final = {"run": "sync_run", "submit": "async_submit", "poll": "retrieval", "retrieve": "retrieval"}
LIMIT_OF_OPERATION: Final = {"sync_run": "sync_run", "async_run": "async_submit", "retrieval": "retrieval"}
"""The limit that an operation's first request draws on."""

_TIMES: Final = ("intended_start", "user_free", "start", "first_byte", "end")


@dataclass(frozen=True)
class Record:
    """A run's record, read: ``info`` is run.json, ``frame`` every sample with its derived columns."""

    directory: Path
    info: RunInfo
    frame: pd.DataFrame

    @cached_property
    def operations(self) -> pd.DataFrame:
        """Operation rows that are in figures: all but the warm-up's."""
        return self.frame[(self.frame["row"] == "operation") & self.frame["in_figures"]]

    @cached_property
    def requests(self) -> pd.DataFrame:
        """Request rows that were sent and are in figures: all but those of set-up and warm-up."""
        return self.sent_requests[self.sent_requests["in_figures"]]

    @cached_property
    def sent_requests(self) -> pd.DataFrame:
        """Every request row that was sent, set-up and warm-up included, since they spend quota too."""
        return self.frame[(self.frame["row"] == "request") & self.frame["start"].notna()]

    @cached_property
    def covered_s(self) -> float:
        """Seconds from the epoch that the record covers: the schedule, or what came before it was cut short."""
        planned = max((s.start_s + s.duration_s for t in self.info.traffic.values() for s in t.stages), default=0.0)
        if self.info.end == "finished":
            return planned
        if self.info.elapsed_s is not None:
            return min(planned, self.info.elapsed_s)
        # Killed: the last thing that the record knows to have happened.
        last = self.frame[["start", "end"]].max().max()
        return 0.0 if pd.isna(last) else min(planned, float(last) / 1e9)

    @cached_property
    def belief(self) -> Belief:
        """What was believed of the limits; where that is unknown here, what holds of documented ones."""
        try:
            return believed(self.info.target)
        except ValueError:
            documented = msgspec.structs.replace(
                self.info.target, limiter="fixed-window", burst=None, count_rejected=False, limit_scope="key-and-name"
            )
            return believed(documented)

    def on_limit(self, limit: str) -> pd.DataFrame:
        """Every request that was sent and drew on a limit; ``all`` is that of all requests."""
        return self.sent_requests[self.sent_requests["limit"].isin(self.belief.together(limit))]

    def limits(self) -> list[str]:
        """The limits that are believed to be in force and were asked anything, as ``on_limit`` takes them."""
        names = dict.fromkeys(self.belief.drawn_on(name) for name in self.belief.limits)
        return [name for name in names if len(self.on_limit(name))]

    def quotas_on(self, limit: str) -> int:
        """How many quotas a limit had: one for each key that was used on it, unless keys share it."""
        return self.belief.quotas(max(1, int(self.on_limit(limit)["key_index"].nunique())))

    def stages(self, *, traffic: str | None = None, operation: str | None = None) -> list[tuple[str, StagePlan]]:
        """Stages that are in figures, as (traffic, stage), in order of the scenario."""
        return [
            (name, stage)
            for name, plan in self.info.traffic.items()
            if traffic in (None, name) and operation in (None, plan.operation)
            for stage in plan.stages
            if not stage.warmup
        ]


def load_record(directory: Path) -> Record:
    """Read a run directory.

    Raises:
        RecordError: if it cannot be read as a record.
    """
    info = runfile.load(directory)
    table = samples.read_table(directory)
    return Record(directory, info, _derive(table.to_pandas(), info))


def read(run: str | Path, reports: Path = Path("reports")) -> pd.DataFrame:
    """Read a run's samples, one row for each operation and each request, with derived columns.

    Beside the columns of ``loadtest.samples.Sample`` there are ``limit`` (the limit name that it draws on),
    ``warmup``, ``in_figures`` (whether its stage is one that is judged: neither warm-up nor the set-up before the
    epoch), ``second`` (of the intended start), and in ms ``response_time_ms``, ``dispatch_lag_ms``,
    ``overhead_ms``, ``submit_ms``, ``time_to_result_ms``, ``time_to_result_lower_ms`` (operations),
    ``service_time_ms`` (requests) and ``start_lag_ms`` (both).

    Args:
        run: a run directory, a run's id, or ``latest``.
        reports: where ids are looked up.

    Raises:
        InputError: if there is no such run.
        RecordError: if it cannot be read as a record.
    """
    return load_record(runfile.find_run(str(run), reports)).frame


def _derive(frame: pd.DataFrame, info: RunInfo) -> pd.DataFrame:
    """Add the derived columns. Null times become NaN: 2^53 ns is 104 days, so nothing is lost."""
    for name in (*_TIMES, "arrival", "parent_arrival", "status", "poll", "attempt", "key_index"):
        frame[name] = frame[name].astype("float64")
    frame["execution_time_ms"] = frame["execution_time_ms"].astype("float64")
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
    return add_request_columns(frame)

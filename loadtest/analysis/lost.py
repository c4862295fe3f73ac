"""Arrivals that were offered and left no operation row: each is put into the stage that it belongs to."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from loadtest.analysis.frame import Record


@dataclass(frozen=True, slots=True)
class Missing:
    """How many arrivals of a stage have no operation row."""

    traffic: str
    stage: str
    count: int


def find_missing(record: Record) -> list[Missing]:
    """Arrivals without an operation row, the warm-up's left out.

    Of a run that ended, those are the numbers below ``offered`` that have no row. Of a killed one, whose ``offered``
    nobody wrote down, the arrivals that requests name but that never got an outcome. Arrivals are numbered in the
    order of their intended starts, so that a missing one belongs to the stage of its neighbours.
    """
    missing = []
    rows = record.frame
    for name, plan in record.info.traffic.items():
        mine = rows[rows["traffic"] == name]
        operations = mine[mine["row"] == "operation"]
        named = mine.loc[mine["row"] == "request", ["parent_arrival", "stage"]].drop_duplicates("parent_arrival")
        seen = operations["arrival"]
        offered = named["parent_arrival"] if plan.offered is None else pd.Series(np.arange(plan.offered, dtype=float))
        absent = np.setdiff1d(offered.dropna().to_numpy(), seen.dropna().to_numpy())
        known = pd.concat([operations[["arrival", "stage"]], named.set_axis(["arrival", "stage"], axis=1)])
        stages = _stages_of(absent, known, [stage.name for stage in plan.stages])
        figures = [stage.name for stage in plan.stages if not stage.warmup]
        missing += [Missing(name, stage, stages.count(stage)) for stage in figures if stage in stages]
    return missing


def _stages_of(absent: np.ndarray, known: pd.DataFrame, planned: list[str]) -> list[str]:
    """The stage of each absent arrival: that of the nearest known arrival before it, else after it."""
    ordered = known.dropna(subset="arrival").sort_values("arrival")
    if not len(ordered):
        return [planned[-1]] * len(absent) if planned else []
    after = np.searchsorted(ordered["arrival"].to_numpy(), absent, side="right")
    names = ordered["stage"].tolist()
    return [names[max(0, position - 1)] for position in after.tolist()]

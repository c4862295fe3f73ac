"""A scenario that repeats the traffic of a run, at the run's rates or at the recorded times."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import tomlkit
from numpy.typing import NDArray
from pyarrow import compute
from tomlkit.items import InlineTable

from loadtest.arrays import Floats
from loadtest.contract import DOCUMENTED, JOB_OPERATIONS, POLLED_OPERATIONS, Operation
from loadtest.errors import InputError
from loadtest.record import run_directory
from loadtest.record.effective_scenario import written_entry
from loadtest.record.run_info import RunInfo, TrafficPlan
from loadtest.record.samples import SETUP, read_batches
from loadtest.scenario import FOLDER, WARMUP, Scenario
from loadtest.units import MAX_DURATION

NAME: Final = "from-run"
_ROW: Final = [("at", np.float64), ("key", np.int64)]
_SHORTEST_S: Final = 60.0
"""A log is divided into stages of at least this many seconds, unless it is shorter."""
_PARTS: Final = 6
"""A log is divided into at most this many stages."""
_MOST_KEYS: Final = 1000
_HEAD: Final = """\
#:schema scenario.schema.json
# The traffic of {run}: its operations and rates.
# Its workflows and parameters are {known}.
"""
_POLLS: Final = "a log cannot distinguish polls from retrievals: remove this entry if the jobs' own polls are enough"


def from_run(run: str, *, recorded: bool) -> dict[Path, str]:
    """Return the files of a scenario that repeats a run, by their paths below the project's folder.

    The operations start at the run's rates. If ``recorded``, they start at their recorded times.

    Raises:
        InputError: if there is no such run, it sent nothing, or it is too long.
        RecordError: if the run cannot be read.
    """
    directory = run_directory.find_run(run)
    info = run_directory.load(directory)
    starts = {name: found for name, found in _starts(directory).items() if name in info.traffic}
    if not starts:
        raise InputError(f"{info.id} sent nothing", "Give another run.")
    begin, end = _span(info)
    if (longest := (end - begin) / (_PARTS if info.imported and not recorded else 1)) > MAX_DURATION:
        raise InputError(
            f"{info.id} would need a stage of {longest / 86400:.0f} days; a stage lasts at most a week",
            "Import fewer logs, and give the new run.",
        )
    files = {name: f"{NAME}.{name}.txt" for name in starts} if recorded else {}
    shown: dict[str, Any] = {
        "title": f"How are the requests of {info.id} answered now?",
        "traffic": {name: _entry(info, name, starts[name], files.get(name)) for name in info.traffic if name in starts},
        "target": _target(info),
    }
    text = tomlkit.dumps(shown)
    Scenario.model_validate(tomlkit.loads(text).unwrap())
    if info.imported and {*POLLED_OPERATIONS, *JOB_OPERATIONS} <= {plan.operation for plan in info.traffic.values()}:
        text = text.replace(f"[traffic.{Operation.RETRIEVAL}]", f"# {_POLLS}\n[traffic.{Operation.RETRIEVAL}]")
    known = "examples, because a log has none: change them" if info.imported else "the run's"
    lines = {
        FOLDER / file: "".join(f"{at - begin:.6f} {key}\n" for at, key in starts[name].tolist())
        for name, file in files.items()
    }
    return {FOLDER / f"{NAME}.toml": _HEAD.format(run=info.id, known=known) + text, **lines}


def _span(info: RunInfo) -> tuple[float, float]:
    """Return the start of the first stage and the end of the last, in s since the epoch. The warm-up is left out."""
    stages = [stage for plan in info.traffic.values() for stage in plan.stages if not stage.warmup]
    return min(stage.start_s for stage in stages), max(stage.end_s for stage in stages)


def _starts(directory: Path) -> dict[str, NDArray[Any]]:
    """Return the operations of each entry in order of time, with intended start (in s since the epoch) and key index.

    If the record lacks an intended start, the actual start replaces it.
    """
    found: dict[str, list[NDArray[Any]]] = {}
    for batch in read_batches(directory):
        row, traffic, stage = (
            batch.column(name).cast("string").to_numpy(zero_copy_only=False) for name in ("row", "traffic", "stage")
        )
        chosen = (row == "operation") & (stage != SETUP) & (stage != WARMUP)
        for name in sorted(set(traffic[chosen].tolist())):
            own = batch.filter(pa.array(chosen & (traffic == name)))
            due = compute.coalesce(own.column("intended_start"), own.column("start"))
            keys = own.column("key_index").fill_null(0).cast(pa.int64())
            rows = np.empty(len(own), _ROW)
            rows["at"], rows["key"] = due.fill_null(-1).to_numpy(zero_copy_only=False) / 1e9, keys.to_numpy()
            found.setdefault(name, []).append(rows[rows["at"] >= 0])
    return {name: np.sort(rows, order="at") for name, parts in found.items() if len(rows := np.concatenate(parts))}


def _entry(info: RunInfo, name: str, starts: NDArray[Any], file: str | None) -> dict[str, Any]:
    plan, written = info.traffic[name], written_entry(info, name)
    workflow = plan.workflow or ("sleep" if info.imported else written.workflow)
    parameters = {"distribution": "lognormal", "median_ms": 250, "sigma": 0.4} if info.imported else written.parameters
    executes = plan.operation not in JOB_OPERATIONS
    entry: dict[str, Any] = {"operation": str(plan.operation)}
    entry |= {"workflow": workflow} if workflow else {}
    entry |= {"parameters": _inline(parameters)} if parameters and executes else {}
    entry |= {"arrivals": "poisson"} if info.imported and file is None else {}
    stages, (begin, end) = tomlkit.array(), _span(info)
    recorded = [{"name": "recorded", "recorded": file, "duration": f"{math.floor(end - begin) + 1}s"}]
    for stage in recorded if file else _stages(info, plan, starts["at"]):
        stages.add_line(_inline(stage))
    stages.add_line(indent="")
    return {**entry, "stages": stages}


def _inline(values: dict[str, Any]) -> InlineTable:
    table = tomlkit.inline_table()
    table.update(values)
    return table


def _stages(info: RunInfo, plan: TrafficPlan, starts: Floats) -> list[dict[str, str]]:
    """Return the stages of a run with their measured rates. A log is divided into equal stages."""
    own = [(stage.name, stage.start_s, stage.end_s) for stage in plan.stages if not stage.warmup]
    if info.imported:
        begin, end = own[0][1], own[-1][2]
        edges = np.linspace(begin, end, int(np.clip((end - begin) / _SHORTEST_S, 1, _PARTS)) + 1).tolist()
        own = [(f"log-{number}", *part) for number, part in enumerate(pairwise(edges), 1)]
    return [
        {
            "name": name,
            "rate": f"{_positional(float(np.searchsorted(starts, (begin, end)) @ (-1, 1)) / (end - begin))}/s",
            "duration": f"{_positional(end - begin)}s",
        }
        for name, begin, end in own
    ]


def _positional(value: float) -> str:
    return np.format_float_positional(value, precision=6, unique=False, fractional=False, trim="-")


def _target(info: RunInfo) -> dict[str, Any]:
    """Return settings of the embedded target: the number of keys, and limits that differ from the documentation."""
    limits = {
        str(name): str(limit)
        for name, limit in info.target.limits.items()
        if limit != DOCUMENTED.get(name)  # type: ignore[call-overload] # any name may be looked up
    }
    return {"keys": min(max(1, info.keys), _MOST_KEYS), **({"enforce": limits} if limits else {})}

"""Real blocks for ``regression_power.py``. Collects them, reduces them to a table, and reads this table.

A session is one reference API with high limits, and one load process. Its stages are the blocks, in pairs of random
order (base, head, head, base or the reverse). Both sides are the same service, so blocks differ only by noise. Each
entry sleeps for a constant or a lognormal time, which the server draws. The entry ``variant`` is like ``second`` but
takes longer. It gives blocks with a real slow-down of one entry.
``python bench/regression_power.py --collect FOLDER`` makes new blocks, in about 80 minutes, three sessions at a time.
"""

import csv
import lzma
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pandas as pd
from exchanging import NO_LIMITS, SERVE, started
from offering import offered, quantile

from loadtest import analysis

DATA: Final = Path(__file__).parent / "data" / "regression-blocks.csv.xz"
PAIRS, BLOCK_S = 12, 5
"""The first pair of each session is discarded: 19 sessions × 11 = 209 blocks a side."""
SEED: Final = 11
ENTRIES: Final = {"first": 40, "second": 60, "third": 90, "fourth": 120, "fifth": 180}
"""Median of each entry's workflow, in ms."""
VARIANT: Final = "variant"


class Regime(NamedTuple):
    """The load of a regime's blocks.

    Attributes:
        rate: arrivals a second of each entry.
        sigma: standard deviation of the logarithm of lognormal times; 0 for a constant time.
        slower: time of ``variant`` ÷ time of ``second``.
        sessions: number of sessions.
    """

    rate: int
    sigma: float
    slower: float
    sessions: int


REGIMES: Final = {
    "constant": Regime(rate=16, sigma=0.0, slower=1.1, sessions=19),
    "narrow": Regime(rate=8, sigma=0.2, slower=1.1, sessions=38),
    "lognormal": Regime(rate=8, sigma=0.4, slower=1.2, sessions=19),
}
"""By theory a median of 40 draws has a standard deviation of 1.25 × sigma ÷ √40: 4 % (narrow) and 8 % (lognormal)."""


class Row(NamedTuple):
    """One entry of one block. Times are in ms. The dispatch lag is that of the whole block."""

    regime: str
    session: int
    pair: int
    side: str
    entry: str
    n: int
    ok: int
    throttled: int
    response_p50: float
    response_p95: float
    execution_p50: float
    execution_p95: float
    overhead_p50: float
    dispatch_lag_p99: float


def scenario(name: str, session: int) -> str:
    """Return the scenario of a session as TOML. Every entry has every block as a stage."""
    regime = REGIMES[name]
    order = random.Random(SEED * 1000 + session)
    names: list[str] = []
    for pair in range(PAIRS):
        sides = ["base", "head"]
        # Every second pair has the reverse order of the pair before: ABBA or BAAB.
        first = order.random() < 0.5 if pair % 2 == 0 else not first  # noqa: F821 -- pair 0 sets it
        names += [f"{side}-{pair:02}" for side in (sides if first else sides[::-1])]
    stages = ",\n".join(
        f'  {{ name = "{stage}", rate = "{regime.rate}/s", duration = "{BLOCK_S}s" }}' for stage in names
    )
    medians = {**ENTRIES, VARIANT: ENTRIES["second"] * regime.slower}
    lines = [f'title = "Blocks"\nseed = {session + 1}\ndrain = "5s"']
    for entry, median in medians.items():
        parameters = (
            f'{{ distribution = "constant", ms = {median:.1f} }}'
            if regime.sigma == 0
            else f'{{ distribution = "lognormal", median_ms = {median:.1f}, sigma = {regime.sigma} }}'
        )
        lines.append(
            f'[traffic.{entry}]\noperation = "sync_run"\nworkflow = "sleep"\nparameters = {parameters}\n'
            f'timeout = "10s"\nstages = [\n{stages},\n]'
        )
    return "\n".join(lines)


def collect_session(name: str, session: int, folder: Path) -> None:
    """Make one session's record in its own folder, unless it exists."""
    place = folder / f"{name}-{session:02}"
    if (place / "done").exists():
        return
    place.mkdir(parents=True, exist_ok=True)
    # Several sessions run at a time, on all cores.
    with started(*SERVE, *NO_LIMITS, pinned=False) as api, offered(scenario(name, session), api.url, place):
        pass
    (place / "done").touch()


def collect(folder: Path) -> None:
    """Make all sessions, each in a process of its own. Sessions of different regimes run at the same time."""

    def one_regime(name: str) -> None:
        for session in range(REGIMES[name].sessions):
            make = f"from regression_blocks import *; collect_session({name!r}, {session}, Path({str(folder)!r}))"
            subprocess.run([sys.executable, "-c", make], check=True, cwd=Path(__file__).parent)
            print(f"{name} {session + 1}/{REGIMES[name].sessions}", flush=True)

    with ThreadPoolExecutor() as pool:
        list(pool.map(one_regime, REGIMES))


def reduce(folder: Path) -> Iterator[Row]:
    """Yield the rows of every record in a folder."""
    for name, regime in REGIMES.items():
        for session in range(regime.sessions):
            place = folder / f"{name}-{session:02}"
            if (place / "done").exists():
                (directory,) = (each for each in place.iterdir() if each.is_dir() and not each.is_symlink())
                yield from _session_rows(name, session, directory)


def _session_rows(name: str, session: int, directory: Path) -> Iterator[Row]:
    samples = analysis.operations(directory)
    lags = samples.groupby("stage", observed=True)["dispatch_lag_ms"].apply(lambda lags: _rank(lags, 0.99))
    for (stage, entry), rows in samples.groupby(["stage", "traffic"], sort=True, observed=True):
        side, pair = stage.split("-")
        ok = rows[rows["outcome"] == "ok"]
        answered = rows[rows["outcome"].isin(["ok", "timed_out"])]
        yield Row(
            regime=name,
            session=session,
            pair=int(pair),
            side=side,
            entry=entry,
            n=len(rows),
            ok=len(ok),
            throttled=int((rows["outcome"] == "throttled").sum()),
            response_p50=_rank(answered["response_time_ms"], 0.5),
            response_p95=_rank(answered["response_time_ms"], 0.95),
            execution_p50=_rank(ok["execution_time_ms"], 0.5),
            execution_p95=_rank(ok["execution_time_ms"], 0.95),
            overhead_p50=_rank(ok["overhead_ms"], 0.5),
            dispatch_lag_p99=lags[stage],
        )


def _rank(values: pd.Series, share: float) -> float:
    return round(quantile(values.tolist(), share), 3)


@cache
def read() -> tuple[Row, ...]:
    """Return the rows that are stored with the bench, without the pair that each session discards."""
    with lzma.open(DATA, "rt", encoding="utf-8", newline="") as file:
        rows = [
            Row(*(kind(text) for kind, text in zip(Row.__annotations__.values(), line, strict=True)))
            for line in list(csv.reader(file))[1:]
        ]
    return tuple(row for row in rows if row.pair > 0)


def write(rows: Iterator[Row]) -> None:
    """Store rows with the bench. The same rows give the same bytes."""
    DATA.parent.mkdir(exist_ok=True)
    with lzma.open(DATA, "wt", encoding="utf-8", newline="", preset=9) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(rows)

"""Families of measurements for ``regression_power.py``: the regimes with their seeds, and how scores are drawn.

A family is what one check looks at: a history, a run and its rerun, or pairs of blocks and the pairs of the rerun. The
regimes and seeds were fixed before the rule was first run on them; ``bench/README.md`` lists them, and a test holds
the two together.
"""

import math
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
ENTRIES: Final = ("first", "second", "third", "fourth", "fifth")
HISTORY_RUNS: Final = 5


class Regime(NamedTuple):
    """What varies from run to run, or from block to block, in simulated families.

    Attributes:
        seed: of its draws.
        sd: standard deviation from run to run (history) or block to block (paired) of each metric's logarithm.
        correlation: between any two metrics of one run or block: the share of variance that all have in common.
        noise: distribution of the draws; ``t3`` is Student's t with 3 degrees of freedom, scaled to the same sd.
        autocorrelation: of successive runs or blocks, first order.
        next_run: whether the rerun of a history is the next run of that series; else it is independent.
        slow: factor by which a slow machine is slower; one run in five meets one.
        controls: whether the CPU loop shows the slow machine.
        se: what each run states as its own standard error, as a share of sd; None for nothing.
        whole: the family has all eight metrics of each entry, not p50 and p95 of the response time alone: executionTime
            moves with the response time, the overhead by itself by as much, goodput by 0.2 %, and there are no errors
            and no 429s.
        runs: of the history, or pairs of blocks.
        drift: by which times grow over the blocks of a paired comparison.
    """

    seed: int
    sd: float
    correlation: float = 0.3
    noise: Literal["normal", "t3"] = "normal"
    autocorrelation: float = 0.0
    next_run: bool = True
    slow: float = 1.0
    controls: bool = True
    se: float | None = None
    whole: bool = False
    runs: int = HISTORY_RUNS
    drift: float = 0.0

    @property
    def total_sd(self) -> float:
        """The standard deviation from run to run with the slow machines: of a mixture, one run in five."""
        return math.hypot(self.sd, math.sqrt(0.2 * 0.8) * math.log(self.slow))

    @property
    def metrics(self) -> int:
        """Figures that are drawn for each run: p50 and p95 of each entry; for ``whole`` overhead and goodput, too."""
        return (4 if self.whole else 2) * len(ENTRIES)


_SDS: Final = (0.015, 0.03, 0.05, 0.15)
HISTORY: Final = {
    **{
        f"h{1 + 3 * i + j:02}": Regime(1101 + 3 * i + j, sd, correlation=correlation)
        for i, sd in enumerate(_SDS)
        for j, correlation in enumerate((0.0, 0.3, 0.6))
    },
    **{f"h{13 + i}": Regime(1113 + i, sd, noise="t3") for i, sd in enumerate(_SDS)},
    "h17": Regime(1117, 0.03, autocorrelation=0.5),
    "h18": Regime(1118, 0.05, autocorrelation=0.5),
    "h19": Regime(1119, 0.03, slow=1.2),
    "h20": Regime(1120, 0.03, slow=1.2, controls=False),
    "h21": Regime(1121, 0.03, whole=True),
    "h22": Regime(1122, 0.15, se=0.2),
    "h23": Regime(1123, 0.05, runs=20),
    "h24": Regime(1124, 0.03, autocorrelation=0.5, next_run=False),
    "h25": Regime(1125, 0.05, autocorrelation=0.5, next_run=False),
}
"""History: simulated. h24 and h25 were added after h17 and h18 had been measured."""

PAIRED: Final = {
    **{
        f"p{1 + 2 * i + j:02}": Regime(1201 + 2 * i + j, sd, runs=pairs, drift=0.1)
        for i, sd in enumerate(_SDS)
        for j, pairs in enumerate((6, 10))
    },
    "p09": Regime(1209, 0.03, correlation=0.0, runs=6, drift=0.1),
    "p10": Regime(1210, 0.05, correlation=0.6, runs=10, drift=0.1),
    "p11": Regime(1211, 0.03, noise="t3", runs=6, drift=0.1),
    "p12": Regime(1212, 0.05, noise="t3", runs=10, drift=0.1),
    "p13": Regime(1213, 0.03, autocorrelation=0.5, runs=6, drift=0.1),
    "p14": Regime(1214, 0.05, autocorrelation=0.5, runs=10, drift=0.1),
    "p15": Regime(1215, 0.03, whole=True, runs=6, drift=0.1),
}
"""Paired: simulated."""


class Resampled(NamedTuple):
    """Families drawn from real blocks.

    Attributes:
        seed: of the draws.
        blocks: which blocks: constant, narrow or lognormal.
        runs: of the history, or pairs of blocks.
        most_sd: only of sessions whose blocks vary by at most this; None for all.
    """

    seed: int
    blocks: str
    runs: int
    most_sd: float | None = None


HISTORY_REAL: Final = {
    "hr1": Resampled(1301, "constant", HISTORY_RUNS),
    "hr2": Resampled(1302, "narrow", HISTORY_RUNS),
    "hr3": Resampled(1303, "lognormal", HISTORY_RUNS),
    "hr4": Resampled(1304, "constant", HISTORY_RUNS, most_sd=0.03),
}
"""History: a run is a real block; those of a family are of different sessions."""

PAIRED_REAL: Final = {
    "pr1": Resampled(1401, "constant", 6),
    "pr2": Resampled(1402, "constant", 10),
    "pr3": Resampled(1403, "narrow", 6),
    "pr4": Resampled(1404, "narrow", 10),
    "pr5": Resampled(1405, "lognormal", 6),
    "pr6": Resampled(1406, "lognormal", 10),
    "pr7": Resampled(1407, "constant", 6, most_sd=0.03),
    "pr8": Resampled(1408, "narrow", 10, most_sd=0.05),
}
"""Paired: a pair is a real pair of neighbouring blocks. hr4, pr7 and pr8 were added when blocks were seen to vary more
than their regime does, since the machine was shared: the bars are for blocks of a given sd."""


def rows() -> Iterator[str]:
    """The tables of regimes in ``bench/README.md``."""
    yield "| regime | sd | correlation | noise | what else | seed |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name, regime in {**HISTORY, **PAIRED}.items():
        yield (
            f"| {name} | {100 * regime.sd:g} % | {regime.correlation:g} | {regime.noise} "
            f"| {_else(name, regime)} | {regime.seed} |"
        )
    yield ""
    yield "| regime | blocks | family | seed |"
    yield "| --- | --- | --- | --- |"
    for name, drawn in {**HISTORY_REAL, **PAIRED_REAL}.items():
        size = f"history of {drawn.runs}" if name in HISTORY_REAL else f"{drawn.runs} pairs"
        which = "" if drawn.most_sd is None else f", of sessions with a block sd of at most {100 * drawn.most_sd:g} %"
        yield f"| {name} | {drawn.blocks}{which} | {size} | {drawn.seed} |"


def _else(name: str, regime: Regime) -> str:
    paired = name in PAIRED
    parts = [f"{regime.runs} pairs" if paired else f"history of {regime.runs}"]
    if regime.autocorrelation:
        rerun = "" if paired else ", the rerun is the next run" if regime.next_run else ", the rerun is independent"
        parts.append(f"autocorrelation {regime.autocorrelation:g}{rerun}")
    if regime.slow > 1:
        shown = "shows it" if regime.controls else "does not show it"
        parts.append(f"one run in five on a machine {regime.slow:g} times as slow, the CPU loop {shown}")
    if regime.se is not None:
        parts.append(f"each run states a standard error of {100 * regime.sd * regime.se:g} %")
    if regime.whole:
        parts.append("40 metrics")
    return ", ".join(parts)


def draw(regime: Regime, families: int, paired: bool) -> tuple[Scores, Scores]:
    """Draw a regime's noise.

    Args:
        regime: the regime.
        families: how many.
        paired: whether runs are blocks, in pairs of random order, first session then rerun.

    Returns:
        The logarithms of all times by family, run and metric, with mean 0; and by family and run, by what the machine
        was slower. Of a history: its runs, the run, the rerun. Paired: base and head of each pair by turns, of the
        first session and then of the rerun.
    """
    random = np.random.default_rng(regime.seed)
    runs = 4 * regime.runs if paired else regime.runs + 2
    common = _series(random, regime, (families, runs, 1))
    own = _series(random, regime, (families, runs, regime.metrics))
    noise = regime.sd * (np.sqrt(regime.correlation) * common + np.sqrt(1 - regime.correlation) * own)
    slow = np.where(random.random((families, runs)) < 0.2, np.log(regime.slow), 0.0)
    noise += slow[:, :, None]
    if paired:
        noise += _drift(regime, runs)[None, :, None]
        noise = _order(random, noise)
    return noise, slow


def _series(random: np.random.Generator, regime: Regime, shape: tuple[int, int, int]) -> Scores:
    """Draws of unit variance; successive runs correlate as the regime says."""
    if regime.noise == "normal":
        innovations = random.standard_normal(shape)
    else:
        innovations = random.standard_t(3, shape) / np.sqrt(3.0)
    phi = regime.autocorrelation
    if phi == 0:
        return innovations
    series = innovations.copy()
    for run in range(1, shape[1]):
        series[:, run] = phi * series[:, run - 1] + np.sqrt(1 - phi**2) * innovations[:, run]
    if not regime.next_run:
        series[:, -1] = innovations[:, -1]
    return series


def _drift(regime: Regime, blocks: int) -> Scores:
    """A linear growth over each session."""
    session = np.linspace(0.0, np.log1p(regime.drift), blocks // 2)
    return np.concatenate([session, session])


def _order(random: np.random.Generator, noise: Scores) -> Scores:
    """Give neighbouring blocks to base and head in an order of ABBA or BAAB, drawn for every two pairs."""
    families, blocks, metrics = noise.shape
    pairs = noise.reshape(families, blocks // 2, 2, metrics).copy()
    for at in range(0, blocks // 2, 2):
        reversed_first = random.random(families) < 0.5
        pairs[reversed_first, at] = pairs[reversed_first, at, ::-1]
        if at + 1 < blocks // 2:
            pairs[~reversed_first, at + 1] = pairs[~reversed_first, at + 1, ::-1]
    return pairs.reshape(families, blocks, metrics)

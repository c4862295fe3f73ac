"""Families of measurements for ``regression_power.py``: the regimes with their seeds, and draws of scores.

A family is the input of one check: a history with a run and its rerun, or pairs of blocks. The levels of the rule were
fixed with the seeds below. ``SEEDS`` has two further offsets that fixed no level. ``bench/README.md`` lists the
regimes, and a test compares the two lists.
"""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
ENTRIES: Final = ("first", "second", "third", "fourth", "fifth")
HISTORY_RUNS: Final = 5
MOST_PAIRS: Final = 12
SEEDS: Final = {"own": 0, "second": 10_000, "third": 20_000}
"""Offsets that are added to every regime's seed."""
CORRELATION: Final = 0.3
"""Share of the variance that the metrics of one entry in one run have in common."""
DRIFT: Final = 0.1
"""Growth of times over the blocks of a paired comparison."""
_SPREADS: Final = (1.0, 1.5, 1.0, 1.5, 1.0, 0.05)
"""sd of response time p50 and p95, executionTime p50 and p95, overhead and goodput, as factors of the regime's sd."""
_OUTLIERS: Final = (0.05, 5.0)
"""Share of an entry's runs that are outliers, and the factor of their deviation (Tukey's contaminated normal)."""
_SIGMA: Final = 0.5
"""σ of the lognormal draws. It gives them a skewness of 1.75."""
_SHAPE: Final = 2.0
"""Shape of the skewed (gamma) draws. It gives them a skewness of 1.41."""


class Regime(NamedTuple):
    """The variation from run to run, or from block to block, in simulated families.

    Attributes:
        seed: seed of the draws.
        sd: standard deviation from run to run (history) or block to block (paired) of a p50's logarithm.
        noise: distribution of the draws. Except for outliers, all are scaled to unit variance.
        autocorrelation: first-order autocorrelation of successive runs or blocks. The rerun is the next run.
        runs: number of runs in the history, or maximum number of pairs.
        judged: whether the regime has a bar.
    """

    seed: int
    sd: float
    noise: Literal["normal", "lognormal", "skewed", "outliers"] = "normal"
    autocorrelation: float = 0.0
    runs: int = HISTORY_RUNS
    judged: bool = True

    @property
    def calm(self) -> bool:
        """Whether the stricter bars apply."""
        return self.judged and self.noise == "normal" and not self.autocorrelation and self.sd <= 0.03


def _regimes(letter: str, seed: int, runs: int) -> dict[str, Regime]:
    made = [Regime(0, sd) for sd in (0.015, 0.03, 0.05, 0.15)]
    made += [Regime(0, sd, noise) for noise in ("lognormal", "skewed", "outliers") for sd in (0.03, 0.05)]
    made += [Regime(0, sd, autocorrelation=0.3) for sd in (0.03, 0.05)]
    made += [Regime(0, 0.03, autocorrelation=0.5, judged=False)]
    named = enumerate(made, 1)
    return {f"{letter}{at:02}": regime._replace(seed=seed + at, runs=runs) for at, regime in named}


HISTORY: Final = {
    **_regimes("h", 2100, HISTORY_RUNS),
    "h14": Regime(2114, 0.03, runs=20),
    "h15": Regime(2115, 0.05, "outliers", runs=20),
}
"""Simulated histories."""
PAIRED: Final = _regimes("p", 2200, MOST_PAIRS)
"""Simulated pairs."""


class Resampled(NamedTuple):
    """Families drawn from real blocks.

    Attributes:
        seed: seed of the draws.
        blocks: kind of the blocks: constant, narrow or lognormal.
        runs: number of runs in the history, or maximum number of pairs.
        most_sd: maximum sd of the blocks of a session; None for all sessions.
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
"""Histories of real blocks. A run is a block, and the runs of a family are of different sessions."""
PAIRED_REAL: Final = {
    "pr1": Resampled(1401, "constant", MOST_PAIRS),
    "pr2": Resampled(1402, "narrow", MOST_PAIRS),
    "pr3": Resampled(1403, "lognormal", MOST_PAIRS),
    "pr4": Resampled(1404, "constant", MOST_PAIRS, most_sd=0.03),
    "pr5": Resampled(1405, "narrow", MOST_PAIRS, most_sd=0.05),
}
"""Pairs of real blocks. A pair is two neighbouring blocks."""


def rows() -> Iterator[str]:
    """Yield the tables of regimes in ``bench/README.md``."""
    yield "| regime | sd | noise | what else | seed |"
    yield "| --- | --- | --- | --- | --- |"
    for name, regime in {**HISTORY, **PAIRED}.items():
        parts = [f"at most {regime.runs} pairs" if name in PAIRED else f"history of {regime.runs}"]
        if regime.autocorrelation:
            parts.append(f"autocorrelation {regime.autocorrelation:g}{'' if regime.judged else ', shown only'}")
        yield f"| {name} | {100 * regime.sd:g} % | {regime.noise} | {', '.join(parts)} | {regime.seed} |"
    yield ""
    yield "| regime | blocks | family | seed |"
    yield "| --- | --- | --- | --- |"
    for name, drawn in {**HISTORY_REAL, **PAIRED_REAL}.items():
        size = f"history of {drawn.runs}" if name in HISTORY_REAL else f"at most {drawn.runs} pairs"
        which = "" if drawn.most_sd is None else f", of sessions with a block sd of at most {100 * drawn.most_sd:g} %"
        yield f"| {name} | {drawn.blocks}{which} | {size} | {drawn.seed} |"


def draw(regime: Regime, families: int, paired: bool, offset: int = 0) -> Scores:
    """Draw a regime's noise.

    Args:
        regime: the regime.
        families: number of families.
        paired: whether runs are blocks, in pairs of random order.
        offset: added to the seed.

    Returns:
        The logarithms of all metrics by family, run, entry and metric, with mean 0. A history has its runs, the new run
        and the rerun. Pairs have base and head in turns.
    """
    random = np.random.default_rng(regime.seed + offset)
    shape = (families, 2 * regime.runs if paired else regime.runs + 2, len(ENTRIES))
    own, common = (_draws(random, regime, (*shape, count)) for count in (len(_SPREADS), 1))
    noise = np.sqrt(1 - CORRELATION) * own + np.sqrt(CORRELATION) * common
    if regime.noise == "outliers":
        share, factor = _OUTLIERS
        noise *= np.where(random.random((*shape, 1)) < share, factor, 1.0)
    phi = regime.autocorrelation
    for run in range(1, shape[1] if phi else 0):
        noise[:, run] = phi * noise[:, run - 1] + np.sqrt(1 - phi**2) * noise[:, run]
    noise *= regime.sd * np.array(_SPREADS)
    if paired:
        noise += np.linspace(0.0, np.log1p(DRIFT), shape[1])[None, :, None, None]
        noise = _order(random, noise)
    return noise


def _draws(random: np.random.Generator, regime: Regime, shape: tuple[int, ...]) -> Scores:
    """Return draws with mean 0 and unit variance."""
    if regime.noise == "lognormal":
        square = np.exp(_SIGMA**2)
        return (random.lognormal(0.0, _SIGMA, shape) - np.sqrt(square)) / np.sqrt((square - 1) * square)
    if regime.noise == "skewed":
        return (random.gamma(_SHAPE, size=shape) - _SHAPE) / np.sqrt(_SHAPE)
    return random.standard_normal(shape)


def _order(random: np.random.Generator, noise: Scores) -> Scores:
    """Assign neighbouring blocks to base and head, as ABBA or BAAB. The order is drawn for every two pairs."""
    families, blocks, *rest = noise.shape
    pairs = noise.reshape(families, blocks // 2, 2, *rest).copy()
    for at in range(0, blocks // 2, 2):
        reversed_first = random.random(families) < 0.5
        pairs[reversed_first, at] = pairs[reversed_first, at, ::-1]
        if at + 1 < blocks // 2:
            pairs[~reversed_first, at + 1] = pairs[~reversed_first, at + 1, ::-1]
    return pairs.reshape(noise.shape)

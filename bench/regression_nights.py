"""Nightly checks of simulated histories: gains that are lost again, unchanged nights, and rare errors.

``bench/README.md`` has the results. Each night makes a run and judges it by the real rule. A suspected run is repeated.
The night then adds the lines that ``loadtest regression check`` would add. Run: ``python bench/regression_nights.py``.
The bars: a lost gain is confirmed in 98 % of families with normal noise, a period begins in at most 0.5 % of unchanged
nights, and rare errors raise at most 3 % false alarms. The command fails if a bar is missed.

Short form: 20 families, and gains that are lost after 2 and 5 nights.
"""

import sys
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import msgspec
import numpy as np
from forms import Options, judged_share
from regression_checks import simulated_run
from regression_families import ENTRIES, Regime, draw

from loadtest.compare.history import IMPROVED_AGAIN, NOT_CONFIRMED, HistoryLine, decision_line, fold, run_line
from loadtest.compare.measurements import Metric, RunMeasurements
from loadtest.compare.rule import improved_again, judge_history
from loadtest.compare.verdict import suspects
from loadtest.stats.shares import share_score

BEFORE: Final = 10
LOST_AFTER: Final = [2, 3, 5, 10, 15]
"""Nights after which the gain is lost again."""
GAIN: Final = 0.8
REGIMES: Final = {
    "normal, sd 3 %": Regime(3101, 0.03),
    "normal, sd 5 %": Regime(3102, 0.05),
    "outliers, sd 3 %": Regime(3103, 0.03, "outliers"),
    "outliers, sd 5 %": Regime(3104, 0.05, "outliers"),
}
ERRORS: Final = (0.05, 0.005, 6000)
"""Share of runs that have errors, share of their operations that fail, and operations of an entry."""


class Night(NamedTuple):
    """The result of one night: whether a regression was confirmed, and whether a baseline period began."""

    regressed: bool
    began: bool


class Nights:
    """A history that grows every night."""

    def __init__(self) -> None:
        self.lines: list[HistoryLine] = []
        self._day = 0

    def check(self, run: RunMeasurements, rerun: RunMeasurements) -> Night:
        """Judge a run as the command does, and add its lines to the history."""
        run, rerun = self._dated(run), self._dated(rerun)
        known = fold(self.lines)
        evidence, noise = known.evidence(run)
        found = judge_history(evidence, run, noise=noise)
        self.lines.append(run_line(run, found.word))
        if keys := suspects(found):
            again = judge_history(evidence, rerun, confirming=keys, noise=noise)
            self.lines.append(run_line(rerun, again.word, confirms=run.run))
            if again.word == "pass":
                self.lines.append(decision_line(run.run, "accepted", NOT_CONFIRMED))
            return Night(again.word == "regressed", began=False)
        began = found.word == "pass" and bool(improved_again(evidence, run)) and not known.decided(evidence[-10:])
        if began:
            self.lines.append(decision_line(evidence[-1].run, "accepted", IMPROVED_AGAIN, new_segment=True))
        return Night(regressed=False, began=began)

    def _dated(self, run: RunMeasurements) -> RunMeasurements:
        self._day += 1
        started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=12 * self._day)
        return msgspec.structs.replace(run, run=f"run-{self._day:03}", started=started.isoformat())


def _with_errors(run: RunMeasurements, random: np.random.Generator) -> RunMeasurements:
    """Draw the error counts of all entries. Most are 0."""
    rare, share, n = ERRORS
    hit = random.random() < rare
    failed = {entry: random.binomial(n, share) if hit else 0 for entry in ENTRIES}
    made = [
        msgspec.structs.replace(one, value=failed[one.traffic] / n, score=share_score(failed[one.traffic], n), n=n)
        if one.metric == Metric.ERROR_RATE
        else one
        for one in run.measurements
    ]
    return msgspec.structs.replace(run, measurements=tuple(made))


def lost_gain(regime: Regime, families: int, nights: int) -> tuple[int, int]:
    """Return the number of families with a confirmed loss, and of those with a period that began too early."""
    total = BEFORE + nights + 1
    scores = draw(regime._replace(runs=2 * total), families, paired=False)
    found = early = 0
    for number, one in enumerate(scores):
        history = Nights()
        for night in range(total):
            fast = BEFORE <= night < BEFORE + nights
            pair = one[2 * night : 2 * night + 2].copy()
            pair[:, :, :4] += np.log(GAIN) if fast else 0.0
            result = history.check(*(simulated_run(each, 0.0, number) for each in pair))
            early += result.began and night < BEFORE
        found += result.regressed
    return found, early


def rare_errors(regime: Regime, families: int, nights: int = 30) -> tuple[int, int]:
    """Return the numbers of false alarms and of checks. 1 run in 20 has 0.5 % errors."""
    random, alarms = np.random.default_rng(regime.seed), 0
    for number, one in enumerate(draw(regime._replace(runs=2 * nights), families, paired=False)):
        history = Nights()
        for night in range(nights):
            pair = (simulated_run(each, 0.0, number) for each in one[2 * night : 2 * night + 2])
            alarms += history.check(*(_with_errors(run, random) for run in pair)).regressed
    return alarms, families * nights


def main() -> int:
    """Print both kinds of checks. Return 1 if a bar is missed."""
    parser = Options(__doc__)
    parser.add_size("--families", 20, 400, "families")
    parser.add_size("--lost-after", [2, 5], LOST_AFTER, "nights")
    options = parser.begin()
    families, held = options.families, True
    for name, regime in REGIMES.items():
        for nights in options.lost_after:
            found, early = lost_gain(regime, families, nights)
            text = f"{name}, lost after {nights} nights"
            if regime.noise == "normal":
                held &= judged_share(f"{text}: confirmed", found, families, "≥", 0.98)
            else:  # an outlier may hide the loss
                print(f"  {text}: confirmed: {found} of {families}")
            held &= judged_share(f"{text}: period before the gain", early, families * BEFORE, "≤", 0.005)
    for name in ("normal, sd 3 %", "outliers, sd 5 %"):
        alarms, checks = rare_errors(REGIMES[name], max(1, families // 10))
        held &= judged_share(f"rare errors, {name}: false alarms", alarms, checks, "≤", 0.03)
    return not held


if __name__ == "__main__":
    sys.exit(main())

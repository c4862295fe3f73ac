"""Other rules on the families of ``regression_power.py``. Each has the threshold that alarms as rarely as ours.

Every rule gives each family and metric a statistic. It grows with the evidence that the new side is slower. A paired
comparison has two sessions, and both must exceed the threshold in the same metric. The same holds for the run and rerun
of a history, if a rule can judge one run. Tests of two samples take run and rerun together.
"""

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from regression_families import Scores
from scipy.special import stdtr

PEERS: Final = Path(__file__).parent / "peers" / "regression_gates.py"
PEER_SHARE: Final = 5
"""Otava and inference-doctor get the first families, 1 in this many, because they take 20 ms for each metric."""


class Statistics(NamedTuple):
    """A rule's statistics.

    Attributes:
        confirmed: statistics by family and metric, with the rerun.
        single: the same for the first session or run alone; empty if the rule cannot judge one run.
        default: the rule's default threshold; None if it has no threshold that applies.
    """

    confirmed: Scores
    single: Scores
    default: float | None


def rivals(base: Scores, head: Scores, paired: bool, python: Path | None) -> dict[str, Statistics]:
    """Return each rule's statistics.

    Args:
        base: logarithms by family, run and metric. Runs are blocks of both sessions if ``paired``.
        head: the same for the head side.
        paired: whether base and head are blocks of two sessions.
        python: an interpreter with apache-otava and inference-doctor. None leaves them out.
    """
    found = {
        "ratio > threshold": _both(base, head, paired, _ratio, np.log(1.10)),
        "Welch": _both(base, head, paired, _welch, 0.95),
        "Mann-Whitney": _both(base, head, paired, _mann_whitney, None),
    }
    base, head = (side[: len(side) // PEER_SHARE] for side in (base, head))
    if python is not None:
        found["Otava 0.8.0"] = _both(base, head, paired, _peer(python, "otava"), 0.999)
        if paired:
            found["inference-doctor 0.4.1"] = _both(base, head, paired, _peer(python, "doctor"), np.log(1.10))
    return found


def threshold(unchanged: Scores, alarms: int) -> float:
    """Return the lowest threshold that at most ``alarms`` families without a change exceed.

    Args:
        unchanged: the strongest statistic of each family without a change.
        alarms: number of false alarms that are allowed.
    """
    strongest = np.sort(unchanged)[::-1]
    return float(strongest[alarms]) if alarms < len(strongest) else -np.inf


Rule = Callable[[Scores, Scores], Scores]
"""Takes base and head by family, run and metric. Returns a statistic by family and metric."""


def _both(base: Scores, head: Scores, paired: bool, rule: Rule, default: float | None) -> Statistics:
    if paired:
        half = base.shape[1] // 2
        first, second = rule(base[:, :half], head[:, :half]), rule(base[:, half:], head[:, half:])
        return Statistics(np.minimum(first, second), first, default)
    if rule is _ratio:
        first, second = (rule(base, head[:, at : at + 1]) for at in range(2))
        return Statistics(np.minimum(first, second), first, default)
    together = rule(base, head)
    return Statistics(together, together, default)


def _ratio(base: Scores, head: Scores) -> Scores:
    """Return the logarithm of the ratio of medians."""
    return np.median(head, axis=1) - np.median(base, axis=1)


def _welch(base: Scores, head: Scores) -> Scores:
    """Return 1 − one-sided p of Welch's t-test (1947)."""
    terms = [side.var(axis=1, ddof=1) / side.shape[1] for side in (base, head)]
    total = terms[0] + terms[1]
    df = total**2 / sum(term**2 / (side.shape[1] - 1) for term, side in zip(terms, (base, head), strict=True))
    return stdtr(df, (head.mean(axis=1) - base.mean(axis=1)) / np.sqrt(total))


def _mann_whitney(base: Scores, head: Scores) -> Scores:
    """Return the share of pairs of a base and a head value in which the head is slower (U ÷ its maximum)."""
    from scipy.stats import rankdata  # noqa: PLC0415 - slow to import, and tests import this file

    ranks = rankdata(np.concatenate([base, head], axis=1), axis=1)
    n, m = base.shape[1], head.shape[1]
    return (ranks[:, n:].sum(axis=1) - m * (m + 1) / 2) / (n * m)


def _peer(python: Path, name: str) -> Rule:
    """Return a rule of a package. It is called in an interpreter that has the package."""

    def ask(base: Scores, head: Scores) -> Scores:
        with tempfile.TemporaryDirectory() as folder:
            given, answer = Path(folder) / "given.npz", Path(folder) / "answer.npy"
            np.savez(given, base=base, head=head)
            subprocess.run([str(python), str(PEERS), name, str(given), str(answer)], check=True)
            return np.load(answer)

    return ask

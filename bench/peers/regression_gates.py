"""Otava and inference-doctor on families of ``regression_power.py``; runs in an interpreter with both.

Usage: ``python regression_gates.py otava|doctor GIVEN.npz ANSWER.npy``. GIVEN has ``base`` and ``head``, logarithms of
times by family, run and metric; ANSWER gets a statistic by family and metric that grows with the evidence that head is
slower.
"""

import sys
from collections.abc import Sequence

import numpy as np
from inference_doctor.stats import welch_log_ratio_interval
from otava.analysis import compute_change_points

LOOSEST = 0.05
"""Maximum p of Otava's change points: the threshold is chosen afterwards."""


def otava(base: Sequence[float], head: Sequence[float]) -> float:
    """1 − p of a change point for the worse where head begins, or one value beside; 0 without one."""
    series, begins = np.exp([*base, *head]), len(base)
    found, _ = compute_change_points(series, window_len=50, max_pvalue=LOOSEST, min_magnitude=0.0)
    worse = [one for one in found if abs(one.index - begins) <= 1 and one.stats.mean_2 > one.stats.mean_1]
    return max((1 - one.stats.pvalue for one in worse), default=0.0)


def doctor(base: Sequence[float], head: Sequence[float]) -> float:
    """Lower limit of its 90 % interval of log(head ÷ base): it fails a change where that exceeds its threshold."""
    return float(np.log(welch_log_ratio_interval(list(np.exp(base)), list(np.exp(head)), 0.90).low))


def main() -> None:
    """Judge every metric of every family."""
    name, given, answer = sys.argv[1:]
    judge = {"otava": otava, "doctor": doctor}[name]
    scores = np.load(given)
    base, head = scores["base"], scores["head"]
    families, _, metrics = base.shape
    np.save(answer, [[judge(base[f, :, m], head[f, :, m]) for m in range(metrics)] for f in range(families)])


if __name__ == "__main__":
    main()

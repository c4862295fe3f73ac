"""Labelled series of ``otava-test-data`` with Otava's change points; runs in an interpreter with both packages.

Usage: ``python regression_series.py``. It writes a JSON list of series to standard output: the name, the values, the
places of the steps, and the places of Otava's change points by its defaults.
"""

import json
import sys

from otava.analysis import compute_change_points
from otava_test_data.generators import advanced, basic

RUNS, SEEDS = 100, 20
PATTERNS = {
    "constant": lambda seed: basic.constant(RUNS, seed=seed),
    "uniform noise": lambda seed: basic.noise_uniform(RUNS, 95, 105, seed=seed),
    "banding": lambda seed: advanced.banding(RUNS, sigma=1, seed=seed),
    "normal noise": lambda seed: basic.noise_normal(RUNS, sigma=3, seed=seed),
    "one outlier": lambda seed: basic.outlier(RUNS, sigma=3, seed=seed),
    "step of 20 %": lambda seed: basic.step_function(RUNS, sigma=3, seed=seed),
    "step of 10 %": lambda seed: basic.step_function(RUNS, value_after=110, sigma=3, seed=seed),
    "regression for ten runs, fixed": lambda seed: basic.regression_fix(RUNS, sigma=3, seed=seed),
    "three steps of 10 %": lambda seed: advanced.multiple_changes(RUNS, sigma=3, seed=seed),
    "other variance from the middle on": lambda seed: advanced.variance_change(RUNS, seed=seed),
}


def main() -> None:
    """Write every pattern with every seed."""
    made = []
    for name, generate in PATTERNS.items():
        for seed in range(SEEDS):
            series = generate(seed)
            values = [float(value) for value in series.data]
            labels = [one.index for one in series.change_points if "outlier" not in one.change_type]
            steps = [] if "variance" in name else labels
            found, _ = compute_change_points(values)
            made.append({"name": name, "values": values, "steps": steps, "otava": [int(one.index) for one in found]})
    json.dump(made, sys.stdout)


if __name__ == "__main__":
    main()

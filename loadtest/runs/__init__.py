"""Runs and series of runs. This room starts targets, loads and reports as processes, and chooses the next run.

This package does not import ``load``, ``preflight`` or ``report``, which run in separate processes.
"""

__all__ = [
    "advise",
    "capacity",
    "comparison",
    "from_run",
    "probe",
    "regression",
    "run",
    "sides",
    "stored",
    "target",
    "ui",
]

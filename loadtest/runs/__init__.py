"""Runs and series of runs: starts targets, loads and reports as processes, and chooses the next run.

It imports neither load, preflight nor report: each is a separate process, and the record is the interface between them.
"""

__all__ = [
    "advise",
    "capacity",
    "comparison",
    "forecast",
    "from_run",
    "imported",
    "probe",
    "regression",
    "run",
    "sides",
    "stored",
    "target",
    "ui",
]

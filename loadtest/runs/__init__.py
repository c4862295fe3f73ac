"""Runs and series of runs. This room starts targets, loads and reports as processes, and chooses the next run.

This package does not import ``load``, ``preflight`` or ``report``. Each is a separate process, and they exchange data
through the record.
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

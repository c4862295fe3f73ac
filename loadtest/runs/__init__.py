"""Runs, and series of runs: what starts targets, loads and reports as processes, and decides which run comes next.

It imports neither the load nor the preflight nor the report: each is a process, and the record is between them.
"""

__all__ = ["capacity", "comparison", "forecast", "probe", "regression", "run", "sides", "stored", "target", "ui"]

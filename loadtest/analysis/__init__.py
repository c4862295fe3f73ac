"""The analysis of a record: figures, validity, expected 429s and verdict.

In a notebook, ``loadtest.analysis.operations("latest")`` and ``requests`` return the rows of the record, and
``metrics`` returns the figures. ``docs/notebooks.md`` has examples.
"""

from loadtest.analysis.findings import metrics_table as metrics
from loadtest.analysis.findings import understand
from loadtest.analysis.frames import operations, requests
from loadtest.analysis.run_record import Record, load_record

__all__ = [
    "Record",
    "anomalies",
    "answers",
    "columns",
    "counts",
    "distribution",
    "findings",
    "intervals",
    "load_record",
    "measurements",
    "metrics",
    "operations",
    "rejections",
    "requests",
    "results",
    "run_record",
    "timelines",
    "times",
    "understand",
    "validity",
    "verdict",
]

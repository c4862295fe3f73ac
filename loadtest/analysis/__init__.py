"""Understanding a record: record, figures, validity, expected 429s, verdict.

A notebook's lines are ``loadtest.analysis.read("latest")``, every sample, and ``loadtest.analysis.metrics("latest")``,
every figure; ``docs/notebooks.md`` has more.
"""

from loadtest.analysis.notebook import metrics, read, understand
from loadtest.analysis.record import Record, load_record

__all__ = ["Record", "load_record", "metrics", "read", "understand"]

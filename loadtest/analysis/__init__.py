"""Understanding a record: record, figures, validity, expected 429s, verdict.

A notebook's one line is ``loadtest.analysis.read("latest")``.
"""

from loadtest.analysis.frame import read
from loadtest.analysis.record import Record, load_record

__all__ = ["Record", "load_record", "read"]

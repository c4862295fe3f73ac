"""Understanding a record: frame, figures, validity, expected 429s, verdict.

A notebook's one line is ``loadtest.analysis.read("latest")``.
"""

from loadtest.analysis.frame import Record, load_record, read

__all__ = ["Record", "load_record", "read"]

"""Import of access logs and HAR files as the record of a run."""

__all__ = ["importing"]

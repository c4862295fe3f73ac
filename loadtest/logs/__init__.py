"""Logs of other programs as a record: access logs and HAR files, line by line to requests of the API's operations."""

__all__ = ["importing"]

"""Import of other programs' logs as a record: access logs and HAR files, whose lines become requests of the API."""

__all__ = ["importing"]

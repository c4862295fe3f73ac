"""Import of other programs' logs, access logs and HAR files, as a record of the API's requests in them."""

__all__ = ["importing"]

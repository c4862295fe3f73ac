"""Active experiments that identify the limiter a service enforces. Pure: the caller passes times and sends requests."""

__all__ = ["evidence", "probe", "results"]

"""Active experiments that identify the limiter a service enforces. Pure: the caller passes times and sends."""

__all__ = ["evidence", "probe", "results"]

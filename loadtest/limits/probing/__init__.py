"""Active experiments that tell which limiter a service enforces: pure, over times that are given."""

__all__ = ["evidence", "probe", "results"]

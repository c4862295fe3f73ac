"""Search for the capacity of a service and its bottleneck. Models guess each constraint, and a few runs confirm it."""

__all__ = ["results", "search", "sentences"]
